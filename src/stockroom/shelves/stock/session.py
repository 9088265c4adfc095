"""A handle that writes on its own stage, so that sessions do not wait for each other."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from stockroom.content.merge.strategy import Strategy, make_decide
from stockroom.errors import ClosedError, ConflictError, LockedError
from stockroom.repository.writing.session_workspace import SessionWorkspace
from stockroom.repository.writing.workspace import check_message
from stockroom.shelves.stock.handle import DEFAULT_TIMEOUT_S, Handle, close_at_exit
from stockroom.shelves.stock.history import HistoryActions
from stockroom.shelves.stock.remotes import RemoteActions
from stockroom.shelves.stock.upkeep import UpkeepActions

if TYPE_CHECKING:
    from stockroom.content.merge.conflict import Choice
    from stockroom.trees import Key


class Session(HistoryActions, RemoteActions, UpkeepActions):
    """A handle that writes on its own stage, as `StockRoom.session` returns it.

    It stays on its branch: `checkout`, `merge` and other methods that move HEAD raise `ConflictError`.
    """

    def __init__(
        self,
        beside: Handle,
        branch: str | None,
        name: str | None,
        *,
        message: str | None = None,
        strategy: Strategy = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        beside._pin.check_open()
        branch = branch or beside._repository.follow(beside._repository.read_head()).branch
        if branch is None:
            raise ConflictError("HEAD is detached; name the branch that the session commits to")
        if message is not None:
            check_message(message, {})
        self._message = message
        self._strategy = strategy
        decide = make_decide(strategy)
        super().__init__(beside.path, lazy=beside.lazy)
        try:
            workspace = SessionWorkspace(self._repository, branch, name=name, timeout_s=timeout_s, decide=decide)
            self._pin.workspace = self._own = workspace
            self._pin_to(workspace.head)
            close_at_exit(self)  # a named session's changes are made durable when the program ends
        except BaseException:
            self._repository.close()
            raise

    def session(self, branch: str | None = None, name: str | None = None, **options: Any) -> Session:
        """Return another session, as `StockRoom.session` does."""
        return Session(self, branch, name, **options)

    def enable_write(self, *_: object, **__: object) -> NoReturn:
        """Raise `LockedError`: a session writes already."""
        self._pin.check_open()
        raise LockedError("this handle is already writing; write blocks do not nest, so use the open one")

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Raise `ConflictError`: a session stays on its branch."""
        self._pin.check_open()
        raise ConflictError("a session stays on its branch; use the repository's own handle")

    checkout = undo = redo = pull = merge = revert = cherry_pick = _refuse
    continue_merge = abort_merge = reset_to = rename_branch = _refuse
    amend = stash = apply_stash = pop_stash = _refuse

    @property
    def strategy(self) -> Strategy:
        """Decides conflicts with the commits of others, as in `merge`; it can be set at any time."""
        return self._strategy

    @strategy.setter
    def strategy(self, strategy: Strategy) -> None:
        self._own.decide = make_decide(strategy)
        self._strategy = strategy

    def refresh(self) -> None:
        """Put the staged changes on top of the branch's tip, so that this session sees the commits of others.

        Raises `MergeConflictError`, and changes nothing, if conflicts are undecided.
        """
        self._pin.check_open()
        self._own.refresh()
        self._pin_to(self._own.head)

    def resolve(self, path: str, key: Key | None = None, *, choice: Choice | None = None) -> int:
        """Decide the conflicts with the commits of others at `path`, or the one at `key`; return how many are left.

        `choice` is `ours` (this session's, also if None) or `theirs`. It holds until the next commit, `refresh` or
        `reset`. Raises `NotFoundError` if there is no conflict.
        """
        self._pin.check_open()
        return self._own.resolve(path, key, choice or "ours")

    def __exit__(self, *exc_info: object) -> None:
        workspace = self._pin.workspace
        try:
            if workspace is not None and not self._pin.is_closed:
                if exc_info[0] is None:
                    self._finish(workspace, self._message)
                else:
                    with suppress(ClosedError):
                        workspace.rollback()
        finally:
            self.close()
