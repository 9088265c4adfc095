"""The handle on a repository: pinned to a commit for reading, or writing through one session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from stockroom.content.diff import Diff
from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId
from stockroom.errors import (
    ClosedError,
    ConflictError,
    GitError,
    InvalidInputError,
    LockedError,
    ReadOnlyError,
)
from stockroom.refs import Stage
from stockroom.remotes.lazy import choose_fetcher
from stockroom.repository.head import Head
from stockroom.repository.paths import Identity, init_repository
from stockroom.repository.repository import Repository
from stockroom.shelves.pin import Access
from stockroom.shelves.report import Status, describe_changes
from stockroom.shelves.stock.git import GitActions
from stockroom.shelves.stock.history import HistoryActions
from stockroom.shelves.stock.merges import MergeActions
from stockroom.shelves.stock.open_writers import close_at_exit
from stockroom.shelves.stock.remotes import RemoteActions
from stockroom.shelves.stock.upkeep import UpkeepActions

if TYPE_CHECKING:
    from stockroom.content.merge.strategy import Strategy
    from stockroom.repository.writing.session import WriteSession
    from stockroom.repository.writing.workspace import Workspace
    from stockroom.shelves.data.shelf import DataShelf
    from stockroom.shelves.experiment.shelf import ExperimentShelf
    from stockroom.shelves.model.shelf import ModelShelf
    from stockroom.shelves.stock.session import Session

DEFAULT_TIMEOUT_S = 10.0


class StockRoom(HistoryActions, RemoteActions, MergeActions, UpkeepActions, GitActions):
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
        self._repository = Repository.find(None if path is None else Path(path), make_fetcher=choose_fetcher(lazy))
        self.lazy = lazy
        self._ref = ref
        self._needs_head = needs_head
        try:
            self._access = Access(self._repository, self._repository.open_snapshot(None))
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

    _needs_head = True
    is_new: bool = False
    """Whether `init` made this repository, rather than finding it there."""

    # -- where

    @property
    def path(self) -> Path:
        """The work tree's root."""
        return self._repository.paths.root

    @property
    def commit_id(self) -> str | None:
        """The full hex digest of the commit this handle is pinned to; None before the first commit."""
        self._access.check_open()
        return None if self._head.commit is None else self._head.commit.hex()

    @property
    def branch(self) -> str | None:
        """The branch checked out; None for a detached HEAD, or a handle opened on a ref.

        Where git tracks `head.stock`, it is the branch that git is on at the moment.
        """
        self._access.check_open()
        if self._ref is not None or self._access.session is not None:
            return self._head.branch
        with suppress(GitError):  # only git could tell, and it is not there: reading goes on without
            return self._repository.follow(self._head).branch
        return self._head.branch

    @property
    def data(self) -> DataShelf:
        """The data shelf."""
        from stockroom.shelves.data.shelf import DataShelf  # here for start-up time

        self._access.check_open()
        return DataShelf(self._access)

    @property
    def model(self) -> ModelShelf:
        """The model shelf."""
        from stockroom.shelves.model.shelf import ModelShelf  # here for start-up time

        self._access.check_open()
        return ModelShelf(self._access)

    @property
    def experiment(self) -> ExperimentShelf:
        """The experiment shelf."""
        from stockroom.shelves.experiment.shelf import ExperimentShelf  # here for start-up time

        self._access.check_open()
        return ExperimentShelf(self._access)

    def refresh(self) -> None:
        """Pin to the newest HEAD (or ref, if the handle was opened on one). Columns taken earlier stay as they were."""
        self._access.check_open()
        if self._access.session is None:
            self._pin()

    def close(self) -> None:
        """Close the handle and everything taken from it; staged changes are made durable first."""
        if self._access.is_closed:
            return
        session, self._access.session = self._access.session, None
        try:
            if session is not None:
                try:
                    if session.is_open:
                        session.flush()
                finally:
                    session.close()
        finally:
            self._access.is_closed = True
            self._repository.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a StockRoom handle cannot be pickled: send its path, or a dataset made with make_torch_dataset"
        )

    def __repr__(self) -> str:
        if self._access.is_closed:
            return f"<StockRoom {self.path} closed>"
        mode = "writing" if self._access.session else "reading"
        return (
            f"<StockRoom {self.path} {self._head.branch or 'detached'} {(self.commit_id or 'no commit')[:12]} {mode}>"
        )

    def _repr_html_(self) -> str | None:
        from stockroom.shelves.stock.notebook import show_stock

        return None if self._access.is_closed else show_stock(self)

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
        from stockroom.shelves.stock.session import Session

        self._access.check_open()
        chosen = branch or self._repository.follow(self._repository.read_head()).branch
        if chosen is None:
            raise ConflictError("HEAD is detached: say on which branch the session is to commit")
        return Session(self, chosen, name, message=message, strategy=strategy, timeout_s=timeout_s)

    def commit(self, message: str, *, author: tuple[str, str] | None = None, **metadata: Any) -> str:
        """Commit what is staged; returns the commit's full hex digest.

        `metadata` takes str, int, float, bool or None values; `author` overrides the repository's (name, email).
        Raises `NothingToCommitError` when nothing is staged.
        """
        identity = None if author is None else _parse_author(author)
        commit = self._writer().commit(message, metadata, identity)
        self._pin_to(self._writer().head)
        return commit.hex()

    def flush(self) -> None:
        """Make staged changes durable."""
        self._writer().flush()

    def status(self) -> Status:
        """What is staged, by shelf and name."""
        self._access.check_open()
        stage = None if self._access.session is not None else self._find_stage()
        base = self._access.snapshot if stage is None else self._repository.open_snapshot(stage.base)
        staged_on = self._head.commit if stage is None else stage.base
        return Status(
            self.branch,
            self.commit_id,
            Diff(base, self._read_stage()),
            self.find_merge(),
            staged_on=None if staged_on is None else staged_on.hex(),
        )

    def reset(self) -> None:
        """Drop everything staged."""
        self._access.check_open()
        if self._access.session is not None:
            self._access.session.reset()
            return
        from stockroom.repository.writing.session import WriteSession  # here for start-up time

        session = WriteSession(self._repository, timeout_s=DEFAULT_TIMEOUT_S, drop_stage=True)
        try:
            session.reset()
        finally:
            session.close()

    # -- how

    def _pin(self) -> None:
        repository = self._repository
        head = repository.read_head() if self._ref is None else Head(None, repository.resolve(self._ref))
        is_missing = head.commit is not None and not self._needs_head and not repository.refs.has_commit(head.commit)
        self._pin_to(Head(head.branch, None) if is_missing else head)

    def _pin_to(self, head: Head) -> None:
        self._access.snapshot = self._repository.open_snapshot(head.commit)
        self._access.commit = None if head.commit is None else head.commit.hex()
        self._head = head

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

    @contextmanager
    def _moving(self) -> Iterator[WriteSession]:
        """The session that moves HEAD: this handle's own, or one for the moment."""
        from stockroom.repository.writing.session import WriteSession  # here for start-up time

        if self._access.session is not None:
            self._access.session.check_open()
            if not isinstance(self._access.session, WriteSession):
                raise ConflictError("a session stays on its branch: use the repository's own handle for this")
            yield self._access.session
            return
        session = WriteSession(self._repository, timeout_s=DEFAULT_TIMEOUT_S, only_moving=True)
        try:
            yield session
        finally:
            session.close()

    def _writer(self) -> Workspace:
        self._access.check_open()
        if self._access.session is None:
            raise ReadOnlyError(
                "this handle only reads: use `with stock.enable_write():`, or open with StockRoom(enable_write=True)"
            )
        self._access.session.check_open()
        return self._access.session

    def _resolve(self, ref: str) -> CommitId:
        return self._repository.resolve(ref, self._head)

    def _open_ref(self, ref: str) -> Snapshot:
        if ref == "HEAD" and self._head.commit is None:
            return self._repository.open_snapshot(None)
        return self._repository.open_snapshot(self._resolve(ref))

    def _read_stage(self) -> Snapshot:
        if self._access.session is not None:
            return self._access.session.snapshot
        stage = self._find_stage()
        if stage is None:
            return self._repository.open_snapshot(self._head.commit)
        return Snapshot(self._repository.nodes, stage.root)

    def _find_stage(self) -> Stage | None:
        return self._repository.refs.get_stage(self._repository.paths.stage_name)


def _parse_author(author: object) -> Identity:
    match author:
        case (str(name), str(email)):
            return Identity(name, email)
    raise InvalidInputError(f"expected author=(name, email), found {author!r}")
