"""The kinds of a table's cells, which are text: bool, int64, float64 or str, and the values of cells of each.

A cell that a number would not give back stays text: an id with a leading zero or a plus sign, an integer beyond 64
bits, a decimal with more digits than a float holds. A column of such a cell and others is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

import numpy as np

from stockroom.content.series import MAX_EXACT
from stockroom.shelves.data.table import Values

_BLANKS: Final = " \t"
_MAX_SURE_LENGTH: Final = 16
"""A decimal of so many characters, without an exponent, has at most 15 digits, which every float holds."""

_INT: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")  # neither 007 nor +49: those are not quantities
_FLOAT: Final = re.compile(
    r"[+-]?((0|[1-9][0-9]*)?\.[0-9]+(e[+-]?[0-9]{1,3})?|(0|[1-9][0-9]*)\.?e[+-]?[0-9]{1,3}|(0|[1-9][0-9]*)\.|inf|nan)",
    re.IGNORECASE,
)
_BOOLS: Final = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}


class CellKinds:
    """The kinds that fit every cell of a column so far; an empty cell is of every kind."""

    def __init__(self) -> None:
        self._fitting = dict(_FITS)
        self._is_empty = True

    def narrow(self, cells: Sequence[str]) -> None:
        """Drop the kinds that do not fit these cells."""
        there = [text for text in (cell.strip(_BLANKS) for cell in cells) if text] if self._fitting else ()
        self._is_empty = self._is_empty and not there
        for kind, fits in list(self._fitting.items()):
            if not all(map(fits, there)):
                del self._fitting[kind]

    def choose(self) -> str:
        """Return the first kind that fits every cell; a column of empty cells is text."""
        return "str" if self._is_empty else next(iter(self._fitting), "str")


def convert_cells(cells: Sequence[str], kind: str) -> Values:
    """Convert a column's cells. An empty cell is NaN among floats, no sample among other numbers, itself among text."""
    if kind == "str":
        return cells
    texts = [cell.strip(_BLANKS) for cell in cells]
    if kind == "float64":
        return np.array([float(text) if text else np.nan for text in texts])
    make: Callable[[str], int] = _BOOLS.__getitem__ if kind == "bool" else int
    if "" in texts:
        return [make(text) if text else None for text in texts]
    return np.array([make(text) for text in texts], kind)


def _fits_int(text: str) -> bool:
    return _INT.fullmatch(text) is not None and -(1 << 63) <= int(text) < 1 << 63


def _fits_float(text: str) -> bool:
    """Return whether a float gives this number back, in as many digits as it has here."""
    if _INT.fullmatch(text):
        return abs(int(text)) <= MAX_EXACT
    if not _FLOAT.fullmatch(text):
        return False
    if "e" not in text and "E" not in text and len(text) <= _MAX_SURE_LENGTH:
        return True
    return _is_kept(float(text), text)


def _is_kept(value: float, text: str) -> bool:
    shortest = repr(value)
    if shortest == text:
        return True
    exact = Decimal(text)
    digits = len(exact.as_tuple().digits)
    return exact == Decimal(shortest) or exact == Decimal(f"{value:.{max(0, digits - 1)}e}")


_FITS: Final[dict[str, Callable[[str], bool]]] = {
    "bool": _BOOLS.__contains__,
    "int64": _fits_int,
    "float64": _fits_float,
}
"""The kinds that do not fit every cell, as text does. A column takes the first one that fits all of its cells."""
