"""A column of the data shelf: a mapping from keys to samples."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import ObjectDigest, compute_digest
from stockroom.errors import (
    ColumnNotFoundError,
    InvalidInputError,
    ReadOnlyError,
    SampleNotFoundError,
    SchemaError,
)
from stockroom.repository import DATA, ColumnEdit, ColumnRecord
from stockroom.repository.column import check_attrs
from stockroom.shelves.ahead import ReadAhead
from stockroom.shelves.column_views import ColumnItems, ColumnValues
from stockroom.shelves.column_writer import ColumnWriter
from stockroom.shelves.images import decode_image, decoded_shape
from stockroom.shelves.nested_keys import SampleKey, parse_nested
from stockroom.shelves.padding import pad_samples
from stockroom.shelves.samples import Batch, Sample, SampleReader
from stockroom.shelves.selection import check_key, check_mask, check_positions
from stockroom.shelves.values import Array, Schema, describe_value, format_shape, is_tensor, to_array
from stockroom.store.codecs import check_codec
from stockroom.trees import Key, KeyType, Tree, find_unshared_key, iter_positions

if TYPE_CHECKING:
    from stockroom.remotes.progress import OnProgress
    from stockroom.shelves.access import Access


class Column(Mapping[SampleKey, Sample]):
    """Samples of one schema under int or str keys, in key order. A tuple, as `column["patient", 3]`, is a str key too.

    Read from a handle that does not write, it stays as it was when it was taken from the shelf. Arrays given out are
    the caller's own, except by `view`.
    """

    def __init__(self, access: Access, name: str, *, decodes: bool = True) -> None:
        self._access = access
        self._name = name
        self._decodes = decodes
        self._path = f"{DATA}/{name}"
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
        """The samples' numpy dtype; `str` or `bytes` for a column of text. Images are uint8, but for rare ones."""
        record = self._record
        if self._decoder is not None:
            return np.dtype(np.uint8)
        return record.dtype if record.is_text else self._reader.dtype

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of one sample; None is an axis of any length. `()` for text."""
        if self._decoder is not None:
            return decoded_shape(self._decoder)
        return () if self._record.is_text else self._record.shape

    @property
    def decoder(self) -> str | None:
        """What makes arrays of the bytes that are stored: `image`, `image:RGB`, ...; None if nothing does."""
        return self._record.decoder

    @property
    def encoded(self) -> Column:
        """The same column without its decoder: it gives and takes the bytes that are stored."""
        return Column(self._access, self._name, decodes=False)

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
        return MappingProxyType(dict(self._record.attrs))

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
                sample = pinned.read_one(position)
                return self._decode(sample, key) if type(sample) is bytes else sample
        if isinstance(key, slice):
            return self._take(np.arange(*key.indices(len(self)), dtype=np.int64))
        if isinstance(key, np.ndarray) or is_tensor(key):
            return self._take(self._find_selected(to_array(key) if is_tensor(key) else key))
        if isinstance(key, list):
            return self._take(self._find_positions(key))
        return self._read(self._check_key(key))

    def take(self, positions: Any, *, pad: Any = None) -> Batch:
        """Samples at positions in key order, repeats allowed: `(n, *shape)`, or a list where shapes vary.

        With a value to `pad` with, samples of many shapes are one array too, `(n, *longest)`: each stands at the start
        of its place. Negative positions count from the end; `InvalidInputError` for one out of range.
        """
        if pad is not None:
            return self._pad(self.take(positions), pad)
        array = np.asarray(positions)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
            raise InvalidInputError(
                f"column {self._name!r}: expected a 1-D array of integer positions, found {describe_value(array)}"
            )
        if array.dtype.kind == "u":  # what would wrap around stays out of range
            array = np.minimum(array, np.uint64(np.iinfo(np.int64).max))
        positions = array.astype(np.int64, copy=False)
        with suppress(IndexError):  # the check below says it better
            planned = self._reader.read_planned(positions)
            if planned is not None:
                return planned
        return self._take(check_positions(positions, len(self), column=self._name))

    def view(self, key: SampleKey) -> Sample:
        """The sample under `key`, read-only; not copied where its chunk is stored raw."""
        reader = self._peek_reader() if self._is_staged else self._reader
        sample = self._decode(reader.view_entry(self._find_value(self._check_key(key))), key)
        if isinstance(sample, np.ndarray):
            sample.flags.writeable = False
        return sample

    def peek(self, key: SampleKey, *, max_nbytes: int) -> Sample | None:
        """`view(key)`, or None where the sample is larger, or not on this machine; fetches nothing."""
        reader = self._peek_reader() if self._is_staged else self._reader
        sample = reader.peek_entry(self._find_value(self._check_key(key)), max_nbytes)
        return None if sample is None else self._decode(sample, key)

    def digest(self, key: SampleKey) -> str:
        """The hex BLAKE3 digest of the sample's raw bytes; needs no data."""
        reader, value = self._reader, self._find_value(self._check_key(key))
        digest = reader.digest_entry(value)
        return (compute_digest(reader.inline_bytes(value)) if digest is None else digest).hex()

    def present(self, keys: Iterable[SampleKey] | None = None) -> float:
        """The fraction, by bytes, of the samples under `keys` (None: all) that is on this machine."""
        return self._reader.measure_present(self._choose_positions(keys))

    def prefetch(self, keys: Iterable[SampleKey] | None = None, *, on_progress: OnProgress | None = None) -> None:
        """Bring the samples under `keys` (None: all) to this machine; `AbsentDataError` if nothing can.

        `on_progress` is called with a `TransferProgress` now and then.
        """
        from stockroom.remotes.prefetch import bring, plan_prefetch

        tensors, digests = self._access.tensors, self._reader.find_stored(self._choose_positions(keys))
        bring(self._access.repository, plan_prefetch(tensors, digests), on_progress)

    def find_chunks(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Digests `(n, 32)` of the chunks behind the samples at `positions`, in their order; none for inline ones."""
        return self._reader.find_chunks(positions)

    def read_ahead(self, positions: NDArray[np.int64] | None = None) -> ReadAhead | None:
        """What hints at samples to come while `positions` (None: all) are read in order; None if all are here."""
        return self._reader.read_ahead(positions)

    def positions_of(self, keys: Iterable[SampleKey]) -> NDArray[np.int64]:
        """Where each key stands in key order, for `take`; `SampleNotFoundError` for one that is not there."""
        return self._find_positions(list(keys))

    def keys_at(self, positions: NDArray[np.int64]) -> list[SampleKey]:
        """The keys of the samples at these positions, all of them from 0 on."""
        keys = [self._tree.at(position)[0] for position in positions.tolist()]
        return [parse_nested(key) if isinstance(key, str) else key for key in keys]

    def export(
        self,
        path: str | Path,
        *,
        keys: Iterable[SampleKey] | slice | None = None,
        where: str | None = None,
        force: bool = False,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Write samples to files that anything can read; how many were written.

        Args:
            path: ends in `.npy`, `.npz`, `.parquet`, `.zarr` or `.tar`; anything else is a folder to be made, with a
                file for each sample.
            keys: which samples, in this order; a slice chooses by position; None takes all.
            where: a condition that they must meet, as `label == 3`, on columns of the same keys.
            force: replace what is there.
            on_progress: called now and then with the samples written, and how many there will be.

        What is at `path` appears whole or not at all. Raises `InvalidInputError` if something is there already, or if
        the kind of file cannot hold such samples.
        """
        from stockroom.shelves.exporting import export_column

        return export_column(self, Path(path), keys=keys, where=where, force=force, on_progress=on_progress)

    @property
    def access(self) -> Access:
        """What it shares with the handle and the shelf it was taken from."""
        return self._access

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

    def check_open(self) -> None:
        """Raise `ClosedError` once the handle that the column was taken from is closed."""
        self._access.check_open()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All samples, stacked in key order; `TypeError` where they are text or of many shapes."""
        samples = self._take(np.arange(len(self), dtype=np.int64))
        if not isinstance(samples, np.ndarray):
            raise TypeError(f"column {self._name!r} is no one array: use column.take(positions), which gives a list")
        if copy is False:
            raise ValueError(f"column {self._name!r} cannot be an array without a copy; use view(key) for one sample")
        return samples if dtype is None else samples.astype(dtype)

    def values(self) -> ValuesView[Sample]:
        """The samples in key order; read many at a time."""
        return ColumnValues(self)

    def items(self) -> ItemsView[SampleKey, Sample]:
        """The keys and samples in key order; read many at a time."""
        return ColumnItems(self)

    def __iter__(self) -> Iterator[SampleKey]:
        keys = self.keys_as_stored()
        return iter(keys) if self.key_type == KeyType.INT else map(parse_nested, keys)  # type: ignore[arg-type]

    def keys_as_stored(self) -> Iterator[Key]:
        """The keys in order, tuples as the texts that stand for them."""
        for keys, _ in iter_positions(self._tree):
            for key in keys.tolist() if isinstance(keys, np.ndarray) else keys:
                self._access.check_open()
                yield key

    def __repr__(self) -> str:
        shape = "" if self._record.is_text else f", shape={format_shape(self.shape)}"
        return f"Column({self._name!r}, dtype={self.dtype}{shape}, keys={self.key_type}, n={len(self)})"

    def _repr_html_(self) -> str:
        from stockroom.shelves.notebook import show_column

        return show_column(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    # -- writing

    def __setitem__(self, key: SampleKey, value: object) -> None:
        self._writer().put(self._check_key(key), value)

    def __delitem__(self, key: SampleKey) -> None:
        checked = self._check_key(key)
        if not self._writer().delete(checked):
            raise self._missing(checked)

    def update(self, values: Mapping[SampleKey, object] | Iterable[tuple[SampleKey, object]]) -> None:
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
        record = snapshot.find_column(self._path)
        if record is None:
            raise self._missing_here()
        return SampleReader(record, snapshot.open_tree(record), self._access.tensors, commit=self._access.commit)

    def _find_edit(self) -> ColumnEdit:
        self._access.check_open()
        assert self._session is not None
        edit = self._session.find_column(self._path)
        if edit is None:
            raise self._missing_here()
        return edit

    def _read_staged(self) -> SampleReader:
        """A reader of the column as staged now; kept for as long as nothing is written."""
        assert self._session is not None
        with self._session.turn:
            edit = self._find_edit()
            tree, is_flushed = edit.tree, self._session.is_flushed
            staged = self._staged
            if staged is None or staged.tree != tree or staged.reads_unflushed == is_flushed:
                find = None if is_flushed else self._session.read_pending_chunk
                staged = self._staged = SampleReader(edit.record, tree, self._access.tensors, find)
            return staged

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
            return self._decode(self._peek_reader().read_entry(self._find_value(key)), key)
        reader = self._reader
        position = reader.find_position(key)
        if position is None:
            raise self._missing(key)
        return self._decode(reader.read_one(position), key)

    @property
    def _decoder(self) -> str | None:
        """The decoder of what this column gives."""
        return self._record.decoder if self._decodes else None

    def _decode(self, sample: Sample, key: SampleKey) -> Sample:
        decoder = self._decoder
        if decoder is None or not isinstance(sample, bytes):
            return sample
        return decode_image(sample, decoder, f"column {self._name!r}, key {key!r}")

    def _find_entry(self, key: Key) -> bytes | None:
        session = self._session
        if session is not None and self._is_staged:
            with session.turn:
                return self._find_edit().find(key)
        return self._tree.get(key)

    def _find_value(self, key: Key) -> bytes:
        value = self._find_entry(key)
        if value is None:
            raise self._missing(key)
        return value

    def _take(self, positions: NDArray[np.int64]) -> Batch:
        batch, decoder = self._reader.read_batch(positions), self._decoder
        if decoder is None:
            return batch
        placed: Any = zip(batch, positions.tolist(), strict=True)
        return [decode_image(data, decoder, f"column {self._name!r}, position {place}") for data, place in placed]

    def _pad(self, batch: Batch, pad: Any) -> Array:
        if isinstance(batch, np.ndarray):
            return batch
        if isinstance(self.dtype, str):
            raise SchemaError(f"column {self._name!r} holds {self.dtype}, which cannot be padded; leave out pad")
        arrays: Any = batch
        return pad_samples(arrays, pad, shape=self.shape, dtype=self.dtype, where=f"column {self._name!r}")

    def _choose_positions(self, keys: Iterable[SampleKey] | None) -> NDArray[np.int64]:
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

    def _find_selected(self, keys: NDArray[Any]) -> NDArray[np.int64]:
        """Positions of an array of keys, or of those that a mask over all samples, in key order, chooses."""
        if keys.dtype == np.bool_:
            return check_mask(keys, len(self), column=self._name)
        return self._find_positions(keys)

    def _check_key(self, key: object) -> Key:
        return check_key(key, self._record.key_type, column=self._name)

    def _check_pair(self, pair: Any) -> tuple[Key, object]:
        try:
            key, value = pair
        except (TypeError, ValueError) as error:
            raise SchemaError(
                f"column {self._name!r}: expected pairs of key and sample, found {describe_value(pair)}"
            ) from error
        return self._check_key(key), value

    def _missing_here(self) -> ColumnNotFoundError:
        return self._access.missing("column", DATA, self._name, ColumnNotFoundError)

    def _missing(self, key: object) -> SampleNotFoundError:
        shown = parse_nested(key) if isinstance(key, str) else key
        return SampleNotFoundError(
            f"column {self._name!r} has no sample under key {shown!r} (it has {len(self)} samples)"
        )
