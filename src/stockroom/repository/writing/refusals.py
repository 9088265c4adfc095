"""Why the working stage refuses a commit or a move of HEAD: the errors, with the way on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stockroom.content.merge.conflict import Conflict, explain_conflicts
from stockroom.content.merge.unfinished import Merging
from stockroom.digest import CommitId
from stockroom.errors import ConflictError, MergeConflictError, RefChangedError
from stockroom.refs import Stage
from stockroom.repository.head import Head

_OUTRUN: Final = (
    "Sessions have changed it and committed: put the staged changes on a separate branch (`stock checkout -b NAME`, "
    "then `stock commit`), and merge it with a strategy"
)


def explain_outrun(conflicts: Sequence[Conflict]) -> MergeConflictError:
    """Return the error for a commit whose changes conflict with those that sessions have committed."""
    return explain_conflicts(conflicts, "commit", advice=_OUTRUN)


def explain_elsewhere(head: Head, tip: CommitId | None) -> RefChangedError:
    """Return the error for a branch that is not where HEAD says."""
    return RefChangedError(
        f"branch {head.branch!r} is {'gone' if tip is None else f'at {tip.hex()}'}, but head.stock says "
        f"{head.commit.hex() if head.commit else 'nothing'}: run `stock checkout -b NAME` to keep this work on a "
        "separate branch"
    )


def explain_merging(merging: Merging) -> ConflictError:
    """Return the error for an unfinished merge."""
    return ConflictError(
        f"a {merging.kind} is in progress: finish it (`stock merge --continue`) or abort it (`stock merge --abort`)"
    )


def explain_staged() -> ConflictError:
    """Return the error for staged changes on HEAD."""
    return ConflictError("there are staged changes: commit them (`stock commit`) or drop them (`stock reset`)")


def explain_stranded(stage: Stage) -> ConflictError:
    """Return the error for staged changes on another commit than HEAD."""
    return ConflictError(
        f"staged changes are based on {_name_base(stage)}, but HEAD is elsewhere: check out that commit or a branch at "
        "it (with git, if git tracks head.stock), or drop the changes with `stock reset`"
    )


def explain_unfit(stage: Stage) -> ConflictError:
    """Return the error for staged changes that an open writer cannot get back where it is."""
    return ConflictError(
        f"the changes to bring back are based on {_name_base(stage)}: check out that commit, then try again"
    )


def _name_base(stage: Stage) -> str:
    return stage.base.hex() if stage.base else "the empty repository"
