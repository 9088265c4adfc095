"""Conflicts as values: what two lines of history disagree about, and who may decide it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from stockroom.errors import MergeConflictError
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
    """One thing that both sides changed, and not alike.

    Attributes:
        path: as `data/label`, `model/resnet`, `experiment/lr`, `metric/loss`.
        key: the sample's key, the leaf's path or the step; None for what is there as a whole. Of an attribute `attrs`
            and its name, of a model's metadata `metadata` and its name.
        kind: in words: "both added", "both changed", "deleted by us, changed by them", "changed by us, deleted by
            them", "schema" (two schemas of one column), "attrs", "metadata", "structure" (of a model, whose ties and
            shared memory do not fit together), "name" (of a column that they added, which does not go with that of one
            of ours).
        base, ours, theirs: hex digests of what each side has; None where it has nothing.
    """

    path: str
    key: Key | None
    kind: str
    base: str | None = None
    ours: str | None = None
    theirs: str | None = None


Decide: TypeAlias = Callable[[Conflict], Sequence[Choice]]
"""What may decide a conflict: the first of these that can. None of them leaves it."""


def decide_nothing(_: Conflict) -> tuple[Choice, ...]:
    """Leaves every conflict."""
    return ()


@dataclass(slots=True)
class Arbiter:
    """Asks who decides conflicts, and collects those that nobody does."""

    decide: Decide
    conflicts: list[Conflict] = field(default_factory=list)

    def choose(self, conflict: Conflict) -> Side | None:
        """The side that a conflict is decided for; None where it is left."""
        for choice in self.decide(conflict):
            if choice != "average":
                return choice
        self.conflicts.append(conflict)
        return None


def name_kind(base: object, ours: object, theirs: object) -> str:
    """The kind of a conflict between three values of which any but one may be None."""
    if ours is None:
        return DELETED_BY_US
    if theirs is None:
        return DELETED_BY_THEM
    return ADDED if base is None else CHANGED


def explain_conflicts(conflicts: Sequence[Conflict], kind: str) -> MergeConflictError:
    """The error for conflicts that nobody has decided."""
    return MergeConflictError(
        f"{kind}: {_sum_up(conflicts)}; nothing was changed. "
        "Choose a side (strategy `ours` or `theirs`, or -X theirs=PATH), or use --no-commit and `stock resolve`",
        conflicts=conflicts,
    )


def explain_open(conflicts: Sequence[Conflict], kind: str) -> MergeConflictError:
    """The error for a merge under way that cannot be committed yet."""
    return MergeConflictError(
        f"{kind} under way: {_sum_up(conflicts)}; decide with `stock resolve`, or give up with `stock merge --abort`",
        conflicts=conflicts,
    )


def _sum_up(conflicts: Sequence[Conflict]) -> str:
    first = conflicts[0]
    where = first.path if first.key is None else f"{first.path}, {first.key!r}"
    rest = f", and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
    return f"{len(conflicts)} conflict{'s' if rest else ''}: {where} ({first.kind}){rest}"
