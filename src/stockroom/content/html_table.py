"""HTML tables for notebooks, with all text escaped and truncated, and a limited number of rows."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from stockroom.content.printable import as_printable

MAX_ROWS: Final = 50
MAX_TEXT: Final = 120
_STYLE: Final = "text-align:left;vertical-align:top"


class Markup(str):
    """HTML to insert as it is; any other value is escaped as text."""

    __slots__ = ()


def format_table(title: str, rows: Iterable[Sequence[object]], *, headings: Sequence[str] = ()) -> str:
    """Return a table under a title with at most `MAX_ROWS` rows; a last line says if there are more."""
    remaining = iter(rows)
    lines = list(islice(remaining, MAX_ROWS))
    more = "" if next(remaining, None) is None else "<p>and more</p>"
    head = "".join(f'<th style="{_STYLE}">{escape(heading)}</th>' for heading in headings)
    cells = ("".join(f'<td style="{_STYLE}">{escape(cell)}</td>' for cell in line) for line in lines)
    body = "".join(f"<tr>{line}</tr>" for line in cells)
    return f"<div><p><b>{escape(title)}</b></p><table>{f'<tr>{head}</tr>' if head else ''}{body}</table>{more}</div>"


def escape(value: object) -> str:
    """Return a value as text safe in HTML, printable and cut to `MAX_TEXT` characters; markup is unchanged."""
    if isinstance(value, Markup):
        return value
    text = str(value)
    cut = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
    return html.escape(as_printable(cut))
