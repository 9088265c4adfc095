"""The handle on a repository: pinned to a commit for reading, or writing through one session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from stockroom.errors import ClosedError, InvalidInputError, LockedError, ReadOnlyError
from stockroom.repository.paths import Identity, init_repository
from stockroom.shelves.report import describe_changes
from stockroom.shelves.stock.handle import DEFAULT_TIMEOUT_S, close_at_exit
from stockroom.shelves.stock.history import HistoryActions
from stockroom.shelves.stock.merges import MoveActions, make_options
from stockroom.shelves.stock.remotes import RemoteActions, choose_remote, find_head
from stockroom.shelves.stock.upkeep import UpkeepActions

if TYPE_CHECKING:
    from stockroom.content.merge.strategy import Strategy
    from stockroom.remotes.progress import OnProgress
    from stockroom.remotes.pull import PullReport
    from stockroom.repository.writing.session import WriteSession
    from stockroom.shelves.stock.session import Session


class StockRoom(HistoryActions, RemoteActions, MoveActions, UpkeepActions):
    """A repository, open.

    Args:
        path: its folder; None walks up from the working directory.
        ref: what to read: a branch, tag, digest, prefix of at least 4 hex digits, `HEAD~2`. None is HEAD.
        enable_write: open for writing; staged changes then outlive the process until committed or reset.
        timeout_s: how long to wait for another writer before `LockedError`.
        needs_head: False opens it even where the commit in `head.stock` is not on this machine yet, as after a
            `git pull`, so that it can be fetched; what is read is empty until `refresh`.
        lazy: bring samples that are not on this machine from a remote when they are read; False, or
            `STOCKROOM_NO_LAZY_FETCH=1`, raises `AbsentDataError` instead. Opening contacts nobody either way.

    Raises `RepositoryNotFoundError`, `RefNotFoundError`, `LockedError`.
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
            raise InvalidInputError(
                "expected either ref (to read a commit) or enable_write (to write on HEAD), found both"
            )
        super().__init__(None if path is None else Path(path), lazy=lazy, ref=ref, needs_head=needs_head)
        try:
            self._pin()
            if enable_write:
                self._begin(timeout_s)
                close_at_exit(self)
        except BaseException:
            self._repository.close()
            raise

    @classmethod
    def init(cls, path: str | Path = ".", name: str | None = None, email: str | None = None) -> Self:
        """The handle of the repository in `path`, made there unless there is one.

        `name` and `email` sign commits. Those of a repository that has an author already stay as they are.
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
    """Whether `init` made this repository, rather than finding it there."""

    @classmethod
    def clone(
        cls,
        url: str,
        path: str | Path,
        metadata_only: bool = False,
        ref: str | None = None,
        *,
        depth: int | None = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Self:
        """The handle of a new repository in `path`, cloned from a remote.

        Args:
            url: a folder, or a URL of s3, gs, az, https or http.
            path: a new or empty folder; or one with a clone that was cut off, which goes on.
            metadata_only: leave samples where they are until they are read.
            ref: the branch or tag to check out; None is the remote's own choice.
            depth: keep only so many commits of it.
        """
        from stockroom.remotes.clone import CloneOptions, clone
        from stockroom.remotes.transport.url import parse_remote_settings

        settings = parse_remote_settings(url, endpoint_url=endpoint_url, region=region, base=Path.cwd())
        options = CloneOptions(metadata_only=metadata_only, ref=ref, depth=depth)
        stock = cls(clone(settings, Path(path), options, on_progress=on_progress).root)
        if metadata_only:
            stock._repository.tensors.fetcher.start()  # what is read next is not here
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
        """The handle of a work tree of git that has a `head.stock`, after its data has been cloned into it.

        Args:
            path: a folder in the work tree. Its `head.stock` stays as git has it.
            url: where from; None reads it from `remote.stock`.
            metadata_only, depth: as for `clone`.

        Raises `RefNotFoundError` where the remote does not have the commit in `head.stock`.
        """
        from stockroom.remotes.clone import CloneOptions, clone_here

        root = find_head(Path(path))
        settings = choose_remote(root, url, endpoint_url=endpoint_url, region=region)
        options = CloneOptions(metadata_only=metadata_only, depth=depth)
        stock = cls(clone_here(settings, root, options, on_progress=on_progress).root)
        if metadata_only:
            stock._repository.tensors.fetcher.start()
        return stock

    def pull(
        self,
        remote: str = "origin",
        *,
        strategy: Strategy = None,
        ff_only: bool = False,
        on_progress: OnProgress | None = None,
    ) -> PullReport:
        """Fetch, then bring the branch that is checked out along: by fast-forward, or, if both moved on, by a merge.

        `strategy` decides conflicts, as in `merge`; with `ff_only` no commit is made. Raises `MergeConflictError`,
        after which nothing but what was fetched is new, and `ConflictError` if changes are staged.
        """
        from stockroom.remotes.pull import pull

        self._access.check_open()
        self._bring_head(remote, on_progress)
        with self._moving() as session:
            options = make_options(session, None, strategy, fast_forward="only" if ff_only else "if possible")
            report = pull(self._repository, session, remote, options, on_progress=on_progress)
            self._pin_to(session.head)
            return report

    def _bring_head(self, remote: str, on_progress: OnProgress | None) -> None:
        """Fetch, if HEAD is on a commit that is not here, as after `git pull`."""
        head = self._repository.read_head()
        if head.commit is not None and not self._repository.refs.has_commit(head.commit):
            self.fetch(remote, on_progress=on_progress)
            self.refresh()

    # -- writing

    @contextmanager
    def enable_write(self, message: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Iterator[Self]:
        """A write block on this handle: commits on clean exit if anything changed, and pins the handle to the commit.

        An exception discards the block's changes and frees the lease. Raises `LockedError` if another writer holds the
        stage for longer than `timeout_s`, or if this handle is writing already.
        """
        self._access.check_open()
        if self._ref is not None:
            raise ReadOnlyError(
                f"this handle is pinned to {self._ref!r}: open the repository without ref to write on HEAD"
            )
        if self._access.session is not None:
            raise LockedError("this handle is writing already: write blocks do not nest; use the one that is open")
        session = self._begin(timeout_s)
        try:
            yield self
            session.finish(message or describe_changes(self.status().changes))
        except BaseException:
            with suppress(ClosedError):  # closed inside its own block: what was staged is durable already
                session.rollback()
            raise
        finally:
            self._access.session = None
            session.close()
            if not self._access.is_closed:
                self._pin()

    def session(
        self,
        branch: str | None = None,
        name: str | None = None,
        *,
        message: str | None = None,
        strategy: Strategy = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Session:
        """A handle of its own to write with, beside any number of others: none waits for another.

        What it writes is its own until it commits. A commit is put on top of wherever the branch stands by then: what
        the session changed is merged with what others committed meanwhile. As a context manager it commits what is
        left at its end, or, after an exception, drops it.

        Args:
            branch: None is the branch checked out. One that does not exist begins with the first commit.
            name: with one, what is flushed outlives the process, and a session of that name goes on from it; two at a
                time cannot have the same (`LockedError` after `timeout_s`).
            message: what the commit at the end says.
            strategy: who decides what both this session and others changed, as in `merge`; None raises
                `MergeConflictError` on commit, and leaves the session as it was.
        """
        from stockroom.shelves.stock.session import Session  # here for start-up time

        return Session(self, branch, name, message=message, strategy=strategy, timeout_s=timeout_s)

    def _begin(self, timeout_s: float) -> WriteSession:
        from stockroom.repository.writing.session import WriteSession  # here for start-up time

        session = WriteSession(self._repository, timeout_s=timeout_s)
        try:
            self._access.session = session
            self._pin_to(session.head)
        except BaseException:
            self._access.session = None
            session.close()
            raise
        return session
