"""`stock import parquet FILE...`: a column for each of the table's; lists of numbers become arrays of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stockroom.errors import InvalidInputError
from stockroom.importers.column_names import name_columns
from stockroom.importers.exported.parquet_file import find_exported
from stockroom.importers.left_out import LeftOut
from stockroom.importers.source import BATCH_NBYTES, Importer, ImportSpec, KeyedSource, TableSource
from stockroom.importers.streams import translate_read_errors
from stockroom.shelves.data.table import ColumnPlan, Values, check_arrow
from stockroom.shelves.data.values import Schema

if TYPE_CHECKING:
    from stockroom.shelves.data.arrow_table import ArrowTable

NOT_WHOLE: Final = "incomplete or damaged"
_MAX_ROWS_AT_ONCE: Final = 1 << 16


class ParquetImporter(Importer):
    """Reads Parquet files through pyarrow."""

    name = "parquet"

    def open(self, spec: ImportSpec) -> Sequence[TableSource | KeyedSource]:
        """Return the table of the rows of all files in `spec.paths`, which must have the same columns.

        A file that `stock export` wrote is one column, with its keys.
        """
        paths = spec.list_paths(".parquet")
        check_arrow(str(paths[0]))
        from stockroom.shelves.data.arrow_table import ArrowTable  # needs the extra

        schema, count = _read_schema(paths[0])
        for path in paths[1:]:
            other, rows = _read_schema(path)
            if not other.equals(schema):
                raise InvalidInputError(
                    f"{path}: expected the columns of {paths[0]}, found others; import it separately"
                )
            count += rows
        values, stored = count * len(schema.names), sum(path.stat().st_size for path in paths)
        spec.limits.check_expansion(values, paths[0], stored_nbytes=stored)  # each takes a byte at least
        with translate_read_errors(paths[0], NOT_WHOLE):
            if (exported := find_exported(schema)) is not None:
                return [exported.open(paths, count, _iter_batches)]
            table = ArrowTable(schema, name_columns(schema.names, str(paths[0]), spec.limits))
            table.check(_iter_batches(paths, table.unchecked))
        return make_sources(table, paths[0].name, count, partial(_iter_batches, paths))


def make_sources(
    table: ArrowTable, name: str, count: int | None, iter_batches: Callable[[], Iterator[Any]]
) -> list[TableSource]:
    """Return the sources of a table's columns, which are read from Arrow's record batches."""
    left_out = LeftOut()

    def read() -> Iterator[dict[str, Values]]:
        left_out.clear()
        for part in table.left_out:
            left_out.add(f"{name}: {part[0]}", *part[1:])
        for batch in iter_batches():
            with translate_read_errors(name, NOT_WHOLE):  # such as text that is not UTF-8
                values = table.read(batch, lambda part, *more: left_out.add(f"{name}: {part}", *more), where=name)
            yield values

    tables = [TableSource(name, table.plans, count, read, left_out=left_out)]
    for column, classes in table.class_columns.items():
        plan = ColumnPlan(column, Schema("str", (None,)))
        tables.append(TableSource(column, [plan], len(classes), partial(_iter_one, column, classes)))
    return tables


def _iter_one(column: str, values: Values) -> Iterator[dict[str, Values]]:
    yield {column: values}


def _read_schema(path: Path) -> tuple[Any, int]:
    with _open_file(path) as file:
        return file.schema_arrow, file.metadata.num_rows


def _iter_batches(paths: Sequence[Path], titles: Sequence[str] | None = None) -> Iterator[Any]:
    """Yield the record batches of all files, with the columns of these titles, or all."""
    for path in paths if titles is None or titles else ():
        with _open_file(path) as file:
            yield from file.iter_batches(_count_rows(file.metadata), columns=titles)


def _count_rows(metadata: Any) -> int:
    """Return the number of rows that take some 8 MiB, by the sizes of row groups that the file states."""
    nbytes = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return int(max(1, min(_MAX_ROWS_AT_ONCE, BATCH_NBYTES * metadata.num_rows // max(1, nbytes))))


@contextmanager
def _open_file(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file")
    with translate_read_errors(path, NOT_WHOLE), parquet.ParquetFile(path) as file:
        yield file
