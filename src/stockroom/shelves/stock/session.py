"""A handle that writes on its own stage, so that sessions do not wait for each other."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NoReturn

from stockroom.content.merge.strategy import Strategy, make_decide
from stockroom.errors import ClosedError, ConflictError, LockedError
from stockroom.repository.writing.session_workspace import SessionWorkspace
from stockroom.shelves.report import describe_changes
from stockroom.shelves.stock.handle import DEFAULT_TIMEOUT_S, Handle, close_at_exit
from stockroom.shelves.stock.history import HistoryActions
from stockroom.shelves.stock.remotes import RemoteActions
from stockroom.shelves.stock.upkeep import UpkeepActions


class Session(HistoryActions, RemoteActions, UpkeepActions):
    """A handle that writes on its own stage, as `StockRoom.workspace` returns it.

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
        self._message = message
        decide = make_decide(strategy)
        super().__init__(beside.path, lazy=beside.lazy)
        try:
            workspace = SessionWorkspace(self._repository, branch, name=name, timeout_s=timeout_s, decide=decide)
            self._pin.workspace = workspace
            self._pin_to(workspace.head)
            close_at_exit(self)  # a named session's changes are made durable when the program ends
        except BaseException:
            self._repository.close()
            raise

    def session(self, branch: str | None = None, name: str | None = None, **options: Any) -> Session:
        """Return another session, as `StockRoom.workspace` does."""
        return Session(self, branch, name, **options)

    def enable_write(self, *_: object, **__: object) -> NoReturn:
        """Raise `LockedError`: a session writes already."""
        self._pin.check_open()
        raise LockedError("this handle is already writing; write blocks do not nest, so use the open one")

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        """Raise `ConflictError`: a session stays on its branch."""
        self._pin.check_open()
        raise ConflictError("a session stays on its branch; use the repository's own handle")

    checkout = undo = pull = merge = revert = cherry_pick = _refuse
    resolve = continue_merge = abort_merge = reset_to = _refuse

    def __exit__(self, *exc_info: object) -> None:
        workspace = self._pin.workspace
        try:
            if workspace is not None and not self._pin.is_closed:
                if exc_info[0] is None:
                    workspace.finish(self._message or describe_changes(self.status().changes))
                else:
                    with suppress(ClosedError):
                        workspace.rollback()
        finally:
            self.close()
