"""`stock import csv FILE...`: a column for each of the table's, the first of bool, int64, float64 and str that fits.

Owns the rules for a file's encoding and delimiter, and for a cell's text. The files are read twice: first to find the
types, then to read the values. `csv_cells.py` owns the kinds of cells.
"""

from __future__ import annotations

import codecs
import csv
import io
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.column_names import name_columns
from stockroom.importers.csv_cells import CellKinds, convert_cells
from stockroom.importers.left_out import LeftOut
from stockroom.importers.limits import MAX_CELL_LENGTH, Limits
from stockroom.importers.source import Importer, ImportSpec, TableSource
from stockroom.importers.streams import translate_read_errors
from stockroom.shelves.data.table import ColumnPlan, Values
from stockroom.shelves.data.values import Schema

_CELLS_AT_ONCE: Final = 1 << 17
_ROWS_AT_ONCE: Final = 4096
_DELIMITERS: Final = ",;\t|"
_SAMPLE_LENGTH: Final = 1 << 18
_SAMPLE_ROWS: Final = 100
_MARKS: Final = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark begins it
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The byte order marks that name an encoding. A file without one is UTF-8."""


class CsvImporter(Importer):
    """Reads comma-separated values in UTF-8 or UTF-16 with titles in the first line; also with tabs, semicolons, bars.

    A pipe is copied to a temporary file, since a table is read twice; `-` is the standard input.
    """

    name = "csv"

    def open(self, spec: ImportSpec) -> Sequence[TableSource]:
        """Return the table of the rows of all files in `spec.paths`, which must have the same titles."""
        paths = [Path("/dev/stdin") if path == Path("-") else path for path in spec.paths]
        named = replace(spec, paths=tuple(paths)).list_paths(".csv")
        files = [_CsvFile.detect(path, spec.limits) for path in named]
        titles = files[0].read_titles()
        names = list(name_columns(titles, str(files[0].path), spec.limits).values())
        for file in files[1:]:
            _check_titles(file, titles, files[0].path)
        table = _Table(files, names, spec.skip_broken)
        kinds, count = table.detect_kinds()
        plans = [
            ColumnPlan(name, Schema(kind, (None,) if kind == "str" else ()), {} if name == title else {"title": title})
            for name, title, kind in zip(names, titles, kinds, strict=True)
        ]
        batches = partial(table.iter_batches, kinds)
        return [TableSource(files[0].path.name, plans, count, batches, table.skipped, table.left_out)]


def _check_titles(file: _CsvFile, titles: Sequence[str], first: Path) -> None:
    found = file.read_titles()
    if found != titles:
        what = "them in another order" if sorted(found) == sorted(titles) else "others"
        raise InvalidInputError(f"{file.path}: expected the titles of {first}, found {what}; import it separately")


@dataclass(frozen=True, slots=True)
class _Table:
    files: Sequence[_CsvFile]
    names: Sequence[str]
    skip_broken: bool
    skipped: list[str] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)

    def detect_kinds(self) -> tuple[list[str], int]:
        """Return the kind of each column, by all of its cells, and the number of rows."""
        kinds = [CellKinds() for _ in self.names]
        count = 0
        for rows in self._iter_row_batches():
            count += len(rows)
            for kind, cells in zip(kinds, zip(*rows, strict=True), strict=True):
                kind.narrow(cells)
        return [kind.choose() for kind in kinds], count

    def iter_batches(self, kinds: Sequence[str]) -> Iterator[dict[str, Values]]:
        """Yield batches of the rows, by column."""
        for rows in self._iter_row_batches():
            columns = zip(self.names, kinds, zip(*rows, strict=True), strict=True)
            yield {name: convert_cells(cells, kind) for name, kind, cells in columns}

    def _iter_row_batches(self) -> Iterator[list[list[str]]]:
        self.skipped.clear()
        self.left_out.clear()
        size = max(1, min(_ROWS_AT_ONCE, _CELLS_AT_ONCE // len(self.names)))
        left = self._iter_rows()
        while rows := list(islice(left, size)):
            yield rows

    def _iter_rows(self) -> Iterator[list[str]]:
        """Yield rows with as many cells as there are titles. Empty lines are not rows."""
        for file in self.files:
            with file.open_rows() as reader:
                next(reader)
                for row in reader:
                    if len(row) == len(self.names):
                        yield row
                    elif row:
                        self._pass_over(file.path, reader.line_num, len(row))
                    else:
                        self.left_out.add(f"{file.path}, line {reader.line_num}", "empty line", "line")

    def _pass_over(self, path: Path, line: int, count: int) -> None:
        problem = f"{path}, line {line}: expected {len(self.names)} cells, found {count}"
        if not self.skip_broken:
            raise CorruptionError(f"{problem}; fix it, or skip such lines with --skip-broken", where=str(path))
        self.skipped.append(problem)


@dataclass(frozen=True, slots=True)
class _CsvFile:
    """A file with its encoding and delimiter. `content` is the open copy of a pipe's bytes, or None."""

    path: Path
    limits: Limits
    encoding: str
    delimiter: str = ","
    content: Any = None

    @classmethod
    def detect(cls, path: Path, limits: Limits) -> _CsvFile:
        """Return a file, with the encoding that its mark names and the delimiter that fits its first lines."""
        with translate_read_errors(path):
            content = _copy_pipe(path)
            with Path(path if content is None else content.name).open("rb") as file:
                head = file.read(4)
        encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
        found = cls(path, limits, encoding, content=content)
        with found._open_text() as text:
            sample = text.read(_SAMPLE_LENGTH)
        if "\x00" in sample:
            raise InvalidInputError(
                f"{path}: expected text, found NUL characters; convert UTF-16 without a byte order mark to UTF-8 first"
            )
        return cls(path, limits, encoding, _choose_delimiter(sample), content)

    def read_titles(self) -> list[str]:
        """Return the first row. Raises `InvalidInputError` if there is none, or if a title occurs twice."""
        with self.open_rows() as reader:
            titles: list[str] = next(reader, [])
        if not titles:
            raise InvalidInputError(f"{self.path}: expected column titles in the first line, found none")
        if len(set(titles)) < len(titles):
            ((twice, _),) = Counter(titles).most_common(1)
            raise InvalidInputError(f"{self.path}: expected unique column titles, found {twice!r} twice")
        return titles

    @contextmanager
    def open_rows(self) -> Iterator[Any]:
        """Yield a reader of the rows, with all of its errors translated to ours."""
        limit = int(MAX_CELL_LENGTH * self.limits.factor)
        with self._open_text() as file:
            before = csv.field_size_limit(limit)  # of the whole process
            try:
                yield csv.reader(file, delimiter=self.delimiter, strict=True)
            except csv.Error as error:
                if "field limit" in str(error):
                    self.limits.check(limit + 1, MAX_CELL_LENGTH, "characters in a cell", where=self.path)
                raise
            finally:
                csv.field_size_limit(before)

    @contextmanager
    def _open_text(self) -> Iterator[Any]:
        source = self.path if self.content is None else Path(self.content.name)
        with (
            translate_read_errors(self.path, "expected comma-separated values"),
            source.open(encoding=self.encoding, newline="") as file,
        ):
            try:
                yield file
            except UnicodeError as error:
                raise InvalidInputError(
                    f"{self.path}: expected text in UTF-8, or UTF-16 with its mark, found other bytes: {error}; "
                    f"convert it first, for example with `iconv -f WINDOWS-1252 -t UTF-8`"
                ) from error


def _copy_pipe(path: Path) -> Any:
    """Return a temporary file with the bytes of a pipe or terminal, which can be read only once; None for a file."""
    mode = path.stat().st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)):
        return None
    copy = tempfile.NamedTemporaryFile(prefix="stockroom-csv-")  # noqa: SIM115 - it lives as long as the table
    with path.open("rb") as file:
        shutil.copyfileobj(file, copy)
    copy.flush()
    return copy


def _choose_delimiter(sample: str) -> str:
    """Return the delimiter that gives most of the first rows as many cells as the titles, and more than one."""
    return max(_DELIMITERS, key=lambda delimiter: _rate_delimiter(sample, delimiter))


def _rate_delimiter(sample: str, delimiter: str) -> tuple[float, float, int]:
    """Return the part of the rows that fit the titles, the part of titles without a blank before, and their number."""
    rows: list[list[str]] = []
    with suppress(csv.Error):  # such as a cell over the limit: the rows before it have to do
        rows.extend(islice(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter), _SAMPLE_ROWS))
    if len(sample) == _SAMPLE_LENGTH and len(rows) > 1:
        del rows[-1]  # it may be cut off
    if not rows or len(rows[0]) < 2:
        return 0.0, 0.0, 0
    titles, others = rows[0], [row for row in rows[1:] if row]
    fitting = sum(len(row) == len(titles) for row in others)
    plain = sum(not title.startswith(" ") for title in titles) / len(titles)
    return (1 + fitting) / (1 + len(others)), plain, len(titles)
