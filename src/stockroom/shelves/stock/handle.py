"""The base of both kinds of handles: the open repository, the commit it is pinned to, and the stage."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - cannot be loaded at exit, when handles still write
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from stockroom.content.printable import as_line
from stockroom.content.snapshot import Snapshot
from stockroom.digest import CommitId
from stockroom.errors import CollectedError, GitError, InvalidInputError, ReadOnlyError, StockroomError
from stockroom.refs import Stage
from stockroom.remotes.lazy import choose_fetcher
from stockroom.repository.branching import find_previous
from stockroom.repository.head import Head
from stockroom.repository.paths import Identity
from stockroom.repository.repository import Repository
from stockroom.shelves.pin import Pin

if TYPE_CHECKING:
    from stockroom.repository.position import Position
    from stockroom.repository.writing.stage_workspace import StageWorkspace
    from stockroom.repository.writing.workspace import Workspace
    from stockroom.shelves.data.shelf import DataShelf
    from stockroom.shelves.experiment.shelf import ExperimentShelf
    from stockroom.shelves.model.shelf import ModelShelf
    from stockroom.shelves.report import MergeUnderWay, Status

DEFAULT_TIMEOUT_S: Final = 10.0
_ATTEMPTS: Final = 3


class Handle:
    """An open repository: the common part of `StockRoom` and `Session`.

    Both pin it to a commit with `_pin` or `_pin_to` first. The other groups of methods are in classes that extend this
    one.
    """

    def __init__(self, path: Path | None, *, lazy: bool, ref: str | None = None, needs_head: bool = True) -> None:
        self.lazy = lazy
        self._ref = ref
        self._needs_head = needs_head
        self._head = Head(None, None)
        repository = Repository.locate(path, make_fetcher=choose_fetcher(lazy))
        self._pin = Pin(repository, repository.open_snapshot(None), lazy=lazy)

    # -- position and shelves

    @property
    def path(self) -> Path:
        """The root of the work tree."""
        return self._pin.repository.paths.root

    @property
    def commit_id(self) -> str | None:
        """The full hex digest of the commit this handle is pinned to; None before the first commit."""
        self._pin.check_open()
        return None if self._head.commit is None else self._head.commit.hex()

    @property
    def branch(self) -> str | None:
        """The branch that is checked out; None for a detached HEAD, or a handle opened on a ref.

        If git tracks `head.stock`, it is the branch that git is on now.
        """
        self._pin.check_open()
        if self._ref is not None or self._pin.workspace is not None:
            return self._head.branch
        with suppress(GitError):  # without git, reading must still work
            return self._repository.follow(self._head).branch
        return self._head.branch

    @property
    def data(self) -> DataShelf:
        """The data shelf."""
        from stockroom.shelves.data.shelf import DataShelf  # here for start-up time

        self._pin.check_open()
        return DataShelf(self._pin)

    @property
    def model(self) -> ModelShelf:
        """The model shelf."""
        from stockroom.shelves.model.shelf import ModelShelf  # here for start-up time

        self._pin.check_open()
        return ModelShelf(self._pin)

    @property
    def experiment(self) -> ExperimentShelf:
        """The experiment shelf."""
        from stockroom.shelves.experiment.shelf import ExperimentShelf  # here for start-up time

        self._pin.check_open()
        return ExperimentShelf(self._pin)

    def refresh(self) -> None:
        """Pin the handle to the newest HEAD, or ref if it was opened on one. Columns taken earlier do not change."""
        if self._pin.workspace is None:
            self._repin()

    def close(self) -> None:
        """Make staged changes durable, then close the handle and everything taken from it."""
        if self._pin.is_closed:
            return
        workspace, self._pin.workspace = self._pin.workspace, None
        try:
            if workspace is not None:
                try:
                    if workspace.is_open:
                        workspace.flush()
                finally:
                    workspace.close()
        finally:
            self._pin.is_closed = True
            self._pin.repository.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a StockRoom handle cannot be pickled: send its path, or a dataset made with make_torch_dataset"
        )

    def __repr__(self) -> str:
        if self._pin.is_closed:
            return f"<StockRoom {as_line(str(self.path))} closed>"
        mode = "writing" if self._pin.workspace else "reading"
        place = as_line(f"{self.path} {self._head.branch or 'detached'}")
        return f"<StockRoom {place} {(self.commit_id or 'no commit')[:12]} {mode}>"

    def _repr_html_(self) -> str | None:
        from stockroom.content.html_table import MAX_ROWS, format_table  # here for start-up time
        from stockroom.shelves.data.shelf import TABLE_HEADINGS, list_columns

        if self._pin.is_closed:
            return None
        title = f"{self.path} · {self.branch or 'detached'} · {(self.commit_id or 'no commit')[:12]}"
        rows = [*islice(list_columns(self.data), MAX_ROWS)]
        rows += [(f"model/{name}", "", "", "") for name in islice(self.model, MAX_ROWS)]
        rows += [(f"experiment/{name}", "", "", "") for name in islice(self.experiment, MAX_ROWS)]
        return format_table(title, rows, headings=TABLE_HEADINGS)

    # -- the stage

    def commit(
        self, message: str, *, author: tuple[str, str] | None = None, allow_empty: bool = False, **metadata: Any
    ) -> str:
        """Commit the staged changes, and return the commit's full hex digest.

        `metadata` takes str, int, float, bool or None values. `author` overrides the repository's (name, email). Raises
        `NothingToCommitError` if nothing is staged, unless `allow_empty`.
        """
        identity = None if author is None else parse_author(author)
        commit = self._writer().commit(message, metadata, identity, allow_empty=allow_empty)
        self._pin_to(self._writer().head)
        return commit.hex()

    def flush(self) -> None:
        """Make staged changes durable."""
        self._writer().flush()

    def status(self) -> Status:
        """Return the staged changes by shelf and name, and the unfinished merge."""
        from stockroom.content.diff import Diff  # here for start-up time
        from stockroom.shelves.report import Status

        stage = None if self._pin.workspace is not None else self._find_stage()
        base = self._pin.snapshot if stage is None else self._repository.open_snapshot(stage.base)
        staged_on = self._head.commit if stage is None else stage.base
        return Status(
            self.branch,
            self.commit_id,
            Diff(base, self._read_stage()),
            self.find_merge(),
            staged_on=None if staged_on is None else staged_on.hex(),
        )

    def position(self) -> Position:
        """Return where HEAD, its branch, the branch of the remote and the stage are, in commits between them."""
        from stockroom.repository.position import describe_position  # here for start-up time

        stage = None if self._pin.workspace is not None else self._find_stage()
        return describe_position(self._repository, Head(self.branch, self._head.commit), stage)

    def find_merge(self) -> MergeUnderWay | None:
        """Return the unfinished merge with its undecided conflicts, or None; does not wait for writers."""
        from stockroom.content.merge.unfinished import read_merging  # here for start-up time
        from stockroom.shelves.report import MergeUnderWay

        if self._pin.workspace is not None:
            merging = self._pin.workspace.merging
        else:
            stage = self._find_stage()
            staged = None if stage is None else stage.merging
            merging = None if staged is None else read_merging(self._repository.objects, staged)
        if merging is None:
            return None
        commit = None if merging.parent is None else merging.parent.hex()
        return MergeUnderWay(merging.kind, commit, merging.message, tuple(merging.conflicts))

    def reset(self, *paths: str, undoable: bool = True) -> None:
        """Discard all staged changes, or only those at `paths`, such as `data/label` or `data/label/17`.

        `undo` restores all of them for two weeks, unless they are a session's, or `undoable` is False: then the next gc
        frees their disk space. Raises `NotFoundError` if nothing has such a path.
        """
        if paths:
            from stockroom.repository.restage import unstage  # here for start-up time

            with self._staging() as workspace:
                unstage(workspace, paths)
            return
        if self._pin.workspace is not None:
            self._pin.workspace.reset(undoable=undoable)
            return
        from stockroom.repository.writing.stage_workspace import StageWorkspace  # here for start-up time

        workspace = StageWorkspace(self._repository, timeout_s=DEFAULT_TIMEOUT_S, drop_stage=True)
        try:
            workspace.reset(undoable=undoable)
        finally:
            workspace.close()

    # -- internals

    @property
    def _repository(self) -> Repository:
        """The repository; raises `ClosedError` if the handle is closed."""
        self._pin.check_open()
        return self._pin.repository

    def _repin(self) -> None:
        for _ in range(_ATTEMPTS):
            try:
                self._pin_again()
            except CollectedError:  # gc was faster: the branch has moved
                continue
            return
        self._pin_again()

    def _pin_again(self) -> None:
        repository = self._repository
        head = repository.read_head() if self._ref is None else Head(None, repository.resolve(self._ref))
        is_missing = head.commit is not None and not self._needs_head and not repository.refs.has_commit(head.commit)
        self._pin_to(Head(head.branch, None) if is_missing else head)

    def _pin_to(self, head: Head) -> None:
        self._pin.snapshot = self._repository.open_snapshot(head.commit)
        self._pin.commit = None if head.commit is None else head.commit.hex()
        self._head = head

    def _finish(self, workspace: Workspace, message: str | None) -> None:
        """Commit the changes of a session; if that fails, keep it, and say where."""
        from stockroom.shelves.report import describe_changes  # here for start-up time

        try:
            workspace.finish(message or describe_changes(self.status().changes))
        except StockroomError as error:
            with suppress(StockroomError, OSError):  # a full disk, or the like
                where = workspace.keep()
                error.args = (f"{error.args[0]}. Your changes are kept {where}", *error.args[1:])
            raise

    def _writer(self) -> Workspace:
        self._pin.check_open()
        if self._pin.workspace is None:
            raise ReadOnlyError(
                "this handle only reads: use `with stock.enable_write():`, or open with StockRoom(enable_write=True)"
            )
        self._pin.workspace.check_open()
        return self._pin.workspace

    @contextmanager
    def _staging(self) -> Iterator[Any]:
        """Yield the workspace whose stage is to be changed: this handle's own, or the working stage for this once."""
        if self._pin.workspace is not None:
            yield self._writer()
            return
        if self._ref is not None:
            raise ReadOnlyError(f"this handle is pinned to {self._ref!r}; open the repository without ref to stage")
        from stockroom.repository.writing.stage_workspace import StageWorkspace  # here for start-up time

        workspace = StageWorkspace(self._repository, timeout_s=DEFAULT_TIMEOUT_S)
        try:
            yield workspace
            workspace.flush()
        finally:
            workspace.close()

    def _stage_writer(self) -> StageWorkspace:
        """Return the workspace of the working stage; raises `ReadOnlyError` if this handle does not write."""
        from stockroom.repository.writing.stage_workspace import StageWorkspace  # here for start-up time

        workspace = self._writer()
        assert isinstance(workspace, StageWorkspace)
        return workspace

    def _resolve(self, ref: str) -> CommitId:
        return self._repository.resolve(find_previous(self._repository, ref) or ref, self._head)

    def _open_ref(self, ref: str) -> Snapshot:
        if ref == "HEAD" and self._head.commit is None:
            return self._repository.open_snapshot(None)
        return self._repository.open_snapshot(self._resolve(ref))

    def _read_stage(self) -> Snapshot:
        if self._pin.workspace is not None:
            return self._pin.workspace.snapshot
        stage = self._find_stage()
        if stage is None:
            return self._repository.open_snapshot(self._head.commit)
        return Snapshot(self._repository.nodes, stage.root)

    def _find_stage(self) -> Stage | None:
        return self._repository.refs.get_stage(self._repository.paths.stage_name)


def parse_author(author: object) -> Identity:
    """Return the identity in `author=(name, email)`; raises `InvalidInputError` for anything else."""
    match author:
        case (str(name), str(email)):
            return Identity(name, email)
    raise InvalidInputError(f"expected author=(name, email), found {author!r}")


# Handles that were not closed make their staged changes durable when the program ends.

_writers: Final[weakref.WeakSet[Handle]] = weakref.WeakSet()


def close_at_exit(handle: Handle) -> None:
    """Close a handle when the program ends, if it still exists."""
    _writers.add(handle)


def _close_all() -> None:
    with ExitStack() as stack:  # closes every handle, even if closing another fails
        for handle in list(_writers):
            stack.callback(handle.close)


atexit.register(_close_all)
