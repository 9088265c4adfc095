"""Clone: creates a repository from a remote, with its metadata at once and its packs at once or as they are read.

The same command completes a clone that was killed: a marker file names its remote. A clone made beside a `head.stock`
that git brought keeps that file as it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from stockroom.digest import CommitId
from stockroom.errors import AbsentDataError, InvalidInputError, MalformedRecordError, RefNotFoundError
from stockroom.files import NEW_SUFFIX, replace_own_file, sync_path
from stockroom.locks import FileLock
from stockroom.refs import Ref, RefMove
from stockroom.refs.names import find_broken_rule
from stockroom.remotes.fetch import apply_moves, fetch, list_followed_tips, plan_moves
from stockroom.remotes.format.ref_state import RefState
from stockroom.remotes.format.remote_file import ORIGIN, publish_origin
from stockroom.remotes.history_depth import choose_depth
from stockroom.remotes.intake import Intake
from stockroom.remotes.lazy import make_agent_fetcher
from stockroom.remotes.progress import OnProgress, TransferProgress
from stockroom.remotes.ref_state_log import get_newest_state
from stockroom.remotes.settings import add_remote, read_remotes
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.protocol import Transport
from stockroom.remotes.transport.url import RemoteSettings
from stockroom.repository.git.work_tree import find_work_tree
from stockroom.repository.head import HEAD_NAME, REMOTE_NAME, Head
from stockroom.repository.paths import (
    CLONE_MARKER_NAME,
    DEFAULT_BRANCH,
    RepositoryPaths,
    complete_repository,
    is_repository,
    locate,
    make_own_folder,
    prepare_repository,
)
from stockroom.repository.repository import Repository
from stockroom.repository.upstream import Upstream, set_upstreams
from stockroom.store.upkeep.removal import forbid_removal

_LOCK_NAME: Final = "clone.lock"
_PACKS_AT_ONCE: Final = 64
_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneOptions:
    """Options of a clone: metadata only or everything, the `ref` to check out, and `depth` commits of its history.

    A single-branch clone follows only that branch. None means so if there is a `depth`, as in git.
    """

    metadata_only: bool = False
    ref: str | None = None
    depth: int | None = None
    single_branch: bool | None = None

    def choose_branches(self, head: Head) -> tuple[str, ...] | None:
        """Return the branches to follow; None is all."""
        is_single = self.depth is not None if self.single_branch is None else self.single_branch
        if not is_single:
            return None
        return () if head.branch is None else (head.branch,)


class _Marker(msgspec.Struct, frozen=True):
    """The marker of an unfinished clone, with the URL of its remote."""

    url: str


def clone(
    settings: RemoteSettings,
    root: Path,
    options: CloneOptions,
    *,
    transport: Transport | None = None,
    on_progress: OnProgress | None = None,
) -> RepositoryPaths:
    """Create the repository at `root` from a remote, or complete a clone that was killed.

    Raises:
        InvalidInputError: something else is at `root`.
        RefNotFoundError: the remote has no such ref.
        RemoteError, CorruptionError, FormatVersionError: as for `fetch`. A failed clone is removed again, unless it is
            already a repository; then the same command completes it.
    """
    paths = RepositoryPaths(root.resolve())
    is_new_folder = not paths.root.exists()
    if not _is_unfinished(paths, settings):
        if is_repository(paths) or (paths.root.is_dir() and not _is_barely_begun(paths)):
            raise InvalidInputError(f"{paths.root}: expected a new or empty folder to clone into, found files in it")
        _reserve_folder(paths, settings)
    try:
        _complete(paths, settings, options, None, transport, on_progress)
    except BaseException:
        if not is_repository(paths):
            paths.head.path.unlink(missing_ok=True)
            if is_new_folder:
                with suppress(OSError):
                    paths.root.rmdir()
        raise
    return paths


def clone_here(
    settings: RemoteSettings,
    root: Path,
    options: CloneOptions,
    *,
    transport: Transport | None = None,
    on_progress: OnProgress | None = None,
) -> RepositoryPaths:
    """Clone the data of the `head.stock` in a work tree, which stays as it is; or complete such a clone.

    Raises:
        InvalidInputError: there is no `head.stock`, or its data is already here, whole or not.
        RefNotFoundError: the remote does not have the commit that it names. The partial clone is removed again.
    """
    paths = RepositoryPaths(root.resolve())
    if not paths.head.path.is_file():
        raise InvalidInputError(
            f"{paths.root}: expected a {HEAD_NAME} to clone the data of, found none; `stock clone URL` clones into "
            "a new folder"
        )
    head = paths.head.read()
    if not _is_unfinished(paths, settings):
        if is_repository(locate(paths.root)):
            raise InvalidInputError(f"{paths.root} is already a repository: run `stock fetch` to update it")
        if not _is_state_barely_begun(paths):  # a clone that fails removes the folder
            raise InvalidInputError(
                f"{paths.folder}: expected no such folder, found one with files that no clone left; move it away, then "
                "run this again"
            )
        _reserve_folder(paths, settings)
    _complete(paths, settings, options, head, transport, on_progress)
    return paths


def _complete(
    paths: RepositoryPaths,
    settings: RemoteSettings,
    options: CloneOptions,
    head: Head | None,
    transport: Transport | None,
    on_progress: OnProgress | None,
) -> None:
    """Make a claimed folder a repository, on `head` if given. If that fails before it is one, remove its state."""
    if options.depth is not None and options.depth < 1:
        raise InvalidInputError(f"expected a depth of at least 1, found {options.depth}")
    lock = FileLock(paths.folder / _LOCK_NAME)
    lock.take(0, busy=f"{paths.root}: another process is cloning into it")
    try:
        if not is_repository(paths):
            _clone_metadata(paths, settings, options, head, transport or open_transport(settings), on_progress)
        if not options.metadata_only:
            _fetch_packs(paths, on_progress)
        (paths.folder / CLONE_MARKER_NAME).unlink(missing_ok=True)
    except BaseException:
        if not is_repository(paths):
            shutil.rmtree(paths.folder, ignore_errors=True)
        raise
    finally:
        lock.release()
        (paths.folder / _LOCK_NAME).unlink(missing_ok=True)
    sync_path(paths.folder)


def _fetch_packs(paths: RepositoryPaths, on_progress: OnProgress | None) -> None:
    """Make every pack whole. If the remote is a repository that was repacked meanwhile, take its new packs instead."""
    for _ in range(_TRIES):
        try:
            fetch_all(paths, on_progress)
        except AbsentDataError:
            with closing(Repository(paths)) as repository:
                before = set(repository.tensors.catalog.read_packs().values())
                fetch(repository, ORIGIN, on_progress=on_progress)
                if before == set(repository.tensors.catalog.read_packs().values()):
                    raise
        else:
            return
    fetch_all(paths, on_progress)


def fetch_all(paths: RepositoryPaths, on_progress: OnProgress | None) -> None:
    """Make every pack of a repository whole through its fetch agent, in batches, and report progress."""
    fetcher = make_agent_fetcher(paths)
    with closing(Repository(paths, fetcher=fetcher)) as repository:
        sizes = {pack.digest: pack.mapped_nbytes for pack in repository.tensors.iter_partial_packs()}
        total, done, packs = sum(sizes.values()), 0, list(sizes)

        def tell(files: int, nbytes: int, more_nbytes: int = 0, trouble: str | None = None) -> None:
            if on_progress is not None:
                stage = "packs" if trouble is None else f"packs ({trouble})"
                on_progress(TransferProgress(stage, files, len(packs), nbytes + more_nbytes, total))

        for start in range(0, len(packs), _PACKS_AT_ONCE):
            some = packs[start : start + _PACKS_AT_ONCE]
            tell(start, done)
            fetcher.fetch_packs(some, partial(tell, start, done))
            done += sum(sizes[digest] for digest in some)
        tell(len(packs), done)


def _is_unfinished(paths: RepositoryPaths, settings: RemoteSettings) -> bool:
    """Whether the folder holds an unfinished clone of this remote. Raises `InvalidInputError` if it is of another."""
    marker = paths.folder / CLONE_MARKER_NAME
    if paths.root.exists() and not paths.root.is_dir():
        raise InvalidInputError(f"{paths.root}: expected a new folder, found a file")
    if not marker.exists():
        return False
    try:
        found = msgspec.json.decode(marker.read_bytes(), type=_Marker)
    except msgspec.DecodeError as error:
        raise MalformedRecordError(
            f"{marker}: malformed note of an unfinished clone ({error}); remove the folder and clone again",
            where=str(marker),
        ) from error
    if found.url != settings.url:
        raise InvalidInputError(
            f"{paths.root}: holds an unfinished clone of {found.url}; remove it, or choose another folder"
        )
    return True


def _reserve_folder(paths: RepositoryPaths, settings: RemoteSettings) -> None:
    """Create the folder, with a marker that names the remote."""
    make_own_folder(paths)
    replace_own_file(paths.folder / CLONE_MARKER_NAME, msgspec.json.encode(_Marker(settings.url)))


def _is_barely_begun(paths: RepositoryPaths) -> bool:
    """Whether a folder is empty, or holds only the start of a clone that was killed before it wrote its marker."""
    if {path.name for path in paths.root.iterdir()} - {paths.folder.name}:
        return False
    return _is_state_barely_begun(paths)


def _is_state_barely_begun(paths: RepositoryPaths) -> bool:
    names = {path.name for path in paths.folder.iterdir()} if paths.folder.is_dir() else set()
    return all(name in (".gitignore", _LOCK_NAME) or name.endswith(NEW_SUFFIX) for name in names)


def _clone_metadata(
    paths: RepositoryPaths,
    settings: RemoteSettings,
    options: CloneOptions,
    kept: Head | None,
    transport: Transport,
    on_progress: OnProgress | None,
) -> None:
    state = get_newest_state(transport)
    head, tip = _choose_head(state, options.ref, transport.url) if kept is None else _follow_git(paths, kept)
    prepare_repository(paths)
    branches = options.choose_branches(head) if kept is None or head.branch in state.branches else None
    if ORIGIN not in read_remotes(paths):
        add_remote(paths, ORIGIN, replace(settings, branches=branches))
    repository = Repository(paths)
    try:
        tracking = Tracking(paths, ORIGIN)

        def list_tips(state: RefState) -> list[CommitId]:
            mine = [] if tip is None else [tip]
            with_tags = branches is None and options.depth is None
            return list(dict.fromkeys([*mine, *list_followed_tips(state, branches, with_tags=with_tags)]))

        is_all = branches is None and options.depth is None
        depth = choose_depth(depth=options.depth)
        intake = Intake(repository, transport, tracking, list_tips=None if is_all else list_tips, depth=depth)
        with forbid_removal(repository.tensors, timeout_s=0):  # as every fetch does
            state = intake.take_in_newest(state, on_progress)
        if kept is None:
            head, tip = _choose_head(state, options.ref, transport.url)
        if tip is not None and not repository.refs.has_commit(tip):
            raise RefNotFoundError(
                f"{HEAD_NAME} names commit {tip.hex()}, which {transport.url} does not have: have its author run "
                "`stock push`, or check out an older commit with git; then run this again",
                ref=tip.hex(),
            )
        moves = plan_moves(repository, ORIGIN, state).moves
        if head.branch is not None and head.commit is not None:
            ref = Ref("branch", head.branch)
            moves.append(RefMove(ref=ref, old=repository.refs.find_ref(ref), new=tip))
        apply_moves(repository, [move for move in moves if move.old != move.new], kind="clone")
        tracking.write_state(state)
        if head.branch in state.branches:
            set_upstreams(paths, {head.branch: Upstream(ORIGIN, head.branch)})
        if kept is None:
            paths.head.write(head)
    finally:
        repository.close()
    if not os.path.lexists(paths.root / REMOTE_NAME):
        publish_origin(paths)
    complete_repository(paths)


def _follow_git(paths: RepositoryPaths, kept: Head) -> tuple[Head, CommitId | None]:
    """Return HEAD and tip for an existing `head.stock`: on git's branch if its name is valid here, else detached."""
    work_tree = find_work_tree(paths.root)
    branch = kept.branch if work_tree is None else work_tree.find_branch()
    is_good = branch is not None and find_broken_rule(branch) is None
    return Head(branch if is_good else None, kept.commit), kept.commit


def _choose_head(state: RefState, ref: str | None, url: str) -> tuple[Head, CommitId | None]:
    """Return HEAD and tip to check out: a branch, or a tag (detached). None means the remote's own head."""
    name = state.head if ref is None else ref
    if name is None:
        return Head(DEFAULT_BRANCH, None), None
    tip = state.find_branch(name)
    if tip is not None:
        return Head(name, tip), tip
    if name in state.tags:
        return Head(None, CommitId(state.tags[name])), CommitId(state.tags[name])
    known: Sequence[str] = [*state.branches, *state.tags]
    raise RefNotFoundError(
        f"{url}: no branch or tag {name!r}; it has: {', '.join(known) or 'none'}", ref=name, near=known
    )
