"""`stock import csv FILE...`: a column for each of the table's, the first of bool, int64, float64 and str that fits.

Owns the rules for a cell's text. The files are read twice: first to find the types, then to read the values.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.column_names import name_columns
from stockroom.importers.source import Importer, ImportSpec, TableSource
from stockroom.importers.streams import translate_read_errors
from stockroom.shelves.data.table import ColumnPlan, Values
from stockroom.shelves.data.values import Schema

_ROWS_AT_ONCE: Final = 4096
_DELIMITERS: Final = ",;\t|"
_KINDS: Final = ("bool", "int64", "float64", "str")
"""A column gets the first kind that fits all of its cells."""

_INT: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")  # neither 007 nor +49: those are not quantities
_FLOAT: Final = re.compile(
    r"[+-]?((0|[1-9][0-9]{0,14})|(0|[1-9][0-9]*)?\.[0-9]+(e[+-]?[0-9]{1,3})?|(0|[1-9][0-9]*)\.?e[+-]?[0-9]{1,3}"
    r"|(0|[1-9][0-9]*)\.|inf|nan)",
    re.IGNORECASE,
)  # a whole number with more digits than a float holds is text
_BOOLS: Final = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}


class CsvImporter(Importer):
    """Reads comma-separated values in UTF-8 with titles in the first line; also with tabs, semicolons or bars."""

    name = "csv"

    def open(self, spec: ImportSpec) -> Sequence[TableSource]:
        """Return the table of the rows of all files in `spec.paths`, which must have the same titles."""
        paths = spec.list_paths(".csv")
        titles = _read_titles(paths[0])
        for path in paths[1:]:
            if _read_titles(path) != titles:
                raise InvalidInputError(
                    f"{path}: expected the titles of {paths[0]}, found others; import it separately"
                )
        names = list(name_columns(titles, str(paths[0])).values())
        table = _Table(paths, names, spec.skip_broken, [])
        kinds, count = table.detect_kinds()
        plans = [
            ColumnPlan(name, Schema(kind, (None,) if kind == "str" else ()), {} if name == title else {"title": title})
            for name, title, kind in zip(names, titles, kinds, strict=True)
        ]
        return [TableSource(paths[0].name, plans, count, partial(table.iter_batches, kinds), table.skipped)]


@dataclass(frozen=True, slots=True)
class _Table:
    paths: Sequence[Path]
    names: Sequence[str]
    skip_broken: bool
    skipped: list[str]

    def detect_kinds(self) -> tuple[list[str], int]:
        """Return the kind of each column, and the number of rows."""
        kinds: list[str | None] = [None] * len(self.names)
        count = 0
        for row in self._iter_rows():
            count += 1
            for index, cell in enumerate(row):
                if cell and kinds[index] != "str":
                    kinds[index] = _widen(kinds[index], cell)
        return [kind or "str" for kind in kinds], count

    def iter_batches(self, kinds: Sequence[str]) -> Iterator[dict[str, Values]]:
        """Yield batches of the rows, by column."""
        self.skipped.clear()
        left = self._iter_rows()
        while rows := list(islice(left, _ROWS_AT_ONCE)):
            columns = zip(self.names, kinds, zip(*rows, strict=True), strict=True)
            yield {name: _convert(cells, kind) for name, kind, cells in columns}

    def _iter_rows(self) -> Iterator[list[str]]:
        """Yield rows with as many cells as there are titles. Empty lines are not rows."""
        for path in self.paths:
            with _open_rows(path) as reader:
                next(reader)
                for row in reader:
                    if len(row) == len(self.names):
                        yield row
                    elif row:
                        self._pass_over(path, reader.line_num, len(row))

    def _pass_over(self, path: Path, line: int, count: int) -> None:
        problem = f"{path}, line {line}: expected {len(self.names)} cells, found {count}"
        if not self.skip_broken:
            raise CorruptionError(f"{problem}; fix it, or skip such lines with --skip-broken", where=str(path))
        self.skipped.append(problem)


def _read_titles(path: Path) -> list[str]:
    with _open_rows(path) as reader:
        titles: list[str] = next(reader, [])
    if not titles:
        raise InvalidInputError(f"{path}: expected column titles in the first line, found none")
    if len(set(titles)) < len(titles):
        twice = next(title for title in titles if titles.count(title) > 1)
        raise InvalidInputError(f"{path}: expected unique column titles, found {twice!r} twice")
    return titles


@contextmanager
def _open_rows(path: Path) -> Iterator[Any]:
    """Yield a reader of the rows of a file, with all of its errors translated to ours."""
    with (
        translate_read_errors(path, "expected comma-separated values"),
        path.open(encoding="utf-8-sig", newline="") as file,
    ):
        try:
            first = file.readline(1 << 16)
            file.seek(0)
            delimiter = max(_DELIMITERS, key=first.count)
            yield csv.reader(file, delimiter=delimiter, strict=True)
        except UnicodeDecodeError as error:
            raise CorruptionError(
                f"{path}: expected text in UTF-8, found other bytes: {error}", where=str(path)
            ) from error


def _widen(kind: str | None, cell: str) -> str:
    """Return the kind that fits the cells of `kind` (None: there were none yet) and this one too."""
    if kind is None:
        return next(each for each in _KINDS if _fits(cell, each))
    if _fits(cell, kind):
        return kind
    return "float64" if kind == "int64" and _fits(cell, "float64") else "str"


def _fits(cell: str, kind: str) -> bool:
    match kind:
        case "bool":
            return cell in _BOOLS
        case "int64":
            return _INT.fullmatch(cell) is not None and -(1 << 63) <= int(cell) < 1 << 63
        case "float64":
            return _FLOAT.fullmatch(cell) is not None
        case _:
            return True


def _convert(cells: Sequence[str], kind: str) -> Values:
    """Convert a column's cells. An empty cell is NaN among floats, no sample among integers, itself among text."""
    if kind == "str":
        return cells
    if kind == "float64":
        return np.array([float(cell) if cell else np.nan for cell in cells])
    make = _BOOLS.__getitem__ if kind == "bool" else int
    if "" in cells:
        return [make(cell) if cell else None for cell in cells]
    return np.array([make(cell) for cell in cells], kind)
