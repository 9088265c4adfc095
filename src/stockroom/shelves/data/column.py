"""A column of the data shelf: a mapping from keys to samples."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import check_attrs
from stockroom.errors import InvalidInputError, SchemaError
from stockroom.shelves.data.images import decode_image, decoded_shape
from stockroom.shelves.data.keys import KeyChoice, SampleKey, check_pair, check_positions, is_selection, parse_nested
from stockroom.shelves.data.mapping_views import Items, Values
from stockroom.shelves.data.open_column import OpenColumn
from stockroom.shelves.data.sample_reader import Batch, Sample
from stockroom.shelves.data.values import Schema, describe_value, format_shape, pad_samples, split_batch
from stockroom.shelves.read_ahead import ReadAhead
from stockroom.store.codecs import check_codec
from stockroom.trees import Key, KeyType, find_unshared_key, iter_positions

if TYPE_CHECKING:
    from stockroom.remotes.progress import OnProgress


class Column(Mapping[SampleKey, Sample]):
    """A mapping from int or str keys to samples of one schema, in key order. A tuple such as `("a", 3)` is a str key.

    A column taken from a handle that does not write never changes. If it is written during an iteration, the iteration
    keeps to the samples of its start. Arrays belong to the caller, except those of `view`.
    """

    def __init__(self, opened: OpenColumn, *, decodes: bool = True) -> None:
        self._opened = opened
        self._decodes = decodes

    # -- schema

    @property
    def name(self) -> str:
        """The column's name."""
        return self._opened.name

    @property
    def dtype(self) -> np.dtype[Any] | str:
        """The samples' numpy dtype, or `str` or `bytes` for text. Images decode to uint8, with rare exceptions."""
        record = self._opened.record
        if self._decoder is not None:
            return np.dtype(np.uint8)
        return record.dtype if record.is_text else self._opened.reader.dtype

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of one sample; None for an axis of any length. `()` for text."""
        if self._decoder is not None:
            return decoded_shape(self._decoder)
        return () if self._opened.record.is_text else self._opened.record.shape

    @property
    def decoder(self) -> str | None:
        """The decoder that turns the stored bytes into arrays: `image`, `image:RGB`, ...; None if there is none."""
        return self._opened.record.decoder

    @property
    def decodes(self) -> bool:
        """Whether samples are decoded when they are read."""
        return self._decoder is not None

    @property
    def encoded(self) -> Column:
        """The same column without its decoder: it returns and takes the stored bytes."""
        return Column(self._opened, decodes=False)

    def freeze(self) -> Column:
        """Return a column that keeps the present keys and samples, even if more is staged; itself if it is pinned."""
        opened = self._opened.freeze()
        return self if opened is self._opened else Column(opened, decodes=self._decodes)

    @property
    def schema(self) -> Schema:
        """The samples' dtype name and shape, from which a column of the same kind can be created."""
        return Schema(self._opened.record.dtype, self._opened.record.shape)

    @property
    def key_type(self) -> str:
        """`int` or `str`."""
        return self._opened.record.key_type

    @property
    def codec(self) -> str:
        """How new samples are encoded. Setting it does not change the encoding of samples already stored."""
        return self._opened.record.codec

    @codec.setter
    def codec(self, codec: str) -> None:
        self._opened.writer.set_record(codec=check_codec(codec))

    @property
    def attrs(self) -> Mapping[str, Any]:
        """A small JSON mapping of your own, versioned with the column. To change it, assign a whole mapping."""
        return MappingProxyType(dict(self._opened.read_attrs()))

    @attrs.setter
    def attrs(self, attrs: Mapping[str, Any]) -> None:
        self._opened.writer.set_record(attrs=check_attrs(attrs, column=self.name))

    @property
    def nbytes(self) -> int:
        """The number of raw bytes of all samples, before deduplication and encoding."""
        return self._opened.reader.sum_nbytes()

    @property
    def root(self) -> str:
        """The hex digest of the column's tree; equal keys and samples give equal roots, however they were written."""
        return self._opened.tree.root.hex()

    # -- reading

    def __getitem__(self, key: Any) -> Any:
        pinned = self._opened.pinned
        if type(key) is int and pinned is not None and pinned.has_int_keys and not self._opened.pin.is_closed:
            # A fast path for training loops without batches; the code below returns the same.
            position = pinned.find_position(key)
            if position is not None:
                sample = pinned.read_one(position)
                return self._decode(sample, key) if type(sample) is bytes else sample
        if is_selection(key):
            column = self.freeze()  # so that positions and samples are those of one moment
            return column._take(column._opened.get_selected(key))
        return self._read(self._opened.check_key(key))

    def take(self, positions: Any, *, pad: Any = None) -> Batch:
        """Return the samples at positions in key order: `(n, *shape)`, or a list if shapes vary.

        Positions may repeat, and negative ones count from the end; raises `InvalidInputError` if one is out of range.
        With `pad`, samples of varying shapes make one array `(n, *longest)`: each starts at index 0 of every axis, and
        `pad` fills the rest.
        """
        if pad is not None:
            batch, where = self.take(positions), f"column {self.name!r}"
            return pad_samples(batch, pad, shape=self.shape, dtype=self.dtype, where=where)
        array = np.asarray(positions)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
            raise InvalidInputError(
                f"column {self.name!r}: expected a 1-D array of integer positions, found {describe_value(array)}"
            )
        if array.dtype.kind == "u":  # must not wrap around into range
            array = np.minimum(array, np.uint64(np.iinfo(np.int64).max))
        positions = array.astype(np.int64, copy=False)
        with suppress(IndexError):  # the check below has a better message
            planned = self._opened.reader.read_planned(positions)
            if planned is not None:
                return planned
        return self._take(check_positions(positions, len(self), column=self.name))

    def view(self, key: SampleKey) -> Sample:
        """Return the sample under `key`, read-only; not copied if its chunk is stored raw."""
        reader = self._opened.entry_reader
        sample = self._decode(reader.view_entry(self._opened.get_value(self._opened.check_key(key))), key)
        if isinstance(sample, np.ndarray):
            sample.flags.writeable = False
        return sample

    def peek(self, key: SampleKey, *, max_nbytes: int) -> Sample | None:
        """Return `view(key)`, or None if the sample is larger or not on this machine; fetches nothing."""
        reader = self._opened.entry_reader
        sample = reader.peek_entry(self._opened.get_value(self._opened.check_key(key)), max_nbytes)
        return None if sample is None else self._decode(sample, key)

    def digest(self, key: SampleKey) -> str:
        """Return the hex BLAKE3-256 digest of the sample's raw bytes; does not need those bytes here."""
        reader, value = self._opened.reader, self._opened.get_value(self._opened.check_key(key))
        return reader.digest_entry(value).hex()

    def present(self, keys: Iterable[SampleKey] | None = None) -> float:
        """Return the fraction, by bytes, of the samples under `keys` (None: all) that is on this machine."""
        return self._opened.reader.measure_present(self.choose_positions(keys))

    def prefetch(self, keys: Iterable[SampleKey] | None = None, *, on_progress: OnProgress | None = None) -> None:
        """Fetch the samples under `keys` (None: all) to this machine; raises `AbsentDataError` if that is not possible.

        `on_progress` is called from time to time with a `TransferProgress`.
        """
        from stockroom.remotes.prefetch import fetch_planned, plan_prefetch

        tensors, digests = self._opened.pin.tensors, self._opened.reader.list_stored(self.choose_positions(keys))
        fetch_planned(self._opened.pin.repository, plan_prefetch(tensors, digests), on_progress)

    def list_chunks(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the digests `(n, 32)` of the chunks behind samples, in order of `positions`; none for inline ones."""
        return self._opened.reader.list_chunks(positions)

    def read_ahead(self, positions: NDArray[np.int64] | None = None) -> ReadAhead | None:
        """Return a `ReadAhead` for reading `positions` (None: all) in order; None if all samples are present."""
        return self._opened.reader.read_ahead(positions)

    def positions_of(self, keys: Iterable[SampleKey]) -> NDArray[np.int64]:
        """Return the position of each key in key order, for `take`; raises `SampleNotFoundError` for an unknown key."""
        return self._opened.get_positions(list(keys))

    def keys_at(self, positions: NDArray[np.int64]) -> list[SampleKey]:
        """Return the keys of the samples at these positions, which must not be negative."""
        keys = self.stored_keys_at(positions)
        return [parse_nested(key) if isinstance(key, str) else key for key in keys]

    def stored_keys_at(self, positions: NDArray[np.int64]) -> list[Key]:
        """Return the keys of the samples at these positions; a tuple is returned as the text that is stored."""
        return [self._opened.tree.at(position)[0] for position in positions.tolist()]

    def choose_positions(self, keys: KeyChoice = None, where: str | None = None) -> NDArray[np.int64]:
        """Return the positions of the samples that `keys` select and that meet the condition `where`."""
        return self._opened.choose_positions(keys, where)

    def export(
        self,
        path: str | Path,
        *,
        keys: KeyChoice = None,
        where: str | None = None,
        force: bool = False,
        on_progress: Callable[[int, int], object] | None = None,
        on_left_out: Callable[[str], object] | None = None,
    ) -> int:
        """Write samples to files that other programs can read, and return how many were written.

        The target at `path` appears complete or not at all. Raises `InvalidInputError` if it exists already, or if the
        kind of file cannot hold these samples. Warns of attrs and keys that it cannot hold.

        Args:
            path: a name that ends in `.npy`, `.npz`, `.parquet`, `.zarr` or `.tar`; a name without an ending, or with
                a slash at its end, is a new folder, with one file for each sample.
            keys: the samples to write, in this order; a slice selects by position; None selects all.
            where: a condition that the samples must meet, such as `label == 3`, on columns of the same keys.
            force: replace an existing file; in a folder, the files that an earlier export made there.
            on_progress: called from time to time with the number of samples written and the total.
            on_left_out: called with a line for each part of the column that the file cannot hold, instead of a warning.
        """
        from stockroom.shelves.export import check_target, write_samples
        from stockroom.shelves.export.samples import Samples

        column, root = self.freeze(), self._opened.pin.repository.paths.root
        target = check_target(path, root, force=force)
        with self._opened.pin.repository.tensors.cache.read_carefully():
            samples = Samples(column, column.choose_positions(keys, where), on_progress)
            return write_samples(samples, target, on_left_out)

    def find_unshared_key(self, other: Column) -> Key | None:
        """Return a key that only one of the two columns has; None if they have the same keys."""
        return find_unshared_key(self._opened.tree, other._opened.tree)

    def pin(self) -> tuple[Path, str, bool]:
        """Return the repository's path, this column's commit, and whether its handle is lazy.

        Raises `TypeError` if the column is being written.
        """
        pin = self._opened.pin
        pin.check_open()
        return pin.repository.paths.root, self._opened.require_commit(), pin.lazy

    def __reduce__(self) -> NoReturn:
        raise TypeError("a column cannot be pickled; use make_torch_dataset, or send the path and the commit")

    def __contains__(self, key: object) -> bool:
        try:
            return self._opened.find_entry(self._opened.check_key(key)) is not None
        except InvalidInputError:  # an invalid key is not in the column
            return False

    def __len__(self) -> int:
        return self._opened.tree.count

    def check_open(self) -> None:
        """Raise `ClosedError` if the handle it was taken from is closed."""
        self._opened.pin.check_open()

    def iter_samples(self) -> Iterator[Sample]:
        """Yield the samples in key order, read many at a time; only for a column that does not change meanwhile.

        A caller who keeps one sample does not keep those that were read with it.
        """
        encoded, ahead = self.encoded, self.read_ahead()
        for positions in self._opened.reader.iter_windows():
            if ahead is not None:
                ahead.see(positions)
            batch = encoded.take(positions)
            samples: Iterable[Sample] = split_batch(batch) if isinstance(batch, np.ndarray) else batch
            for position, sample in zip(positions.tolist(), samples, strict=True):
                self.check_open()
                yield sample if isinstance(sample, np.ndarray) else self._decode(sample, position, "position")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all samples, stacked in key order; raises `TypeError` if they are text or their shapes vary."""
        samples = self[:]
        if not isinstance(samples, np.ndarray):
            raise TypeError(f"column {self.name!r} is not one array; use column.take(positions), which returns a list")
        if copy is False:
            raise ValueError(f"column {self.name!r} cannot be an array without a copy; use view(key) for one sample")
        return samples if dtype is None else samples.astype(dtype)

    def values(self) -> ValuesView[Sample]:
        """Return a view of the samples in key order; iteration reads many at a time."""
        return Values(self)

    def items(self) -> ItemsView[SampleKey, Sample]:
        """Return a view of the keys and samples in key order; iteration reads many at a time."""
        return Items(self)

    def __iter__(self) -> Iterator[SampleKey]:
        keys = self.freeze().keys_as_stored()
        return keys if self.key_type == KeyType.INT else map(parse_nested, keys)  # type: ignore[arg-type]

    def keys_as_stored(self) -> Iterator[Key]:
        """Yield the keys in order; a tuple comes as the text that is stored."""
        for keys, _ in iter_positions(self._opened.tree):
            for key in keys.tolist() if isinstance(keys, np.ndarray) else keys:
                self._opened.pin.check_open()
                yield key

    def __repr__(self) -> str:
        shape = "" if self._opened.record.is_text else f", shape={format_shape(self.shape)}"
        return f"Column({self.name!r}, dtype={self.dtype}{shape}, keys={self.key_type}, n={len(self)})"

    def _repr_html_(self) -> str:
        from stockroom.shelves.data.notebook import MAX_SAMPLES, show_column  # here for start-up time

        shape = "" if isinstance(self.dtype, str) else f" {format_shape(self.shape)}"
        title = f"data/{self.name}: {self.dtype}{shape}, {len(self)} samples, {self.key_type} keys"
        return show_column(title, self.attrs, self.keys_at(np.arange(min(MAX_SAMPLES, len(self)))), self.peek)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    # -- writing

    def __setitem__(self, key: SampleKey, value: object) -> None:
        self._opened.writer.put(self._opened.check_key(key), value)

    def __delitem__(self, key: SampleKey) -> None:
        checked = self._opened.check_key(key)
        if not self._opened.writer.delete(checked):
            raise self._opened.missing(checked)

    def update(self, values: Mapping[SampleKey, object] | Iterable[tuple[SampleKey, object]]) -> None:
        """Set many samples; if one is refused, none is set."""
        pairs = values.items() if isinstance(values, Mapping) else values
        key_type, name = self._opened.record.key_type, self.name
        self._opened.writer.put_all(check_pair(pair, key_type, column=name) for pair in pairs)

    def extend(self, values: object) -> range:
        """Add samples after the greatest key, and return their keys; only for columns with int keys.

        `values` is an array stacked on axis 0, or any iterable of samples. If one is refused, none is added. If others
        append and commit before this writer does, its commit moves these samples behind theirs, to other keys.
        """
        if self._opened.record.key_type != KeyType.INT:
            raise SchemaError(f"column {self.name!r} has str keys: use update({{key: sample}}) instead of extend")
        if isinstance(values, Column):  # a mapping, but its samples are meant
            values = (values.encoded if values.decoder == self.decoder else values).values()
        return self._opened.writer.extend(values)

    # -- internals

    def _read(self, key: Key) -> Sample:
        opened = self._opened
        if opened.is_staged:
            sample = opened.entry_reader.read_entry(opened.get_value(key))
        else:
            sample = opened.reader.read_one(opened.get_position(key))
        return self._decode(sample, key)

    @property
    def _decoder(self) -> str | None:
        """The decoder to apply; None if this column is `encoded`."""
        return self._opened.record.decoder if self._decodes else None

    def _decode(self, sample: Sample, key: SampleKey, noun: str = "key") -> Sample:
        decoder = self._decoder
        if decoder is None or not isinstance(sample, bytes):
            return sample
        return decode_image(sample, decoder, f"column {self.name!r}, {noun} {key!r}")

    def _take(self, positions: NDArray[np.int64]) -> Batch:
        reader, decoder = self._opened.reader, self._decoder
        self._opened.note_read(reader)
        batch = reader.read_batch(positions)
        if decoder is None:
            return batch
        stored: Any = zip(batch, positions.tolist(), strict=True)
        decoded: Any = [self._decode(data, index, "position") for data, index in stored]
        return decoded  # type: ignore[no-any-return]
