"""Which commits a log shows, besides where it begins: by author, message, time and number of parents; their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from stockroom.digest import CommitId
from stockroom.errors import InvalidInputError
from stockroom.refs.commit import CommitRecord
from stockroom.refs.graph import Follow

if TYPE_CHECKING:
    from stockroom.repository.path_history import PathHistory
    from stockroom.shelves.report import Commit


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChoice:
    """Conditions on the commits of a log, which must all hold, and their order.

    Attributes:
        author: a regular expression, found in `NAME <EMAIL>`.
        grep: a regular expression, found in the message.
        since, until: the earliest and the latest time.
        merges: True for merges only, False for none.
        first_parent: follow only the first parent of each merge.
        line_by_line: keep the commits of one line of history together, as in git's topological order.
    """

    author: str | None = None
    grep: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    merges: bool | None = None
    first_parent: bool = False
    line_by_line: bool = False

    def __post_init__(self) -> None:
        for pattern in (self.author, self.grep):
            _compile(pattern)

    def takes(self, commit: Commit) -> bool:
        """Return whether the log shows a commit."""
        return (
            (self.merges is None or self.merges == (len(commit.parents) > 1))
            and (self.since is None or commit.time >= self.since)
            and (self.until is None or commit.time <= self.until)
            and _is_in(self.author, f"{commit.author} <{commit.email}>")
            and _is_in(self.grep, commit.message)
        )

    def limit_to(self, history: PathHistory | None) -> Follow | None:
        """Return the choice of the parents to continue with; None is all of them."""
        if not self.first_parent:
            return None if history is None else history.follow

        def follow(commit: CommitId, record: CommitRecord, parents: Sequence[CommitId]) -> Sequence[CommitId]:
            first = [parent for parent in parents[:1] if parent == record.parents[0]]
            return first if history is None else history.follow(commit, record, first)

        return follow


def _is_in(pattern: str | None, text: str) -> bool:
    compiled = _compile(pattern)
    return compiled is None or compiled.search(text) is not None


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise InvalidInputError(f"expected a regular expression, found {pattern!r} ({error})") from error


EVERY_COMMIT: Final = LogChoice()
