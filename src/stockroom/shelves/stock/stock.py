"""The handle on a repository: pinned to a commit for reading, or writing through one session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from stockroom.errors import ClosedError, InvalidInputError, LockedError, ReadOnlyError
from stockroom.repository.paths import Identity, init_repository
from stockroom.shelves.stock.handle import DEFAULT_TIMEOUT_S, close_at_exit
from stockroom.shelves.stock.history import HistoryActions
from stockroom.shelves.stock.merges import MoveActions, make_options
from stockroom.shelves.stock.remotes import RemoteActions, choose_remote, locate_head
from stockroom.shelves.stock.staging import StagingActions
from stockroom.shelves.stock.upkeep import UpkeepActions

if TYPE_CHECKING:
    from stockroom.content.merge.strategy import Strategy
    from stockroom.remotes.progress import OnProgress
    from stockroom.remotes.pull import PullReport
    from stockroom.repository.writing.stage_workspace import StageWorkspace
    from stockroom.shelves.stock.session import Session


class StockRoom(HistoryActions, RemoteActions, MoveActions, StagingActions, UpkeepActions):
    """An open repository.

    Args:
        path: the repository's folder; None searches upward from the working directory.
        ref: the commit to read: a branch, tag, digest, prefix of at least 4 hex digits, or `HEAD~2`. None is HEAD.
        enable_write: open for writing; staged changes then outlive the process until they are committed or reset.
        timeout_s: seconds to wait for another writer before `LockedError`.
        needs_head: False opens the repository even if the commit in `head.stock` is not on this machine yet, as after a
            `git pull`, so that it can be fetched; the shelves are empty until `refresh`.
        lazy: fetch absent samples from a remote when they are read. With False, or `STOCKROOM_NO_LAZY_FETCH=1`, reading
            them raises `AbsentDataError`. Opening never contacts a remote.

    Raises `RepositoryNotFoundError`, `RefNotFoundError` or `LockedError`.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        ref: str | None = None,
        enable_write: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        lazy: bool = True,
        needs_head: bool = True,
    ) -> None:
        if enable_write and ref is not None:
            raise InvalidInputError("ref (to read a commit) and enable_write (to write on HEAD) cannot be combined")
        super().__init__(None if path is None else Path(path), lazy=lazy, ref=ref, needs_head=needs_head)
        try:
            self._repin()
            if enable_write:
                self._begin(timeout_s)
                close_at_exit(self)
        except BaseException:
            self._repository.close()
            raise

    @classmethod
    def init(cls, path: str | Path = ".", name: str | None = None, email: str | None = None) -> Self:
        """Create a repository in `path` unless there is one, and return its handle.

        `name` and `email` sign commits; they do not change the author of an existing repository.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        paths, is_new = init_repository(folder)
        if (name is not None or email is not None) and not paths.config.exists():
            known = paths.read_identity()
            paths.write_identity(Identity(name or known.name, email or known.email))
        stock = cls(paths.root)
        stock.is_new = is_new
        return stock

    is_new: bool = False
    """Whether `init` created this repository."""

    @classmethod
    def clone(
        cls,
        url: str | Path,
        path: str | Path,
        metadata_only: bool = False,
        ref: str | None = None,
        *,
        depth: int | None = None,
        single_branch: bool | None = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Self:
        """Clone a remote, or a repository in another folder, to a new one in `path`, and return its handle.

        Args:
            url: a folder, or a URL of s3, gs, az, https or http.
            path: a new or empty folder, or one with an interrupted clone, which is then resumed.
            metadata_only: do not fetch samples until they are read.
            ref: the branch or tag to check out; None is the remote's default.
            depth: fetch only this many commits of its history.
            single_branch: follow only that branch; None does so if there is a `depth`.
        """
        from stockroom.remotes.clone import CloneOptions, clone
        from stockroom.remotes.transport.url import parse_remote_settings

        settings = parse_remote_settings(url, endpoint_url=endpoint_url, region=region, base=Path.cwd())
        options = CloneOptions(metadata_only=metadata_only, ref=ref, depth=depth, single_branch=single_branch)
        stock = cls(clone(settings, Path(path), options, on_progress=on_progress).root)
        if metadata_only:
            stock._repository.tensors.fetcher.start()  # the next reads will need it
        return stock

    @classmethod
    def clone_here(
        cls,
        path: str | Path = ".",
        url: str | None = None,
        metadata_only: bool = False,
        *,
        depth: int | None = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Self:
        """Clone the data of a git work tree that has a `head.stock` into it, and return the handle.

        Args:
            path: a folder in the work tree. Its `head.stock` does not change.
            url: the remote; None reads it from `remote.stock`.
            metadata_only, depth: as for `clone`.

        Raises `RefNotFoundError` if the remote does not have the commit in `head.stock`.
        """
        from stockroom.remotes.clone import CloneOptions, clone_here

        root = locate_head(Path(path))
        settings = choose_remote(root, url, endpoint_url=endpoint_url, region=region)
        options = CloneOptions(metadata_only=metadata_only, depth=depth)
        stock = cls(clone_here(settings, root, options, on_progress=on_progress).root)
        if metadata_only:
            stock._repository.tensors.fetcher.start()
        return stock

    def pull(
        self,
        remote: str | None = None,
        branch: str | None = None,
        *,
        strategy: Strategy = None,
        ff_only: bool = False,
        on_progress: OnProgress | None = None,
    ) -> PullReport:
        """Fetch, then update the checked-out branch: by fast-forward, or by a merge if both sides have new commits.

        Without a `remote` and its `branch`, they are the upstream, or `origin` and the branch of the same name.
        Other writers can work during the fetch. `strategy` decides conflicts, as in `merge`. `ff_only` makes no commit.
        Raises `ConflictError` if changes are staged, or `MergeConflictError`; then only the fetched refs are new.
        """
        from stockroom.remotes.pull import fetch_branch, merge_fetched

        self._fetch_head(remote, on_progress)
        fetched = fetch_branch(self._repository, remote, branch, on_progress=on_progress)
        with self._moving() as workspace:
            options = make_options(workspace, None, strategy, fast_forward="only" if ff_only else "if possible")
            report = merge_fetched(workspace, fetched, options)
            self._pin_to(workspace.head)
            return report

    def _fetch_head(self, remote: str | None, on_progress: OnProgress | None) -> None:
        """Fetch if HEAD is on a commit that is not here, as after `git pull`."""
        head = self._repository.read_head()
        if head.commit is not None and not self._repository.refs.has_commit(head.commit):
            self.fetch(remote, on_progress=on_progress)
            self.refresh()

    # -- writing

    @contextmanager
    def enable_write(self, message: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Iterator[Self]:
        """Open a write block: it commits at its end if anything changed, and pins the handle to the new commit.

        The commit goes on top of the commits that sessions have made since. An exception discards the block's changes.
        If the commit itself fails, as after a conflict with a session, they are kept in a named session, which the
        error names, and the stage is as it was before.

        Raises:
            LockedError: another writer holds the lease for longer than `timeout_s`, or this handle is writing already.
            ConflictError: the commit at the end could not succeed: HEAD is detached, its branch is gone or elsewhere,
                or earlier staged changes conflict with the commits of sessions.
        """
        self._pin.check_open()
        if self._ref is not None:
            raise ReadOnlyError(
                f"this handle is pinned to {self._ref!r}; open the repository without ref to write on HEAD"
            )
        if self._pin.workspace is not None:
            raise LockedError("this handle is already writing; write blocks do not nest, so use the open one")
        from stockroom.repository.writing.workspace import check_message

        if message is not None:
            check_message(message, {})
        workspace = self._begin(timeout_s)
        try:
            workspace.check_can_end()  # now rather than after the work
            yield self
            self._finish(workspace, message)
        except BaseException:
            with suppress(ClosedError):  # closed inside its block, so the changes are durable already
                workspace.rollback()
            raise
        finally:
            self._pin.workspace = None
            workspace.close()
            if not self._pin.is_closed:
                self._repin()

    def session(
        self,
        branch: str | None = None,
        name: str | None = None,
        *,
        message: str | None = None,
        strategy: Strategy = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Session:
        """Open a session: a handle that writes on its own stage, beside any number of others, without waiting for them.

        Other handles see its changes only after a commit. A commit goes on top of the branch as it is then, and
        merges the session's changes with those that others have committed. Appended samples, and points logged without
        a step, go behind those of others. If others changed something that this session has read and then written,
        that is a conflict, even if both wrote the same. As a context manager, a session commits the remaining
        changes at its end, or discards them after an exception.

        Args:
            branch: None is the branch that is checked out. A branch that does not exist is created by the first commit,
                from HEAD.
            name: flushed changes of a named session outlive the process, and a later session of that name continues
                from them. Only one session at a time can have a name (`LockedError` after `timeout_s`).
            message: the message of the commit at the end.
            strategy: decides conflicts with the commits of others, as in `merge`; None raises `MergeConflictError` on
                commit, and leaves the session unchanged.
        """
        from stockroom.shelves.stock.session import Session  # here for start-up time

        return Session(self, branch, name, message=message, strategy=strategy, timeout_s=timeout_s)

    def _begin(self, timeout_s: float) -> StageWorkspace:
        from stockroom.repository.writing.stage_workspace import StageWorkspace  # here for start-up time

        workspace = StageWorkspace(self._repository, timeout_s=timeout_s)
        try:
            self._pin.workspace = workspace
            self._pin_to(workspace.head)
        except BaseException:
            self._pin.workspace = None
            workspace.close()
            raise
        return workspace
