"""What differs between two states, leaf by leaf; leaves with equal digests are never read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from stockroom.content.nodes import StridedLeaf
from stockroom.shelves.model.difference import TensorDifference, measure_difference
from stockroom.shelves.model.leaf_info import LeafInfo
from stockroom.shelves.model.real_numbers import is_measurable
from stockroom.shelves.model.state import State


@dataclass(frozen=True, slots=True)
class LeafDifference:
    """One leaf that differs.

    `kind` is `changed` for other values, `dtype` or `shape` where those are others and values cannot be compared.
    `difference` says by how much a tensor changed, None where its dtype has no numbers; `values` are those of a Python
    scalar, before and after.
    """

    path: str
    kind: Literal["added", "removed", "changed", "dtype", "shape"]
    old: LeafInfo | None
    new: LeafInfo | None
    difference: TensorDifference | None = None
    values: tuple[Any, Any] | None = None


def iter_differences(old: State | None, new: State) -> Iterator[LeafDifference]:
    """The leaves that differ, in the order of `new`, then those it lacks; each read as it comes, a piece at a time.

    Without an old state every leaf is added.
    """
    before = {} if old is None else {leaf.path: leaf for leaf in old.leaves()}
    for leaf in new.leaves():
        other = before.pop(leaf.path, None)
        if old is None or other is None:
            yield LeafDifference(leaf.path, "added", None, leaf)
        elif _identify(other) != _identify(leaf):
            yield _compare(old, new, other, leaf)
        elif _find_view(old, leaf.path) != _find_view(new, leaf.path):
            found = _compare(old, new, other, leaf)
            if found.difference is None or found.difference.changed:
                yield found
    for leaf in before.values():
        yield LeafDifference(leaf.path, "removed", leaf, None)


def _identify(leaf: LeafInfo) -> tuple[object, ...]:
    """What tells a leaf's value from others, but for how it lies in memory."""
    return leaf.dtype, leaf.library == "python", leaf.shape, leaf.digest


def _find_view(state: State, path: str) -> tuple[object, ...] | None:
    """How a tensor lies in memory that it shares, which its digest does not tell."""
    form = state.find_form(path)
    return (form.strides, form.offset) if isinstance(form, StridedLeaf) else None


def _compare(old_state: State, new_state: State, old: LeafInfo, new: LeafInfo) -> LeafDifference:
    path = new.path
    if _identify(old)[:2] != _identify(new)[:2]:
        return LeafDifference(path, "dtype", old, new)
    if old.shape != new.shape:
        return LeafDifference(path, "shape", old, new)
    if new.library == "python":
        return LeafDifference(path, "changed", old, new, values=(old_state.read(path), new_state.read(path)))
    if not is_measurable(new):
        return LeafDifference(path, "changed", old, new)
    pieces = old_state.iter_pieces(path), new_state.iter_pieces(path)
    return LeafDifference(path, "changed", old, new, measure_difference(*pieces, new.dtype))
