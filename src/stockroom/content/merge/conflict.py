"""Conflicts as values: the disagreements between two lines of history, and the decisions about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from stockroom.errors import ConflictError, MergeConflictError
from stockroom.trees import Key

Side: TypeAlias = Literal["ours", "theirs"]
Choice: TypeAlias = Literal["ours", "theirs", "average"]
CHOICES: Final[tuple[Choice, ...]] = ("ours", "theirs", "average")

ADDED: Final = "both added"
CHANGED: Final = "both changed"
DELETED_BY_US: Final = "deleted by us, changed by them"
DELETED_BY_THEM: Final = "changed by us, deleted by them"
SCHEMA: Final = "schema"
ATTRS: Final = "attrs"
METADATA: Final = "metadata"
STRUCTURE: Final = "structure"
NAME: Final = "name"


@dataclass(frozen=True, slots=True)
class Conflict:
    """One thing that both sides changed in different ways.

    Attributes:
        path: such as `data/label`, `model/resnet`, `experiment/lr`, `metric/loss`.
        key: the sample's key, the leaf's path or the step; None for the whole. For an attribute, `attrs` and its name;
            for a model's metadata, `metadata` and the name.
        kind: in words: "both added", "both changed", "deleted by us, changed by them", "changed by us, deleted by
            them", "schema" (two schemas of one column), "attrs", "metadata", "structure" (of a model, if ties and
            shared memory do not fit together), "name" (of a column that they added, if it collides with one of ours).
        base, ours, theirs: hex digest of each side's version, or None.
    """

    path: str
    key: Key | None
    kind: str
    base: str | None = None
    ours: str | None = None
    theirs: str | None = None


Decide: TypeAlias = Callable[[Conflict], Sequence[Choice]]
"""Returns the choices for a conflict; the first one that applies decides it. An empty sequence leaves it open."""


def decide_nothing(_: Conflict) -> tuple[Choice, ...]:
    """Leave every conflict open."""
    return ()


@dataclass(slots=True)
class Arbiter:
    """Applies decisions to conflicts, and collects the undecided ones."""

    decide: Decide
    conflicts: list[Conflict] = field(default_factory=list)

    def choose(self, conflict: Conflict) -> Side | None:
        """Return the side that a conflict is decided for, or None if it is left open."""
        for choice in self.decide(conflict):
            if choice != "average":
                return choice
        self.conflicts.append(conflict)
        return None


def name_kind(base: object, ours: object, theirs: object) -> str:
    """Return the kind of a conflict between three values; None is an absent value."""
    if ours is None:
        return DELETED_BY_US
    if theirs is None:
        return DELETED_BY_THEM
    return ADDED if base is None else CHANGED


_ADVICE: Final = (
    "Choose a side (strategy `ours` or `theirs`, or -X theirs=PATH), or use --no-commit and `stock resolve`"
)


def explain_conflicts(conflicts: Sequence[Conflict], kind: str, *, advice: str = _ADVICE) -> MergeConflictError:
    """Return the error for undecided conflicts."""
    return MergeConflictError(f"{kind}: {_sum_up(conflicts)}; nothing was changed. {advice}", conflicts=conflicts)


def explain_open(conflicts: Sequence[Conflict], kind: str) -> MergeConflictError:
    """Return the error for an unfinished merge that cannot be committed yet."""
    return MergeConflictError(
        f"{kind} in progress: {_sum_up(conflicts)}; decide with `stock resolve`, or abort with `stock merge --abort`",
        conflicts=conflicts,
    )


def explain_kept(error: ConflictError, way_on: str) -> ConflictError:
    """Return the error for a commit that was refused at the end of a block; `way_on` says where its changes are."""
    if isinstance(error, MergeConflictError):
        conflicts = [conflict for conflict in error.conflicts if isinstance(conflict, Conflict)]
        return MergeConflictError(f"commit: {_sum_up(conflicts)}; {way_on}", conflicts=conflicts)
    return type(error)(f"{error}; {way_on}")


def _sum_up(conflicts: Sequence[Conflict]) -> str:
    first = conflicts[0]
    where = first.path if first.key is None else f"{first.path}, {first.key!r}"
    rest = f", and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
    return f"{len(conflicts)} conflict{'s' if rest else ''}: {where} ({first.kind}){rest}"
