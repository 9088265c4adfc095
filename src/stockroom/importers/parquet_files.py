"""`stock import parquet FILE...`: a column for each of the table's; lists of numbers become arrays of any length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from stockroom.errors import InvalidInputError
from stockroom.importers.arrow_values import load_arrow, plan_column, read_values
from stockroom.importers.column_names import name_columns
from stockroom.importers.exported_parquet import find_exported
from stockroom.importers.source import BATCH_NBYTES, Importer, ImportSpec, KeyedSource, TableSource
from stockroom.importers.streams import translate_read_errors
from stockroom.shelves.data.table import Values

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
                return [exported.open(paths, count, _iter_record_batches)]
            names = name_columns(schema.names, str(paths[0]), spec.limits)
            plans = [plan_column(field, names[field.name], {}) for field in schema]
        return [TableSource(paths[0].name, plans, count, partial(_iter_batches, paths, names))]


def _read_schema(path: Path) -> tuple[Any, int]:
    with _open_file(path) as file:
        return file.schema_arrow, file.metadata.num_rows


def _iter_batches(paths: Sequence[Path], names: Mapping[str, str]) -> Iterator[dict[str, Values]]:
    for batch in _iter_record_batches(paths):
        columns = zip(batch.schema, batch.columns, strict=True)
        yield {names[field.name]: read_values(array, field) for field, array in columns}


def _iter_record_batches(paths: Sequence[Path]) -> Iterator[Any]:
    for path in paths:
        with _open_file(path) as file:
            yield from file.iter_batches(_count_rows(file.metadata))


def _count_rows(metadata: Any) -> int:
    """Return the number of rows that take some 8 MiB, by the sizes of row groups that the file states."""
    nbytes = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return int(max(1, min(_MAX_ROWS_AT_ONCE, BATCH_NBYTES * metadata.num_rows // max(1, nbytes))))


@contextmanager
def _open_file(path: Path) -> Iterator[Any]:
    load_arrow(str(path))
    from pyarrow import parquet

    if not path.is_file():
        raise InvalidInputError(f"{path}: no such file")
    with translate_read_errors(path, NOT_WHOLE), parquet.ParquetFile(path) as file:
        yield file
