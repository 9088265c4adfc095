"""A handle that writes beside others: each has a stage of its own, and none waits."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from stockroom.content.merge.strategy import make_decide
from stockroom.errors import ClosedError
from stockroom.remotes.lazy import choose_fetcher
from stockroom.repository.repository import Repository
from stockroom.repository.writing.branch_session import BranchSession
from stockroom.shelves.pin import Access
from stockroom.shelves.report import describe_changes
from stockroom.shelves.stock.open_writers import close_at_exit
from stockroom.shelves.stock.stock import StockRoom

if TYPE_CHECKING:
    from stockroom.content.merge.strategy import Strategy


class Session(StockRoom):
    """What `StockRoom.session` gives."""

    def __init__(
        self,
        stock: StockRoom,
        branch: str,
        name: str | None,
        *,
        message: str | None,
        strategy: Strategy,
        timeout_s: float,
    ) -> None:
        self.lazy = stock.lazy
        self._ref = None
        self._message = message
        decide = make_decide(strategy)
        self._repository = Repository.find(stock.path, make_fetcher=choose_fetcher(stock.lazy))
        try:
            session = BranchSession(self._repository, branch, name=name, timeout_s=timeout_s, decide=decide)
            self._access = Access(self._repository, session.base, session=session)
            self._pin_to(session.head)
            close_at_exit(self)  # what is staged under a name is made durable when the program ends
        except BaseException:
            self._repository.close()
            raise

    def __exit__(self, *exc_info: object) -> None:
        session = self._access.session
        try:
            if session is not None and not self._access.is_closed:
                if exc_info[0] is None:
                    session.finish(self._message or describe_changes(self.status().changes))
                else:
                    with suppress(ClosedError):
                        session.rollback()
        finally:
            self.close()
