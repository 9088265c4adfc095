"""Models and their leaves for people and programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from stockroom.cli.render.column import format_shape
from stockroom.cli.render.commit import SHORT_DIGITS
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_headed_lines
from stockroom.cli.render.units import format_nbytes

if TYPE_CHECKING:
    from stockroom import LeafInfo, State

_HEADINGS = ("name", "dtype", "shape", "size", "digest", "tied to", "since parent")


def model_document(state: State) -> dict[str, object]:
    """Return a model's name, size and metadata as JSON."""
    return {"name": state.name, "leaves": len(state.paths()), "nbytes": state.nbytes, "metadata": dict(state.metadata)}


def model_cells(state: State) -> tuple[str, str, str]:
    """Return a model as the cells of a table: leaves, bytes, metadata."""
    return format_count_of_leaves(len(state.paths())), format_nbytes(state.nbytes), format_metadata(state.metadata)


def format_count_of_leaves(count: int) -> str:
    """Return `1 leaf`, `62 leaves`."""
    return "1 leaf" if count == 1 else f"{count} leaves"


def format_metadata(metadata: Mapping[str, object]) -> str:
    """Return `epoch=3 acc=0.91`."""
    return " ".join(f"{name}={_format_plain(value)}" for name, value in metadata.items())


def leaf_document(leaf: LeafInfo, change: str | None) -> dict[str, object]:
    """Return a leaf as JSON; `change` is its change since the parent commit."""
    return {
        "path": leaf.path,
        "dtype": leaf.dtype,
        "shape": list(leaf.shape),
        "nbytes": leaf.nbytes,
        "digest": leaf.digest,
        "tied_to": leaf.tied_to,
        "change": change,
    }


def iter_leaf_lines(leaves: Sequence[LeafInfo], changes: Mapping[str, str]) -> Iterator[str]:
    """Yield a table of leaves, with `changes` by path."""
    rows = [
        (
            format_key(leaf.path or "(all)"),
            leaf.dtype,
            format_shape(leaf.shape),
            format_nbytes(leaf.nbytes),
            leaf.digest[:SHORT_DIGITS],
            format_key(leaf.tied_to) if leaf.tied_to else "",
            changes.get(leaf.path, ""),
        )
        for leaf in leaves
    ]
    yield from iter_headed_lines(_HEADINGS, rows)


def _format_plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
