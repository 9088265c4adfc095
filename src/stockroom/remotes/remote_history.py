"""The history of a remote, read without taking it in; and the commits that a push from a shallow clone may build on.

A shallow clone lacks the parents of some commits. If the remote lacks them too, no clone of it would be whole.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NoReturn

from stockroom.digest import CommitId, check_digest
from stockroom.errors import RefChangedError
from stockroom.refs import decode_commit
from stockroom.remotes.format.bundle import RecordKind, open_bundle
from stockroom.remotes.format.ref_state import RefState
from stockroom.remotes.push_plan import list_new_commits
from stockroom.remotes.ref_state_log import StateTakenError, find_following_state
from stockroom.remotes.transport.protocol import Transport
from stockroom.remotes.transport.whole_file import download_file
from stockroom.repository.repository import Repository
from stockroom.store.pack.writer_folder import open_writer_folder


def list_known_commits(
    repository: Repository, transport: Transport, state: RefState | None, tips: Sequence[CommitId]
) -> list[CommitId]:
    """Return commits that are here and that the remote has with all behind them: at least its own tips.

    Raises:
        RefChangedError: the remote lacks history behind `tips` that this shallow clone left out.
        StateTakenError: so does `state`, but there is a newer one.
    """
    refs = repository.refs
    known = [tip for tip in ([] if state is None else state.list_tips()) if refs.has_commit(tip)]
    shallow = refs.shallow()
    cut = [commit for commit in list_new_commits(refs, tips, known) if commit in shallow] if shallow else []
    if not cut:
        return known
    there = set() if state is None else read_history(repository, transport, state)
    for commit in cut:
        missing = [parent for parent in refs.get_commit(commit).parent_ids if parent not in there]
        if commit not in there and missing:
            _refuse(transport, state, missing[0])
    return known + [commit for commit in cut if commit in there]


def read_history(repository: Repository, transport: Transport, state: RefState) -> set[CommitId]:
    """Return the commits that the refs of a state reach. Downloads its bundles, and keeps nothing of them."""
    parents: dict[CommitId, Collection[CommitId]] = {}
    with open_writer_folder(repository.tensors.tmp_directory) as folder:
        for entry in state.bundles:
            path, where = folder / entry.digest.hex(), f"{transport.url}: {entry.path}"
            download_file(transport, entry.path, path, entry.nbytes)
            with open_bundle(path, entry, where=where) as bundle:
                for record in bundle.iter_records():
                    if record.kind is RecordKind.COMMIT:
                        content = bytes(record.payload)
                        check_digest(content, record.digest, where=where)
                        parents[CommitId(record.digest)] = decode_commit(content, where=where).parent_ids
            path.unlink()
    found: set[CommitId] = set()
    waiting = [tip for tip in state.list_tips() if tip in parents]
    while waiting:
        commit = waiting.pop()
        if commit not in found:
            found.add(commit)
            waiting += [parent for parent in parents[commit] if parent in parents]
    return found


def _refuse(transport: Transport, state: RefState | None, missing: CommitId) -> NoReturn:
    newer = None if state is None else find_following_state(transport, state)
    if newer is not None:
        raise StateTakenError(newer)
    raise RefChangedError(
        f"{transport.url}: does not have commit {missing.hex()[:12]}, which this shallow clone (`--depth`) left out; "
        "no clone of this push would be whole: push from a clone with the whole history"
    )
