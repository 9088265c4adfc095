"""Writes samples into a column of a workspace: checks the schema, puts the bytes, records the entries.

Every method that takes many samples is all or nothing: after an error the column is as it was before the call. Threads
take turns by whole calls, so an iterable of samples must not wait for another thread's write.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import ColumnRecord
from stockroom.content.column_edit import ColumnEdit
from stockroom.digest import Buffer
from stockroom.errors import InvalidInputError
from stockroom.repository.writing.workspace import Workspace
from stockroom.shelves.data.values import (
    Array,
    as_array_like,
    as_batch,
    as_bytes,
    as_sample,
    encode_text,
    is_data_frame,
)
from stockroom.store.chunk_run import Stream
from stockroom.store.dtypes import format_storage, parse_dtype
from stockroom.store.entry import EntryKind, choose_kind
from stockroom.trees import Key
from stockroom.trees.str_keys import MAX_KEY_NBYTES

_BATCH_NBYTES = 16 << 20
_MAX_KEY = (1 << 63) - 1


class ColumnWriter:
    """Stages changes to one column."""

    def __init__(self, workspace: Workspace, edit: ColumnEdit, name: str) -> None:
        self._workspace = workspace
        self.edit = edit
        self._name = name
        record = edit.record  # codec and attrs may change later, the schema does not
        self._is_text = record.is_text
        self._format = record.entry_format
        self._dtype = np.dtype(np.uint8) if record.is_text else parse_dtype(record.dtype)
        self._shape = record.shape
        self._stream = self._choose_stream()

    def put(self, key: Key, value: object) -> None:
        """Set one sample."""
        self._check_key_range(key)
        with self._workspace.lock:
            self.edit.put(key, self._encode(value, key))

    def delete(self, key: Key) -> bool:
        """Delete one sample, and return whether it was there."""
        with self._workspace.lock:
            if self.edit.find(key) is None:
                return False
            self.edit.delete(key)
            return True

    def put_all(self, pairs: Iterable[tuple[Key, object]]) -> None:
        """Set many samples; if a key occurs twice, the last sample wins."""
        with self._all_or_nothing():
            for key, value in pairs:
                self.put(key, value)

    def replace_all(self, keys: Sequence[Key] | None, values: object) -> None:
        """Make these the column's only samples; without `keys` they are numbered from 0.

        `values` may read the column itself, which does not change until all values are read.
        """
        fresh = ColumnEdit(self._workspace.nodes, self._record)
        fresh.clear()
        writer = ColumnWriter(self._workspace, fresh, self._name)
        with self._workspace.lock:
            if keys is None:
                writer.extend(values)
            else:
                writer.put_all(zip(keys, values, strict=True))  # type: ignore[call-overload]
            self.edit.adopt(fresh)

    def extend(self, values: object) -> range:
        """Add samples after the greatest int key, and return their keys."""
        with self._all_or_nothing():
            last = self.edit.last_key
            first = 0 if last is None else int(last) + 1
            plain = as_array_like(values, f"column {self._name!r}")
            if isinstance(plain, np.ndarray) and not self._record.is_text:
                return self._note_appended(self._extend_array(plain, first))
            if isinstance(plain, str | bytes | Mapping) or is_data_frame(plain) or not isinstance(plain, Iterable):
                raise InvalidInputError(
                    f"column {self._name!r}: expected an iterable of samples, found {type(plain).__name__}"
                )
            count, puts = 0, self.edit.puts
            for count, value in enumerate(plain, 1):
                if self.edit.puts != puts:
                    self._check_free(first + count - 1)
                self.put(first + count - 1, value)
                puts = self.edit.puts
            return self._note_appended(range(first, first + count))

    def put_batch(self, keys: Sequence[Key], batch: Array) -> None:
        """Set samples stacked on axis 0, in the column's dtype and shape, under as many distinct keys."""
        with self._workspace.lock:
            self.edit.put_many(keys, self._encode_batch(batch))  # type: ignore[arg-type]

    def set_record(self, **changes: Any) -> None:
        """Change the column's codec or attrs."""
        with self._workspace.lock:
            self.edit.record = msgspec.structs.replace(self.edit.record, **changes)

    @property
    def _record(self) -> ColumnRecord:
        return self.edit.record

    def _choose_stream(self) -> Stream:
        """Return the stream for chunks of whole samples: packs of their shape, or ragged packs if shapes vary."""
        record = self._record
        if record.is_text:
            return Stream("uint8", None, record.codec)
        shape = tuple(length for length in record.shape if length is not None)
        return Stream(format_storage(record.dtype), shape if self._format.is_fixed else None, record.codec)

    def _encode(self, value: object, key: object) -> bytes:
        """Put the bytes of one sample in the store, and return its entry."""
        data, shape = self._take_bytes(value, key)
        kind = choose_kind(len(data))
        if kind is EntryKind.CHUNK:
            if self._stream.codec != self._record.codec:
                self._stream = self._choose_stream()
            payload: bytes = self._workspace.tensors.put_row(bytes(data), self._stream)
        elif kind is EntryKind.INLINE:
            payload = bytes(data)
        else:
            payload = self._put_large(data, shape)
        return self._format.encode(kind, shape, payload)

    def _take_bytes(self, value: object, key: object) -> tuple[Buffer, tuple[int, ...]]:
        """Return the raw bytes and the shape of a sample; raises `SchemaError` if it does not fit the column."""
        if self._is_text:
            text = encode_text(self._record, value, self._where(key))
            return text, (len(text),)
        fits = type(value) is np.ndarray and value.dtype == self._dtype and value.shape == self._shape
        array: Array = value if fits else as_sample(self._record, value, self._where(key))  # type: ignore[assignment]
        return as_bytes(array if array.flags.c_contiguous else np.ascontiguousarray(array)), array.shape

    def _put_large(self, data: Buffer, shape: tuple[int, ...]) -> bytes:
        dtype = "uint8" if self._record.is_text else self._record.dtype
        chunks = self._workspace.tensors.put_tensor(data, shape, dtype=dtype, codec=self._record.codec)
        return self._workspace.objects.put_object(chunks.encode())

    def _extend_array(self, values: Array, first: int) -> range:
        batch = as_batch(self._record, values, f"column {self._name!r}", first_key=first)
        self._check_key_range(first + len(batch))
        size = max(1, _BATCH_NBYTES // max(1, batch.itemsize * math.prod(batch.shape[1:])))
        try:
            for start in range(0, len(batch), size):
                part = batch[start : start + size]
                self.edit.append(range(first + start, first + start + len(part)), self._encode_batch(part))
        finally:
            self._workspace.wait_for_writes()  # after the return the caller may change the array
        return range(first, first + len(batch))

    def _encode_batch(self, batch: Array) -> NDArray[np.uint8]:
        """Return the entries `(n, width)` of samples stacked on axis 0."""
        record = self._record
        kind = record.entry_format.kind
        if kind is EntryKind.INLINE or kind is EntryKind.CHUNK:
            rows = as_bytes(np.ascontiguousarray(batch)).reshape(len(batch), record.entry_format.item_nbytes or 0)
            return rows if kind is EntryKind.INLINE else self._workspace.tensors.put_rows(rows, self._choose_stream())
        entries = b"".join([self._encode(sample, position) for position, sample in enumerate(batch)])
        return np.frombuffer(entries, np.uint8).reshape(len(batch), record.entry_format.width)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        with self._workspace.lock:
            savepoint = self.edit.save()
            try:
                yield
            except BaseException:
                self.edit.restore(savepoint)
                raise

    def _check_key_range(self, key: Key) -> None:
        if isinstance(key, int):
            if not -_MAX_KEY - 1 <= key <= _MAX_KEY:
                raise InvalidInputError(f"column {self._name!r}: key {key} does not fit 64 bits")
        elif len(key) * 4 > MAX_KEY_NBYTES and len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_NBYTES:
            raise InvalidInputError(
                f"column {self._name!r}: key {key[:20]!r}... takes more than {MAX_KEY_NBYTES} bytes of UTF-8"
            )

    def _note_appended(self, keys: range) -> range:
        self.edit.note_appended(keys)
        return keys

    def _check_free(self, key: int) -> None:
        if self.edit.find(key) is not None:
            raise InvalidInputError(
                f"column {self._name!r}: key {key} was set while extend was reading its samples; give it a list of them"
            )

    def _where(self, key: object) -> str:
        return f"column {self._name!r}, key {key!r}"
