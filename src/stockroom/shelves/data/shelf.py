"""The data shelf: columns by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stockroom.content.column import ColumnRecord, check_attrs, check_schema
from stockroom.content.column_edit import ColumnEdit
from stockroom.content.snapshot import DATA, name_path
from stockroom.digest import DIGEST_NBYTES
from stockroom.errors import ColumnNotFoundError, InvalidInputError, SchemaError
from stockroom.refs import check_collision, check_name
from stockroom.repository.writing.workspace import Workspace
from stockroom.shelves.data.assigned import infer_bulk_schema, no_samples, split_keys, widen_to_admit
from stockroom.shelves.data.column import Column
from stockroom.shelves.data.images import check_decoder
from stockroom.shelves.data.open_column import OpenColumn
from stockroom.shelves.data.values import (
    Schema,
    format_shape,
)
from stockroom.shelves.pin import Shelf
from stockroom.store.codecs import AUTO
from stockroom.store.dtypes import format_dtype, parse_dtype
from stockroom.trees import KeyType

if TYPE_CHECKING:
    from stockroom.shelves.data.casting import Cast
    from stockroom.shelves.data.writer import ColumnWriter

TABLE_HEADINGS: Final = ("column", "dtype", "shape", "samples")


class DataShelf(Shelf[Column]):
    """A mapping from names to columns, in order of name.

    `shelf[name] = samples` creates or replaces a column, from an array `(n, ...)`, a list of samples, or a mapping from
    keys to samples. `shelf[name, key]` is one sample, to read, write or delete.
    """

    _shelf = DATA
    _noun = "column"
    _not_found = ColumnNotFoundError

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, tuple) and len(name) > 1:
            return Column(OpenColumn(self._pin, name[0]))[_key_after(name)]
        if not isinstance(name, str):
            raise SchemaError(f"expected a column name, or (name, key), found {name!r}")
        return Column(OpenColumn(self._pin, name))

    def __setitem__(self, name: Any, values: object) -> None:
        if not isinstance(name, tuple) or len(name) == 1:
            self._assign(name, values)
        elif name[0] in self or not isinstance(name[0], str):
            self[name[0]][_key_after(name)] = values
        else:
            self._assign(name[0], {_key_after(name): values})

    def __delitem__(self, name: Any) -> None:
        if isinstance(name, tuple) and len(name) > 1:
            del self[name[0]][_key_after(name)]
            return
        workspace = self._pin.writer()
        if name not in self:
            raise self._missing(name)
        workspace.delete(name_path(DATA, name))

    def _repr_html_(self) -> str:
        from stockroom.content.html_table import format_table  # here for start-up time

        return format_table(f"{len(self)} columns", list_columns(self), headings=TABLE_HEADINGS)

    def create(
        self,
        name: str,
        *,
        dtype: Any = None,
        shape: Sequence[int | None] | int = (),
        keys: str = "int",
        codec: str = AUTO,
        attrs: Mapping[str, Any] | None = None,
        decoder: str | None = None,
    ) -> Column:
        """Create an empty column and return it.

        Args:
            name: a name that follows git's rules for refs.
            dtype: a numpy dtype or its name, a torch dtype, or `str` or `bytes`.
            shape: the shape of one sample; None is an axis of any length. Leave it out for str and bytes.
            keys: `int` or `str`.
            codec: `auto`, `raw`, `lz4`, `zstd` or `blosc`.
            attrs: a small JSON mapping of your own.
            decoder: `image` for a column that takes JPEG or PNG files, stores their bytes and returns arrays;
                `image:RGB`, `image:RGBA` or `image:L` for arrays of that mode. Its dtype is bytes, and may be left out.

        Raises `SchemaError` or `InvalidNameError`, or `InvalidInputError` if the column exists.
        """
        if decoder is not None:
            check_decoder(decoder, f"column {name!r}")
            dtype = bytes if dtype is None else dtype
        dtype_name = _format_any_dtype(dtype)
        is_text = dtype_name in ("str", "bytes")
        axes = _parse_shape(name, shape)
        schema = Schema(dtype_name, (None,) if is_text and axes == () else axes)
        self._create(name, schema, keys, codec=codec, attrs=attrs, decoder=decoder)
        return self[name]  # type: ignore[no-any-return]

    def _create(
        self,
        name: str,
        schema: Schema,
        keys: str,
        *,
        codec: str = AUTO,
        attrs: Mapping[str, Any] | None = None,
        decoder: str | None = None,
    ) -> ColumnWriter:
        workspace = self._pin.writer()
        key_type = keys if isinstance(keys, str) else getattr(keys, "__name__", repr(keys))
        record = ColumnRecord(
            dtype=schema.dtype,
            shape=schema.shape,
            key_type=str(key_type),
            codec=codec,
            root=bytes(DIGEST_NBYTES),
            attrs=check_attrs(attrs or {}, column=name),
            decoder=decoder,
        )
        self._check_new(name)
        check_schema(record)
        return _make_writer(workspace, workspace.create_column(name_path(DATA, name), record), name)

    def rename(self, old: str, new: str) -> Column:
        """Rename the column `old` to `new` and return it; writes no sample."""
        copied = self.copy(old, new)
        del self[old]
        return copied

    def copy(self, source: str, name: str) -> Column:
        """Create a column with the samples, keys and attrs of `source`, and return it; shares all chunks.

        Raises `ColumnNotFoundError`, `InvalidNameError`, or `InvalidInputError` if `name` is taken.
        """
        workspace = self._pin.writer()
        with workspace.lock:
            edit = self.get_edit(source)
            self._check_new(name)
            workspace.create_column(name_path(DATA, name), edit.record).adopt(edit)
        return self[name]  # type: ignore[no-any-return]

    def cast(self, name: str, dtype: Any, *, lossy: bool = False) -> Column:
        """Change the dtype of a column and return it; keys, shape, codec and attrs stay.

        If the bytes do not change, as from bool to uint8 or str to bytes, nothing is written. Narrower floats are
        rounded. All other values must fit, unless `lossy`; otherwise raises `SchemaError` naming a key.
        """
        from stockroom.shelves.data.casting import plan_cast  # here for start-up time

        return self._cast(name, lambda record: plan_cast(record, _format_any_dtype(dtype), name), lossy=lossy)

    def widen(self, name: str, shape: Sequence[int | None]) -> Column:
        """Let the axes where `shape` has None have any length, and return the column; writes no chunk.

        Raises `SchemaError` if the column's samples do not fit `shape`.
        """
        from stockroom.shelves.data.casting import plan_widening  # here for start-up time

        return self._cast(name, lambda record: plan_widening(record, _parse_shape(name, shape), name), lossy=False)

    def import_from(
        self,
        dataset: Any,
        names: Sequence[str] | None = None,
        *,
        prefix: str = "",
        on_progress: Callable[[int], object] | None = None,
    ) -> tuple[str, ...]:
        """Put every sample of a data set, such as one of torch's, into columns, and return the columns' names.

        The columns replace those of the same names, with a warning if these had other samples. A row's number is its
        key. Memory use is bounded.

        Args:
            dataset: has `__getitem__` and `__len__`, or `__iter__`. Its samples are dicts with one column for each key
                (nested keys are joined by a dot), or tuples, or single values. A dict is a table: lists or arrays of
                one length by column. So is a data frame of pandas or Polars, or an Arrow table; an index that does
                more than number the rows is a column.
            names: the columns for the items of tuples, or of a data frame; `item0`, `item1`, ..., or its titles, if
                left out.
            prefix: is put before all names.
            on_progress: called from time to time with the number of rows.

        Images become arrays (palette images their indices), lists of numbers too; other lists become JSON text. A row
        without a value, or with None, has no key in that column. If a value cannot be a sample, raises `SchemaError`
        naming the sample, or column and key, and restores the columns.
        """
        from stockroom.shelves.data.dataset_rows import import_samples, read_dataset  # here for start-up time
        from stockroom.shelves.data.table import GrowingColumns

        plans, batches = read_dataset(dataset, names, prefix=prefix)
        return import_samples(GrowingColumns(self, plans), batches, on_progress=on_progress)

    def _cast(self, name: str, plan: Callable[[ColumnRecord], Cast | None], *, lossy: bool) -> Column:
        """Apply the cast that `plan` returns for a column's record, and return the column."""
        from stockroom.shelves.data.casting import cast_column  # here for start-up time

        workspace = self._pin.writer()
        with workspace.lock:
            cast = plan(self.get_edit(name).finish())
            if cast is not None:
                fresh = cast_column(workspace, Column(OpenColumn(self._pin, name), decodes=False), cast, lossy=lossy)
                workspace.delete(name_path(DATA, name))
                workspace.create_column(name_path(DATA, name), cast.record).adopt(fresh)
        return self[name]  # type: ignore[no-any-return]

    def take_out(self, *names: str) -> dict[str, ColumnEdit | None]:
        """Remove the columns that exist, and return the edit of each for `put_back`."""
        workspace = self._pin.writer()
        edits = {name: workspace.find_column(name_path(DATA, name)) for name in names}
        workspace.delete(*(name_path(DATA, name) for name in names))
        return edits

    def keep_keys(self, name: str) -> None:
        """Take the keys of the samples appended to a column as chosen, such as the numbers of rows: they never move."""
        self.get_edit(name).appended = range(0)

    def put_back(self, name: str, edit: ColumnEdit | None) -> None:
        """Restore the column that `take_out` returned, replacing any column of that name."""
        workspace = self._pin.writer()
        workspace.delete(name_path(DATA, name))
        if edit is not None:
            workspace.create_column(name_path(DATA, name), edit.finish()).adopt(edit)

    def get_edit(self, name: str) -> ColumnEdit:
        """Return the edit of a column in the open workspace; raises `ColumnNotFoundError`."""
        edit = self._pin.writer().find_column(name_path(DATA, name))
        if edit is None:
            raise self._missing(name)
        return edit

    def _check_new(self, name: str) -> None:
        """Raise `InvalidNameError` or `InvalidInputError` unless a column can be created under this name."""
        check_name("column", name)
        if name in self:
            raise InvalidInputError(f"column {name!r} already exists; delete it first, or assign to it")
        other = self._pin.writer().find_colliding(name)
        check_collision("column", name, () if other is None else (other,))

    def _assign(self, name: Any, values: object) -> None:
        """Make `values` the column's content; creates the column if needed, with a schema inferred from them."""
        workspace = self._pin.writer()
        if not isinstance(name, str):
            raise SchemaError(f"expected a column name, found {name!r}")
        keys, samples = split_keys(name, values)
        edit = workspace.find_column(name_path(DATA, name))
        key_type = KeyType.STR if keys and isinstance(keys[0], str) else KeyType.INT
        if edit is not None:
            if key_type != edit.record.key_type and keys != []:
                raise SchemaError(f"column {name!r} has {edit.record.key_type} keys; to change them, delete it first")
            if isinstance(values, Column):
                _check_decoder_kept(name, edit.record, values)
            _make_writer(workspace, edit, name).replace_all(keys, samples)
            return
        if isinstance(values, Column):
            codec, attrs, decoder = values.codec, values.attrs, values.decoder
            writer = self._create(name, values.schema, values.key_type, codec=codec, attrs=attrs, decoder=decoder)
        elif isinstance(samples, np.ndarray | list | tuple):
            writer = self._create(name, infer_bulk_schema(name, samples, keys), key_type)
        else:
            self._create_from_iterator(name, iter(samples))  # type: ignore[call-overload]
            return
        with self._removed_on_error(name):
            writer.replace_all(keys, samples)

    def _create_from_iterator(self, name: str, samples: Iterator[Any]) -> None:
        """Create a column at the first sample; widen it at one of another shape. Only one sample is in memory.

        Each sample is stored before the next is read, so an iterator may yield the same buffer again and again.
        """
        schema: Schema | None = None
        with self._pin.writer().lock, ExitStack() as on_error:
            for key, sample in enumerate(samples):
                wider = widen_to_admit(schema, name, key, sample)
                if schema is None:
                    self._create(name, wider, KeyType.INT)
                    on_error.enter_context(self._removed_on_error(name))
                elif wider != schema:
                    self.widen(name, wider.shape)
                if wider != schema:
                    schema, writer = wider, _make_writer(self._pin.writer(), self.get_edit(name), name)
                writer.put(key, sample)
            if schema is None:
                raise no_samples(name)

    @contextmanager
    def _removed_on_error(self, name: str) -> Iterator[None]:
        """Remove the column that this call has created if the block fails."""
        try:
            yield
        except BaseException:
            self._pin.writer().delete(name_path(DATA, name))
            raise


def list_columns(shelf: DataShelf) -> Iterator[tuple[object, ...]]:
    """Yield a row of cells for each column, one cell for each of `TABLE_HEADINGS`."""
    for name, column in shelf.items():
        shape = "" if isinstance(column.dtype, str) else format_shape(column.shape)
        yield f"data/{name}", column.dtype, shape, len(column)


def _make_writer(workspace: Workspace, edit: ColumnEdit, name: str) -> ColumnWriter:
    from stockroom.shelves.data.writer import ColumnWriter  # here for start-up time

    return ColumnWriter(workspace, edit, name)


def _key_after(name: tuple[Any, ...]) -> Any:
    """Return the key in `(column, key)`, or the tuple of parts in `(column, part, part)`."""
    return name[1] if len(name) == 2 else name[1:]


def _format_any_dtype(dtype: Any) -> str:
    """Return the schema name of a dtype given as a name, a numpy or torch dtype, or a Python type."""
    if dtype is None:  # numpy would read it as float64
        raise SchemaError("expected a dtype such as 'uint8' or 'float32', found None")
    if dtype in (str, bytes):
        return str(dtype.__name__)
    name = str(dtype)
    if name in ("str", "bytes"):
        return name
    if name.startswith("torch."):
        return format_dtype(parse_dtype(name.removeprefix("torch.")))
    try:
        return format_dtype(np.dtype(dtype)) if not isinstance(dtype, str) else format_dtype(parse_dtype(dtype))
    except TypeError as error:
        raise SchemaError(f"expected a dtype such as 'uint8' or 'float32', found {dtype!r}") from error


def _check_decoder_kept(name: str, record: ColumnRecord, values: Column) -> None:
    """Raise `SchemaError` if a column cannot hold the decoded samples of another one; `encoded` ones it can."""
    is_decoded = values.decoder is not None and not isinstance(values.dtype, str)
    if is_decoded and values.decoder != record.decoder:
        raise SchemaError(
            f"column {name!r}: expected samples of the decoder {record.decoder}, found {values.decoder} in column "
            f"{values.name!r}; delete {name!r} first, or assign `.encoded`, which is bytes"
        )


def _parse_shape(name: str, shape: Sequence[int | None] | int) -> tuple[int | None, ...]:
    """Return a sample's shape as a tuple; a single length is one axis."""
    lengths = shape if isinstance(shape, Iterable) else (shape,)
    if any(length is not None and not _is_length(length) for length in lengths):
        raise SchemaError(
            f"column {name!r}: expected a shape such as (3, 32, 32), None for any length, found {shape!r}"
        )
    return tuple(None if length is None else int(length) for length in lengths)


def _is_length(length: object) -> bool:
    return isinstance(length, int | np.integer) and not isinstance(length, bool) and int(length) >= 0
