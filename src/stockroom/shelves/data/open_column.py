"""An open column: its samples come from the commit that its handle is pinned to, or the open workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import ColumnRecord
from stockroom.content.column_edit import ColumnEdit
from stockroom.content.snapshot import DATA
from stockroom.digest import ObjectDigest
from stockroom.errors import ColumnNotFoundError, ReadOnlyError, SampleNotFoundError, SchemaError
from stockroom.shelves.data.keys import check_key, check_mask, parse_nested
from stockroom.shelves.data.sample_reader import SampleReader
from stockroom.shelves.pin import Pin
from stockroom.trees import Key, KeyType, Tree

if TYPE_CHECKING:
    from stockroom.shelves.data.writer import ColumnWriter


class OpenColumn:
    """The state that all views of one column share; it knows stored bytes and no decoders.

    Taken while the handle does not write, it is `pinned`: it always reads the handle's commit. Taken in a
    workspace, it reads the staged content, and later the commit that the handle is then pinned to.
    """

    def __init__(self, pin: Pin, name: str) -> None:
        self.pin = pin
        self.name = name
        self._path = f"{DATA}/{name}"
        self._workspace = pin.workspace
        self.pinned = None if self._workspace is not None else self._open_pinned()
        self._staged: SampleReader | None = None
        self._entries: SampleReader | None = None
        self._writer: ColumnWriter | None = None
        if self._workspace is not None:
            self._get_edit()

    @property
    def is_staged(self) -> bool:
        """Whether the column belongs to the open workspace."""
        return self._workspace is not None and self.pin.workspace is self._workspace

    @property
    def record(self) -> ColumnRecord:
        """The column's record, including staged changes."""
        return self._get_edit().record if self.is_staged else self.reader.record

    @property
    def tree(self) -> Tree:
        """The column's tree, including staged changes."""
        return self.reader.tree

    @property
    def reader(self) -> SampleReader:
        """The reader of samples by position; it includes staged changes."""
        self.pin.check_open()
        if self.is_staged:
            return self._read_staged()
        if self._workspace is not None:  # the column's workspace has ended
            self._workspace, self._staged, self.pinned = None, None, self._open_pinned()
        assert self.pinned is not None
        return self.pinned

    @property
    def entry_reader(self) -> SampleReader:
        """The reader of the entries that `get_value` returns; does not need staged changes to be in the tree."""
        if not self.is_staged:
            return self.reader
        assert self._workspace is not None
        record = self._get_edit().record
        if self._entries is None or self._entries.record.schema != record.schema:
            tree = Tree(self._workspace.nodes, record.tree_format, ObjectDigest(record.root))
            self._entries = SampleReader(record, tree, self.pin.tensors, self._workspace.read_unflushed_chunk)
        return self._entries

    @property
    def writer(self) -> ColumnWriter:
        """The writer that stages samples; raises `ReadOnlyError` unless the column is of the open workspace."""
        self.pin.check_open()
        workspace = self.pin.workspace
        if workspace is None:
            raise ReadOnlyError(
                f"column {self.name!r} was opened for reading: write inside `with stock.enable_write():`, or "
                "open with StockRoom(enable_write=True)"
            )
        if workspace is not self._workspace:
            raise ReadOnlyError(
                f"column {self.name!r} was taken from the shelf before writing was enabled: take it again, "
                f"stock.data[{self.name!r}]"
            )
        workspace.check_open()
        from stockroom.shelves.data.writer import ColumnWriter  # here for start-up time

        edit = self._get_edit()
        if self._writer is None or self._writer.edit is not edit:
            self._writer = ColumnWriter(workspace, edit, self.name)
        return self._writer

    def find_entry(self, key: Key) -> bytes | None:
        """Return the entry under a key, staged or stored; None if there is none."""
        workspace = self._workspace
        if workspace is not None and self.is_staged:
            with workspace.lock:
                return self._get_edit().find(key)
        return self.tree.get(key)

    def get_value(self, key: Key) -> bytes:
        """Return the entry under a key; raises `SampleNotFoundError` if there is none."""
        value = self.find_entry(key)
        if value is None:
            raise self.missing(key)
        return value

    def get_position(self, key: Key) -> int:
        """Return the position of a key in key order; raises `SampleNotFoundError` if it is not there."""
        position = self.reader.find_position(key)
        if position is None:
            raise self.missing(key)
        return position

    def get_positions(self, keys: Any) -> NDArray[np.int64]:
        """Return the positions of a list of keys or an array of integers; raises `SampleNotFoundError`."""
        is_integers = isinstance(keys, np.ndarray) and keys.dtype.kind in "iu"
        checked = keys if is_integers else [self.check_key(key) for key in keys]
        if not len(checked):
            return np.empty(0, np.int64)
        key_type = self.record.key_type
        if isinstance(checked, np.ndarray) and (key_type != KeyType.INT or checked.ndim != 1):
            raise SchemaError(f"column {self.name!r}: expected a list of {key_type} keys")
        positions = self.tree.positions_of(checked)  # type: ignore[arg-type]
        if (positions < 0).any():
            missing = checked[int(np.argmin(positions))]
            raise self.missing(missing if isinstance(missing, str) else int(missing))
        return positions

    def get_selected(self, keys: NDArray[Any]) -> NDArray[np.int64]:
        """Return the positions of an array of keys, or of the samples that a mask in key order selects."""
        if keys.dtype == np.bool_:
            return check_mask(keys, self.tree.count, column=self.name)
        return self.get_positions(keys)

    def check_key(self, key: object) -> Key:
        """Return a key as the column stores it; raises `SchemaError` if it cannot be one."""
        return check_key(key, self.record.key_type, column=self.name)

    def missing(self, key: object) -> SampleNotFoundError:
        """Return the error for a key that the column does not have."""
        shown = parse_nested(key) if isinstance(key, str) else key
        return SampleNotFoundError(
            f"column {self.name!r} has no sample under key {shown!r} (it has {self.tree.count} samples)"
        )

    def _open_pinned(self) -> SampleReader:
        snapshot = self.pin.snapshot
        record = snapshot.find_column(self._path)
        if record is None:
            raise self._missing_here()
        return SampleReader(record, snapshot.open_tree(record), self.pin.tensors, commit=self.pin.commit)

    def _get_edit(self) -> ColumnEdit:
        self.pin.check_open()
        assert self._workspace is not None
        edit = self._workspace.find_column(self._path)
        if edit is None:
            raise self._missing_here()
        return edit

    def _read_staged(self) -> SampleReader:
        """Return a reader of the column as staged now; reused until something is written."""
        assert self._workspace is not None
        with self._workspace.lock:
            edit = self._get_edit()
            tree, is_flushed = edit.tree, self._workspace.is_flushed
            staged = self._staged
            if staged is None or staged.tree != tree or staged.reads_unflushed == is_flushed:
                find = None if is_flushed else self._workspace.read_unflushed_chunk
                staged = self._staged = SampleReader(edit.record, tree, self.pin.tensors, find)
            return staged

    def _missing_here(self) -> ColumnNotFoundError:
        return self.pin.missing("column", DATA, self.name, ColumnNotFoundError)
