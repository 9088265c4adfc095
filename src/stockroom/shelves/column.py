"""A column of the data shelf: a mapping from keys to samples."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import ObjectDigest, compute_digest
from stockroom.errors import (
    InvalidInputError,
    ReadOnlyError,
    SampleNotFoundError,
    SchemaError,
)
from stockroom.repository import ColumnEdit, ColumnRecord
from stockroom.repository.column import check_attrs
from stockroom.shelves.column_writer import ColumnWriter
from stockroom.shelves.samples import Batch, Sample, SampleReader
from stockroom.shelves.values import Schema, describe_value, format_shape
from stockroom.store.codecs import check_codec
from stockroom.trees import Key, KeyType, Tree, find_unshared_key, iter_positions

if TYPE_CHECKING:
    from stockroom.shelves.access import Access


class Column(Mapping[Key, Sample]):
    """Samples of one schema under int or str keys, in key order.

    Read from a handle that does not write, it stays as it was when it was taken from the shelf. Arrays given out are
    the caller's own, except by `view`.
    """

    def __init__(self, access: Access, name: str) -> None:
        self._access = access
        self._name = name
        self._session = access.session
        self._pinned = None if self._session is not None else self._open_pinned()
        self._staged: SampleReader | None = None
        self._peek: SampleReader | None = None
        self._writing: ColumnWriter | None = None
        if self._session is not None:
            self._find_edit()

    # -- schema

    @property
    def name(self) -> str:
        """The column's name."""
        return self._name

    @property
    def dtype(self) -> np.dtype[Any] | str:
        """The samples' numpy dtype; the string `str` or `bytes` for a column of text."""
        record = self._record
        return record.dtype if record.is_text else self._reader.dtype

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of one sample; None is an axis of any length. `()` for text."""
        return () if self._record.is_text else self._record.shape

    @property
    def schema(self) -> Schema:
        """The samples' dtype name and shape, as a new column of the same kind takes them."""
        return Schema(self._record.dtype, self._record.shape)

    @property
    def key_type(self) -> str:
        """`int` or `str`."""
        return self._record.key_type

    @property
    def codec(self) -> str:
        """How newly written samples are encoded; what is stored already keeps its own encoding."""
        return self._record.codec

    @codec.setter
    def codec(self, codec: str) -> None:
        self._writer().set_record(codec=check_codec(codec))

    @property
    def attrs(self) -> Mapping[str, Any]:
        """A small JSON mapping of the user's own, versioned with the column. Assign a whole mapping to change it."""
        return dict(self._record.attrs)

    @attrs.setter
    def attrs(self, attrs: Mapping[str, Any]) -> None:
        self._writer().set_record(attrs=check_attrs(attrs, column=self._name))

    @property
    def nbytes(self) -> int:
        """Raw bytes of all samples together, before deduplication and encoding."""
        return self._reader.sum_nbytes()

    @property
    def root(self) -> str:
        """The hex digest of the column's tree: equal for equal keys and samples, however they were written."""
        return self._tree.root.hex()

    # -- reading

    def __getitem__(self, key: Any) -> Any:
        pinned = self._pinned
        if type(key) is int and pinned is not None and pinned.has_int_keys and not self._access.is_closed:
            # What training loops without batches call most; everything below gives the same answer.
            position = pinned.find_position(key)
            if position is not None:
                return pinned.read_one(position)
        if isinstance(key, slice):
            return self._take(np.arange(*key.indices(len(self)), dtype=np.int64))
        if isinstance(key, list | np.ndarray):
            return self._take(self._find_positions(key))
        return self._read(self._check_key(key))

    def take(self, positions: Any) -> Batch:
        """Samples at positions in key order, repeats allowed: `(n, *shape)`, or a list where shapes vary.

        Negative positions count from the end; `InvalidInputError` for one out of range.
        """
        array = np.asarray(positions)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
            raise InvalidInputError(
                f"column {self._name!r}: expected a 1-D array of integer positions, found {describe_value(array)}"
            )
        positions = array.astype(np.int64, copy=False)
        with suppress(IndexError):  # the check below says it better
            planned = self._reader.read_planned(positions)
            if planned is not None:
                return planned
        return self._take(self._check_positions(positions))

    def view(self, key: Key) -> Sample:
        """The sample under `key`, read-only; not copied where its chunk is stored raw."""
        reader = self._peek_reader() if self._is_staged else self._reader
        return reader.view_entry(self._find_value(self._check_key(key)))

    def digest(self, key: Key) -> str:
        """The hex BLAKE3 digest of the sample's raw bytes; needs no data."""
        reader, value = self._reader, self._find_value(self._check_key(key))
        digest = reader.digest_entry(value)
        return (compute_digest(reader.inline_bytes(value)) if digest is None else digest).hex()

    def present(self, keys: Iterable[Key] | None = None) -> float:
        """The fraction, by bytes, of the samples under `keys` (None: all) that is on this machine."""
        return self._reader.measure_present(self._choose_positions(keys))

    def prefetch(self, keys: Iterable[Key] | None = None) -> None:
        """Bring the samples under `keys` (None: all) to this machine; `AbsentDataError` if nothing can."""
        self._reader.ensure_present(self._choose_positions(keys))

    def positions_of(self, keys: Iterable[Key]) -> NDArray[np.int64]:
        """Where each key stands in key order, for `take`; `SampleNotFoundError` for one that is not there."""
        return self._find_positions(list(keys))

    def find_unshared_key(self, other: Column) -> Key | None:
        """A key that only one of two columns has; None if they have the same keys."""
        return find_unshared_key(self._tree, other._tree)

    def pin(self) -> tuple[Path, str]:
        """The repository's path and the commit this column is read from; `TypeError` if it is being written."""
        self._access.check_open()
        if self._is_staged:
            raise TypeError(
                f"column {self._name!r} is being written and cannot be pickled: commit, then take it from a reader"
            )
        reader = self._reader
        if reader.commit is None:
            raise TypeError(f"column {self._name!r} belongs to no commit and cannot be pickled: commit first")
        return self._access.repository.paths.root, reader.commit

    def __reduce__(self) -> NoReturn:
        raise TypeError("a column cannot be pickled: make a data set with make_torch_dataset, or send path and commit")

    def __contains__(self, key: object) -> bool:
        try:
            return self._find_entry(self._check_key(key)) is not None
        except InvalidInputError:  # what cannot be a key of this column is none that it has
            return False

    def __len__(self) -> int:
        return self._tree.count

    def __iter__(self) -> Iterator[Key]:
        for keys, _ in iter_positions(self._tree):
            for key in keys.tolist() if isinstance(keys, np.ndarray) else keys:
                self._access.check_open()
                yield key

    def __repr__(self) -> str:
        shape = "" if self._record.is_text else f", shape={format_shape(self.shape)}"
        return f"Column({self._name!r}, dtype={self.dtype}{shape}, keys={self.key_type}, n={len(self)})"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    # -- writing

    def __setitem__(self, key: Key, value: object) -> None:
        self._writer().put(self._check_key(key), value)

    def __delitem__(self, key: Key) -> None:
        checked = self._check_key(key)
        writer = self._writer()
        if writer.edit.find(checked) is None:
            raise self._missing(checked)
        writer.edit.delete(checked)

    def update(self, values: Mapping[Key, object] | Iterable[tuple[Key, object]]) -> None:
        """Set many samples; if one is refused, none is set."""
        pairs = values.items() if isinstance(values, Mapping) else values
        self._writer().put_all(map(self._check_pair, pairs))

    def extend(self, values: object) -> range:
        """Add samples after the greatest key; returns their keys. Columns with int keys only.

        `values` is an array stacked on axis 0, or any iterable of samples. If one is refused, none is added.
        """
        if self._record.key_type != KeyType.INT:
            raise SchemaError(f"column {self._name!r} has str keys: use update({{key: sample}}) instead of extend")
        return self._writer().extend(values)

    # -- how

    @property
    def _reader(self) -> SampleReader:
        self._access.check_open()
        if self._is_staged:
            return self._read_staged()
        if self._session is not None:  # the write session this column belonged to is over
            self._session, self._staged, self._pinned = None, None, self._open_pinned()
        assert self._pinned is not None
        return self._pinned

    @property
    def _is_staged(self) -> bool:
        """Whether this column belongs to the write session now going on."""
        return self._session is not None and self._access.session is self._session

    @property
    def _tree(self) -> Tree:
        return self._reader.tree

    @property
    def _record(self) -> ColumnRecord:
        if self._is_staged:
            return self._find_edit().record
        return self._reader.record

    def _open_pinned(self) -> SampleReader:
        snapshot = self._access.snapshot
        record = snapshot.find_column(self._name)
        if record is None:
            raise self._access.missing_column(self._name)
        return SampleReader(record, snapshot.open_tree(record), self._access.tensors, commit=self._access.commit)

    def _find_edit(self) -> ColumnEdit:
        self._access.check_open()
        assert self._session is not None
        edit = self._session.find_column(self._name)
        if edit is None:
            raise self._access.missing_column(self._name)
        return edit

    def _read_staged(self) -> SampleReader:
        """A reader of the column as staged now; kept for as long as nothing is written."""
        assert self._session is not None
        edit = self._find_edit()
        tree, is_flushed = edit.tree, self._session.is_flushed
        if self._staged is None or self._staged.tree != tree or self._staged.reads_unflushed == is_flushed:
            find = None if is_flushed else self._session.read_pending_chunk
            self._staged = SampleReader(edit.record, tree, self._access.tensors, find)
        return self._staged

    def _peek_reader(self) -> SampleReader:
        """A reader of single entries as staged now, which need not be worked into the tree first."""
        assert self._session is not None
        record = self._find_edit().record
        if self._peek is None or self._peek.record.schema != record.schema:
            tree = Tree(self._session.nodes, record.tree_format, ObjectDigest(record.root))
            self._peek = SampleReader(record, tree, self._access.tensors, self._session.read_pending_chunk)
        return self._peek

    def _writer(self) -> ColumnWriter:
        self._access.check_open()
        session = self._access.session
        if session is None:
            raise ReadOnlyError(
                f"column {self._name!r} was opened for reading: write inside `with stock.enable_write():`, or "
                "open with StockRoom(enable_write=True)"
            )
        if session is not self._session:
            raise ReadOnlyError(
                f"column {self._name!r} was taken from the shelf before writing was enabled: take it again, "
                f"stock.data[{self._name!r}]"
            )
        session.check_open()
        edit = self._find_edit()
        if self._writing is None or self._writing.edit is not edit:
            self._writing = ColumnWriter(session, edit, self._name)
        return self._writing

    def _read(self, key: Key) -> Sample:
        if self._is_staged:
            return self._peek_reader().read_entry(self._find_value(key))
        reader = self._reader
        position = reader.find_position(key)
        if position is None:
            raise self._missing(key)
        return reader.read_one(position)

    def _find_entry(self, key: Key) -> bytes | None:
        if self._is_staged:
            return self._find_edit().find(key)
        return self._tree.get(key)

    def _find_value(self, key: Key) -> bytes:
        value = self._find_entry(key)
        if value is None:
            raise self._missing(key)
        return value

    def _take(self, positions: NDArray[np.int64]) -> Batch:
        return self._reader.read_batch(positions)

    def _choose_positions(self, keys: Iterable[Key] | None) -> NDArray[np.int64]:
        return np.arange(len(self), dtype=np.int64) if keys is None else self._find_positions(list(keys))

    def _find_positions(self, keys: Any) -> NDArray[np.int64]:
        checked = (
            keys if isinstance(keys, np.ndarray) and keys.dtype.kind in "iu" else [self._check_key(k) for k in keys]
        )
        if not len(checked):
            return np.empty(0, np.int64)
        if isinstance(checked, np.ndarray) and (self.key_type != KeyType.INT or checked.ndim != 1):
            raise SchemaError(f"column {self._name!r}: expected a list of {self.key_type} keys")
        positions = self._tree.positions_of(checked)  # type: ignore[arg-type]
        if (positions < 0).any():
            missing = checked[int(np.argmin(positions))]
            raise self._missing(missing if isinstance(missing, str) else int(missing))
        return positions

    def _check_positions(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        count = len(self)
        if len(positions) and (positions.min() < -count or positions.max() >= count):
            wrong = positions[(positions < -count) | (positions >= count)][0]
            raise InvalidInputError(f"column {self._name!r}: position {wrong} is out of range for {count} samples")
        return (
            np.where(positions < 0, positions + count, positions)
            if len(positions) and positions.min() < 0
            else positions
        )

    def _check_key(self, key: object) -> Key:
        key_type = self._record.key_type
        if key_type == KeyType.STR:
            if isinstance(key, str):
                return key
        elif type(key) is int:
            return key
        elif isinstance(key, int | np.integer) and not isinstance(key, bool):
            return operator.index(key)
        raise SchemaError(f"column {self._name!r}: expected {key_type} keys, found {key!r} ({type(key).__name__})")

    def _check_pair(self, pair: Any) -> tuple[Key, object]:
        try:
            key, value = pair
        except (TypeError, ValueError) as error:
            raise SchemaError(
                f"column {self._name!r}: expected pairs of key and sample, found {describe_value(pair)}"
            ) from error
        return self._check_key(key), value

    def _missing(self, key: object) -> SampleNotFoundError:
        return SampleNotFoundError(
            f"column {self._name!r} has no sample under key {key!r} (it has {len(self)} samples)"
        )
