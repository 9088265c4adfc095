"""Addresses: `REV:data/COLUMN/KEY`, as `show`, `ls` and `cat` take them.

A column's name may hold `/`, and so may a key of a str column: the longest column that exists wins.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from stockroom.errors import ColumnNotFoundError, InvalidInputError, SampleNotFoundError

DATA_SHELF: Final = "data"


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a commit: `ref` names the commit, `path` what stands in it ("" is the commit itself)."""

    ref: str
    path: str


def parse_address(text: str) -> Address:
    """`REV:PATH`, `REV`, `:PATH`, or `data/...` alone; without a ref it is HEAD."""
    if ":" not in text and (text == DATA_SHELF or text.startswith(f"{DATA_SHELF}/")):
        text = f":{text}"
    ref, _, path = text.partition(":")
    return Address(ref or "HEAD", path)


def parse_path_address(text: str) -> Address:
    """`REV:PATH` or `PATH`: where a verb speaks of contents, a word without a colon is a path."""
    return parse_address(text if ":" in text else f":{text}")


def split_path(path: str, columns: Iterable[str]) -> tuple[str | None, str | None]:
    """Column and key text of `data/COLUMN/KEY`, each None where the path ends before it.

    Raises `InvalidInputError` where the path names no shelf, `ColumnNotFoundError` where no column fits.
    """
    shelf, _, rest = path.partition("/")
    if shelf != DATA_SHELF:
        raise InvalidInputError(
            f"expected a path of the form data/COLUMN or data/COLUMN/KEY, found {path!r}; "
            "`stock ls` lists the columns; a commit goes before the path, with a colon: REV: or REV:data/COLUMN"
        )
    if not rest:
        return None, None
    return _split_column(rest, list(columns))


def parse_key(text: str, key_type: str, *, column: str) -> int | str:
    """The key that `text` spells in a column with keys of `key_type` ("int" or "str")."""
    if key_type == "str":
        return text
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise SampleNotFoundError(
            f"data/{column} has int keys, found {text!r}; `stock ls data/{column}` lists the keys"
        )
    return int(text)


def _split_column(rest: str, columns: list[str]) -> tuple[str, str | None]:
    fitting = [name for name in columns if rest == name or rest.startswith(f"{name}/")]
    if not fitting:
        raise ColumnNotFoundError(_unknown_column(rest, columns))
    column = max(fitting, key=len)
    return column, rest[len(column) + 1 :] if len(rest) > len(column) else None


def _unknown_column(rest: str, columns: list[str]) -> str:
    near = difflib.get_close_matches(rest.partition("/")[0], columns, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`stock ls` lists the columns"
    return f"no column {rest!r} there; {hint}"
