"""The words of `log`, `diff`, `reset` and `blame`: revisions, then paths, with or without `--` between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from stockroom.cli.address import NOUNS
from stockroom.cli.failures import CommandLineError
from stockroom.errors import NotFoundError

if TYPE_CHECKING:
    from stockroom import StockRoom

_AGO: Final = re.compile(r"(\d+)[ .]+(second|minute|hour|day|week|month|year)s?(?:[ .]+ago)?")
_DAYS: Final = {"day": 1, "week": 7, "month": 30, "year": 365}
_NAMED: Final = {"now": timedelta(0), "today": timedelta(0), "yesterday": timedelta(days=1)}


def split_words(stock: StockRoom, words: Sequence[str], paths: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the revisions and the paths among some words; `paths` are those after `--`, or None without one.

    Without `--`, the first word that is no revision and begins with a shelf is the first path.
    """
    if paths is not None:
        return list(words), list(paths)
    for position, word in enumerate(words):
        if not _is_revision(stock, word):
            return list(words[:position]), list(words[position:])
    return list(words), []


def _is_revision(stock: StockRoom, word: str) -> bool:
    """Return whether a word is a revision; raises `RefNotFoundError` if it is neither that nor a path."""
    try:
        stock.log(word, 0)
    except NotFoundError:
        if word.partition("/")[0] in NOUNS:
            return False
        raise
    return True


def parse_time(text: str | None) -> datetime | None:
    """Parse a time such as 2026-11-30, 2026-11-30T12:00, "2 weeks ago" or yesterday, in this machine's time zone."""
    if text is None:
        return None
    now = datetime.now().astimezone()
    words = text.strip().lower()
    if words in _NAMED:
        return now - _NAMED[words]
    match = _AGO.fullmatch(words)
    if match is not None:
        unit, count = match[2], int(match[1])
        try:
            return now - timedelta(**{f"{unit}s": count} if unit not in _DAYS else {"days": count * _DAYS[unit]})
        except OverflowError as error:
            raise CommandLineError(f"expected a time that this calendar has, found {text!r}") from error
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except ValueError as error:
        raise CommandLineError(f"expected a time such as 2026-11-30 or '2 weeks ago', found {text!r}") from error
