"""git's merge driver for `head.stock`: the merge is a commit; stages, branches and work trees stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from stockroom.content.merge.base import CommonContent, read_common_content
from stockroom.content.merge.conflict import explain_conflicts
from stockroom.content.merge.content import ContentMerge
from stockroom.content.merge.unfinished import MERGE
from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId
from stockroom.errors import ConflictError, RefNotFoundError
from stockroom.refs import ObjectStore, RefChange, is_ancestor, list_merge_bases
from stockroom.repository.claim import Claim
from stockroom.repository.repository import Repository
from stockroom.trees import NodeCache

_MESSAGE: Final = "Merge, as git merged head.stock"


@dataclass(frozen=True, slots=True)
class Versions:
    """The commits in three versions of `head.stock`: git's common one, ours and theirs; None is no commit."""

    base: CommitId | None
    ours: CommitId | None
    theirs: CommitId | None


def list_missing(repository: Repository, versions: Versions) -> list[CommitId]:
    """Return the commits that are not in this repository."""
    named = (versions.base, versions.ours, versions.theirs)
    return [commit for commit in named if commit is not None and not repository.refs.has_commit(commit)]


def merge_versions(repository: Repository, versions: Versions) -> CommitId | None:
    """Return the commit for the merged `head.stock`: ours, theirs, or a new one.

    If git's common version is in the history of both, as in a merge, our own history has their merge base, and
    the new commit has both as parents. Otherwise, as in a cherry-pick or a revert, the changes from that version to
    theirs are put on top of ours.

    Raises:
        MergeConflictError: both sides changed the same thing; nothing was made.
        ConflictError: the two share no history.
        RefNotFoundError: a commit is not in this repository.
    """
    base, ours, theirs = versions.base, versions.ours, versions.theirs
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    missing = list_missing(repository, versions)
    if missing:
        ref = missing[0].hex()
        raise RefNotFoundError(f"commit {ref} is not in this repository: run `stock fetch`, then merge again", ref=ref)
    claim = Claim(repository.paths.folder, repository.marks)
    try:
        repository.avoid_marked(claim)
        return _merge(repository, versions)
    finally:
        claim.release()


def _merge(repository: Repository, versions: Versions) -> CommitId | None:
    refs, ours, theirs = repository.refs, versions.ours, versions.theirs
    objects = ObjectStore(repository.env)
    nodes = NodeCache(objects, sharing=repository.nodes)

    def open_content(commit: CommitId | None) -> Snapshot:
        return repository.open_snapshot(commit, nodes)

    if not _is_common(repository, versions) or ours is None or theirs is None:
        common, parents = CommonContent(open_content(versions.base)), [ours]
    else:
        bases = list_merge_bases(refs, ours, theirs)
        if theirs in bases or ours in bases:
            return ours if theirs in bases else theirs
        if not bases:
            raise ConflictError("the two sides share no history")
        common, parents = read_common_content(refs, open_content, objects, bases), [ours, theirs]
    our_content = open_content(ours)
    merged = ContentMerge(common.snapshot, our_content, open_content(theirs), objects, disputed=common.disputed).run()
    if merged.conflicts:
        raise explain_conflicts(merged.conflicts, MERGE)
    if len(parents) == 1 and merged.snapshot.root == our_content.root:
        return ours
    known = [parent for parent in parents if parent is not None]
    record = repository.make_commit(merged.snapshot.root, known, message=_MESSAGE, metadata={})
    refs.apply(RefChange(kind=MERGE, commits=(record,)), objects=objects)
    return record.commit_id


def _is_common(repository: Repository, versions: Versions) -> bool:
    """Return whether git's common version is in the history of both sides, as it is when git merges."""
    base = versions.base
    sides = (versions.ours, versions.theirs)
    return base is None or all(side is not None and is_ancestor(repository.refs, base, side) for side in sides)
