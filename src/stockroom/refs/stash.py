"""Stashed changes: commits that no branch has, each kept by a stage whose name begins with `stash/`.

A stash is a commit on top of the commit that its changes belong to. The stage only keeps it: its base is the stash's
commit. Names sort by age, and `stash@{0}` is the newest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from stockroom.digest import CommitId
from stockroom.errors import InvalidInputError, RefNotFoundError
from stockroom.refs.commit import CommitRecord
from stockroom.refs.stage import Stage
from stockroom.refs.store import RefStore

STASH_STAGES: Final = "stash/"
"""Begins the names of the stages that keep stashes."""
_SPEC: Final = re.compile(r"stash(@\{(?P<number>[0-9]{1,9})\})?")


@dataclass(frozen=True, slots=True)
class StashEntry:
    """A stash: the name of the stage that keeps it, and its commit."""

    stage: str
    commit: CommitId


def list_stashes(refs: RefStore) -> list[StashEntry]:
    """Return all stashes, the newest first, as `stash@{0}`, `stash@{1}` and so on."""
    kept = [(name, stage.base) for name, stage in refs.stages().items() if name.startswith(STASH_STAGES)]
    return [StashEntry(name, commit) for name, commit in sorted(kept, reverse=True) if commit is not None]


def name_stash(refs: RefStore, record: CommitRecord) -> str:
    """Return the name of the stage for a new stash: after all others, and different for every commit."""
    newest = [int(entry.stage.removeprefix(STASH_STAGES).partition("-")[0]) for entry in list_stashes(refs)[:1]]
    return f"{STASH_STAGES}{max([record.time_ns, *(time_ns + 1 for time_ns in newest)]):020d}-{record.commit_id.hex()}"


def make_stash_stage(record: CommitRecord) -> Stage:
    """Return the stage that keeps a stash."""
    return Stage(base=record.commit_id, root=record.tree_digest)


def is_stash_spec(spec: str) -> bool:
    """Return whether a text is `stash` or `stash@{N}`."""
    return _SPEC.fullmatch(spec) is not None


def get_stash(refs: RefStore, spec: str = "stash") -> StashEntry:
    """Return the stash that `stash`, `stash@{N}` or `N` names; raises `RefNotFoundError` if there is none."""
    match = _SPEC.fullmatch(f"stash@{{{spec}}}" if re.fullmatch("[0-9]{1,9}", spec) else spec)
    if match is None:
        raise InvalidInputError(
            f"expected a stash such as stash@{{0}} or 0, found {spec!r}; `stock stash list` lists them"
        )
    found, number = list_stashes(refs), int(match["number"] or 0)
    if number >= len(found):
        known = f"there are {len(found)}; `stock stash list` lists them" if found else "nothing is stashed"
        raise RefNotFoundError(f"no stash@{{{number}}}: {known}", ref=spec)
    return found[number]
