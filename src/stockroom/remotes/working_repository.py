"""A repository that somebody works in, as a remote to clone and fetch from (design note 19).

Its refs are one state, whose number never changes and whose write id names its content. The state names one bundle,
which is written here when it is taken in: with what this repository lacks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

import numpy as np
from blake3 import blake3

from stockroom.digest import CommitId, PackDigest
from stockroom.errors import CorruptionError, LockedError, ReadOnlyError
from stockroom.remotes.format.bundle import BundleWriter
from stockroom.remotes.format.pack_files import LocalPack
from stockroom.remotes.format.ref_state import WRITE_ID_NBYTES, BundleEntry, RefState
from stockroom.remotes.push_plan import PushContents, plan_push, write_metadata
from stockroom.remotes.transport.working_repository import WorkingRepositoryTransport
from stockroom.repository.paths import DEFAULT_BRANCH, RepositoryPaths, open_paths
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.reachable import Reachable
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.pack import Pack, StalePackError
from stockroom.store.pack.writer_folder import open_writer_folder
from stockroom.store.upkeep.removal import forbid_removal, lock_removal, remove_packs

_PATIENCE_S: Final = 60.0
_TRIES: Final = 5


def read_working_state(transport: WorkingRepositoryTransport) -> RefState:
    """Return the branches and tags of the repository, as they are now."""
    with _open(transport.paths) as source:
        branches, tags = source.refs.branches(), source.refs.tags()
        head = source.follow(source.paths.head.read()).branch
        if head not in branches:
            head = DEFAULT_BRANCH if DEFAULT_BRANCH in branches else min(branches, default=None)
        packs = sorted(source.tensors.catalog.read_packs().values())
    content = repr((head, sorted(branches.items()), sorted(tags.items()), packs)).encode()
    digest = blake3(content).digest()
    entry = BundleEntry(digest, 0, 0, 0, len(packs))
    return RefState(
        number=1,
        write_id=digest[:WRITE_ID_NBYTES],
        time_ns=0,
        head=head,
        branches=dict(branches),
        tags=dict(tags),
        bundles=(entry,),
    )


def list_packs(transport: WorkingRepositoryTransport) -> set[PackDigest]:
    """Return the packs of the repository."""
    with _open(transport.paths) as source:
        return set(source.tensors.catalog.read_packs().values())


def write_bundle(
    transport: WorkingRepositoryTransport,
    state: RefState,
    path: Path,
    *,
    known: Sequence[CommitId],
    packs: Collection[PackDigest],
) -> BundleEntry:
    """Write a bundle with everything that a state reaches except what `known` commits reach, and with new packs.

    It describes every pack there except `packs`, since that repository may have rewritten old ones. Raises
    `CorruptionError` if something is missing: gc may have removed it since the state was read.
    """
    with _open(transport.paths) as source:
        here = [commit for commit in known if source.refs.has_commit(commit)]
        for _ in range(_TRIES):
            try:
                return _write(source, path, state.list_tips(), here, packs)
            except (StalePackError, FileNotFoundError):  # repacked meanwhile, where its lock cannot be taken
                path.unlink(missing_ok=True)
                source.tensors.index.refresh()
                source.tensors.cache.forget()
    raise CorruptionError(
        f"{transport.url}: a pack that its history needs is missing; run `stock fsck --repair` there",
        where=transport.url,
    )


def list_shallow(transport: WorkingRepositoryTransport) -> frozenset[CommitId]:
    """Return the commits whose parents that repository leaves out itself."""
    with _open(transport.paths) as source:
        return source.refs.shallow()


def _write(
    source: Repository, path: Path, tips: Sequence[CommitId], known: Sequence[CommitId], packs: Collection[PackDigest]
) -> BundleEntry:
    with _keep_packs(source):
        contents = plan_push(source, tips, known)
        writer = BundleWriter(path)
        try:
            _add_packs(source, writer, contents, packs)
            write_metadata(source, contents, writer)
        except BaseException:
            writer.abort()
            raise
    return writer.finish()


def _add_packs(source: Repository, writer: BundleWriter, contents: PushContents, packs: Collection[PackDigest]) -> None:
    for digest in source.tensors.catalog.read_packs().values():
        if digest in packs:
            continue
        try:
            writer.add_pack(digest, LocalPack.open(source, digest).describe())
        except CorruptionError:
            if digest in contents.packs:
                raise  # others are no business of this clone


def forget_rewritten(repository: Repository) -> int:
    """Remove partial packs that no remote has any more, if that loses nothing; returns their number.

    A repository that is repacked holds the same chunks in other packs.
    """
    leaving, tensors = repository.marks.read_leaving(), repository.tensors
    numbers = {number: pack for number, pack in tensors.catalog.read_packs().items() if pack in leaving}
    try:
        lock = lock_removal(tensors) if numbers else None
    except LockedError:  # the next fetch does it
        return 0
    if lock is None:
        return 0
    with lock, open_writer_folder(tensors.tmp_directory) as folder:
        reach = Reachable(repository)
        refs = repository.refs
        reach.add_commits([tip for names in (refs.branches(), refs.tags(), refs.remotes()) for tip in names.values()])
        for stage in refs.stages().values():
            reach.add_stage(stage)
        gone = {number: pack for number, pack in numbers.items() if _is_spare(repository, reach, number, numbers)}
        return len(remove_packs(tensors, gone, folder))


def _is_spare(repository: Repository, reach: Reachable, number: int, leaving: Mapping[int, PackDigest]) -> bool:
    """Return whether every row of a pack is in one that is not `leaving`, or neither present here nor reachable."""
    digest = leaving[number]
    pack = Pack(locate_pack(repository.tensors.packs_directory, digest), digest)
    rows = np.arange(pack.rows)
    is_elsewhere = repository.tensors.contains(pack.manifest.digests, outside=leaving.keys())
    live = reach.find_live(number)
    left = rows[~is_elsewhere]
    if live is not None and live[left].any():
        return False
    if not len(left):
        return True
    units = np.unique(pack.list_units(left))
    return len(pack.list_absent_units(units)) == len(units)


@contextmanager
def _open(paths: RepositoryPaths) -> Iterator[Repository]:
    repository = Repository(paths if paths.home else open_paths(paths.root))
    try:
        yield repository
    finally:
        repository.close()


@contextmanager
def _keep_packs(source: Repository) -> Iterator[None]:
    """Keep gc from removing packs there during the block, if we may write to the folder."""
    try:
        lock = forbid_removal(source.tensors, timeout_s=_PATIENCE_S)
    except ReadOnlyError:
        with nullcontext():
            yield
        return
    with lock:
        source.tensors.index.refresh()
        yield
