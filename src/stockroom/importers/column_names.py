"""Makes names of columns from the titles in tables, files and archives."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from stockroom.errors import InvalidInputError, InvalidNameError
from stockroom.importers.limits import DEFAULT, MAX_COLUMNS, Limits
from stockroom.refs import check_name

_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\]\\/{}]+|\.\.+|@(?=\{)")
_MAX_LENGTH: Final = 60


def name_columns(titles: Collection[str], where: str, limits: Limits = DEFAULT) -> dict[str, str]:
    """Map each title to the name of its column: the title, with `_` for anything that a name may not contain.

    Raises `InvalidInputError` naming `where` if two titles, or their names, are the same, or if there are too many.
    """
    limits.check(len(titles), MAX_COLUMNS, "columns", where=where)
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for number, title in enumerate(titles):
        name = _make_name(title, number)
        if title in names or name.casefold() in taken:
            other = taken.get(name.casefold(), title)
            raise InvalidInputError(
                f"{where}: {other[:40]!r} and {title[:40]!r} both become column {name!r}; rename one of them"
            )
        taken[name.casefold()], names[title] = title, name
    return names


def _make_name(title: str, number: int) -> str:
    name = _FORBIDDEN.sub("_", title.encode("utf-8", "replace").decode()).strip("._-")[:_MAX_LENGTH].rstrip(".")
    try:
        check_name("column", name)
    except InvalidNameError:
        return f"column{number}"
    return name
