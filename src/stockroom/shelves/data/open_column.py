"""An open column: its samples come from the commit that its handle is pinned to, or the open workspace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import ColumnRecord
from stockroom.content.column_edit import ColumnEdit
from stockroom.content.snapshot import DATA, name_path
from stockroom.digest import ObjectDigest
from stockroom.errors import ColumnNotFoundError, ReadOnlyError, SampleNotFoundError, SchemaError
from stockroom.shelves.data.keys import KeyChoice, check_key, check_mask, parse_nested
from stockroom.shelves.data.sample_reader import SampleReader
from stockroom.shelves.data.values import check_unmasked, to_array
from stockroom.shelves.model.tensor_library import is_tensor
from stockroom.shelves.pin import Pin
from stockroom.trees import Key, KeyType, Tree, find_unshared_key

if TYPE_CHECKING:
    from stockroom.shelves.data.writer import ColumnWriter


class OpenColumn:
    """The state that all views of one column share; it knows stored bytes and no decoders.

    Taken while the handle does not write, it is `pinned`: it always reads the handle's commit. Taken in a
    workspace, it reads the staged content, and later the commit that the handle is then pinned to. `freeze` pins it to
    the present content.
    """

    def __init__(self, pin: Pin, name: str, *, frozen: SampleReader | None = None) -> None:
        self.pin = pin
        self.name = name
        self._path = name_path(DATA, name)
        self._workspace = None if frozen is not None else pin.workspace
        self._frozen_in = None if frozen is None else pin.workspace
        self._check_kept = pin.check_open if frozen is None else pin.guard(frozen.tree.root)
        self.pinned = frozen or (None if self._workspace is not None else self._open_pinned())
        self._staged: SampleReader | None = None
        self._entries: SampleReader | None = None
        self._writer: ColumnWriter | None = None
        if self._workspace is not None:
            self._get_edit()

    def freeze(self) -> OpenColumn:
        """Return a source that keeps reading the present content, even if more is staged later."""
        reader = self.reader
        self.note_read(reader)
        return OpenColumn(self.pin, self.name, frozen=reader) if self.is_staged else self

    def note_read(self, reader: SampleReader) -> None:
        """Note in the workspace that the column's samples are read together."""
        if self._workspace is not None and self.is_staged:
            self._workspace.reads.trees.setdefault(self._path, reader.tree)

    def read_attrs(self) -> Mapping[str, Any]:
        """Return the column's attrs, and note in the workspace that they were read."""
        attrs = self.record.attrs
        if self._workspace is not None and self.is_staged:
            self._workspace.reads.attrs.setdefault(self._path, attrs)
        return attrs

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
        self._check_kept()
        if self.is_staged:
            return self._read_staged()
        if self._workspace is not None:  # the column's workspace has ended
            self._workspace, self._staged, self.pinned = None, None, self._open_pinned()
        assert self.pinned is not None
        if self._frozen_in is not None and self.pinned.reads_unflushed and self._frozen_in.is_flushed:
            self.pinned = SampleReader(self.pinned.record, self.pinned.tree, self.pin.tensors)
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
        """Return the entry under a key, to be read; raises `SampleNotFoundError` if there is none."""
        value = self.find_entry(key)
        if self._workspace is not None and self.is_staged:
            self._workspace.reads.add_key(self._path, key, value)
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

    def get_selected(self, keys: Any) -> NDArray[np.int64]:
        """Return the positions that a slice of them, an iterable of keys, or a mask in key order selects."""
        if isinstance(keys, slice):
            return np.arange(*keys.indices(self.tree.count), dtype=np.int64)
        if is_tensor(keys):
            keys = to_array(keys)
        if isinstance(keys, np.ndarray):
            keys = check_unmasked(keys, f"column {self.name!r}, keys")
            is_mask = keys.dtype == np.bool_
            return check_mask(keys, self.tree.count, column=self.name) if is_mask else self.get_positions(keys)
        if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
            raise SchemaError(f"column {self.name!r}: expected a list of keys, found one {type(keys).__name__}")
        return self.get_positions(list(keys))

    def choose_positions(self, keys: KeyChoice, where: str | None) -> NDArray[np.int64]:
        """Return the positions of the samples that `keys` select and that meet the condition `where`."""
        positions = self.get_selected(slice(None) if keys is None else keys)
        if where is not None:
            from stockroom.shelves.condition import choose_where  # here for start-up time

            positions = positions[choose_where(where, self._read_along)[positions]]
        return positions

    def _read_along(self, name: str) -> NDArray[Any]:
        """Return the values `(n,)` of another column under the keys of this one."""
        other = OpenColumn(self.pin, name)
        has_keys = other.record.key_type == self.record.key_type and find_unshared_key(other.tree, self.tree) is None
        if not has_keys:
            raise SchemaError(
                f"columns {self.name!r} and {name!r} do not have the same keys, so {name!r} cannot choose samples"
            )
        values = np.asarray(other.reader.read_batch(np.arange(other.tree.count, dtype=np.int64)))
        if values.ndim != 1 or other.record.decoder is not None:
            raise SchemaError(f"column {name!r} holds arrays; a condition needs one value a sample")
        return values

    def check_key(self, key: object) -> Key:
        """Return a key as the column stores it; raises `SchemaError` if it cannot be one."""
        return check_key(key, self.record.key_type, column=self.name)

    def missing(self, key: object) -> SampleNotFoundError:
        """Return the error for a key that the column does not have."""
        shown = parse_nested(key) if isinstance(key, str) else key
        return SampleNotFoundError(
            f"column {self.name!r} has no sample under key {shown!r} (it has {self.tree.count} samples)"
        )

    def require_commit(self) -> str:
        """Return the commit that has these samples; raises `TypeError` if there is none."""
        written_in = self._workspace or self._frozen_in
        if written_in is not None and self.pin.workspace is written_in:
            raise TypeError(
                f"column {self.name!r} is being written and cannot be pickled: commit, then take it from a reader"
            )
        reader = self.reader
        commit, found = reader.commit, self.pin.snapshot.find_column(self._path)
        is_committed = found is not None and found.root == reader.tree.root and found.schema == reader.record.schema
        if self._frozen_in is not None and is_committed:
            commit = self.pin.commit
        if commit is None:
            raise TypeError(f"column {self.name!r} belongs to no commit and cannot be pickled: commit first")
        return commit

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
