"""What a handle tells of the tie to git."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stockroom.repository.repository import Repository
    from stockroom.repository.tie_status import TieStatus
    from stockroom.shelves.pin import Access


class _Handle(Protocol):
    _access: Access
    _repository: Repository


class GitActions:
    """The part of `StockRoom` that is about git."""

    def find_git_commits(self: _Handle) -> Mapping[str, str]:
        """Our commits and, for each that one of git's commits has in `head.stock`, the first such; full hex digests.

        Empty where git does not track `head.stock`. Raises `GitError` where git cannot be asked.
        """
        from stockroom.repository.git.history import find_carriers

        self._access.check_open()
        tie = self._repository.find_tie()
        carriers = {} if tie is None else find_carriers(tie)
        return MappingProxyType({commit.hex(): git_commit for commit, git_commit in carriers.items()})

    def describe_tie(self: _Handle) -> TieStatus:
        """Whether git tracks `head.stock`, where both sides stand, and what is installed in git."""
        from stockroom.repository.tie_status import describe_tie

        self._access.check_open()
        return describe_tie(self._repository)
