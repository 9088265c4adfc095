"""A map-style data set over columns. It pickles as a path, a commit and names, and gathers a batch at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError, SchemaError
from stockroom.shelves.data.column import Column
from stockroom.shelves.data.keys import KeyChoice, is_integer, is_selection
from stockroom.shelves.data.sample_reader import Batch
from stockroom.shelves.data.values import Array, describe_value
from stockroom.shelves.read_ahead import ReadAhead
from stockroom.shelves.stock.stock import StockRoom
from stockroom.store.dtypes import EXTENSION_NAMES
from stockroom.trees import Key

try:
    import torch
    from torch.utils.data import Dataset, default_collate
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "make_torch_dataset needs PyTorch: install it with `pip install 'stockroom-vcs[torch]'`", name=error.name
    ) from error

Transform: TypeAlias = Callable[[Any], Any]


def make_torch_dataset(
    columns: Column | Sequence[Column] | Mapping[str, Column],
    keys: KeyChoice = None,
    transform: Transform | None = None,
) -> ColumnDataset:
    """Make a data set of the samples that `columns` hold under the same keys. Samples staged later are not in it.

    Args:
        columns: a sequence (samples are tuples) or a mapping (samples are dicts).
        keys: which samples, in this order; a slice or a mask selects by position; None takes all, in key order.
        transform: called with each sample; must be picklable to be used with spawned workers.

    Raises:
        InvalidInputError: no columns were given.
        SchemaError: the columns do not have the same keys.
        SampleNotFoundError: a column lacks one of `keys`.
    """
    if isinstance(columns, Column):  # a mapping too, but from keys to samples
        return make_torch_dataset([columns], keys, transform)
    is_mapping = isinstance(columns, Mapping)
    names: list[str] | None = [str(name) for name in columns] if is_mapping else None
    listed: list[Any] = list(columns.values() if isinstance(columns, Mapping) else columns)
    if not listed:
        raise InvalidInputError("expected at least one column, found none")
    for column in listed:
        if not isinstance(column, Column):
            raise InvalidInputError(f"expected columns such as stock.data['image'], found {type(column).__name__}")
    listed = [column.freeze() for column in listed]
    if keys is None or _is_by_position(keys):
        _check_same_keys(listed)
    return ColumnDataset(listed, names, None if keys is None else _compact(_list_keys(listed[0], keys)), transform)


class ColumnDataset(Dataset[Any]):
    """Samples of several columns under the same keys. Made by `make_torch_dataset`."""

    def __init__(
        self,
        columns: list[Column],
        names: list[str] | None,
        keys: range | list[Key] | None,
        transform: Transform | None,
    ) -> None:
        self._columns: list[Column] | None = columns
        self._names = names
        self._keys = keys
        self._transform = transform
        self._positions: list[NDArray[np.int64]] | None = None
        self._stock: StockRoom | None = None
        self._ahead: list[ReadAhead] | None = None
        self._find_positions()
        self._open_ahead()  # starts the fetch agent while workers start

    def __len__(self) -> int:
        return len(self._open()[0]) if self._keys is None else len(self._keys)

    def __getitem__(self, index: Any) -> Any:
        """Return the sample at an index; for a slice or a list of indices, the samples collated as a DataLoader does.

        A mask selects as in numpy. Raises `IndexError` for an index that is out of range.
        """
        if is_integer(index):
            return self.__getitems__(self._check_indices([operator.index(index)]))[0]
        if not is_selection(index):
            raise TypeError(f"expected an index, a slice or a list of indices, found {describe_value(index)}")
        return default_collate(self.__getitems__(self._check_indices(index)))

    def __getitems__(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Any]:
        """Return the samples at `indices`, by one gather per column. DataLoader calls this with a whole batch."""
        wanted = np.asarray(indices, np.int64)
        columns = self._open()
        positions = self._find_positions()
        for ahead in self._open_ahead():
            ahead.see(wanted)
        batches = [
            _split_samples(column.take(wanted if positions is None else positions[number][wanted]))
            for number, column in enumerate(columns)
        ]
        samples: list[Any] = list(zip(*batches, strict=True))
        if self._names is not None:
            samples = [dict(zip(self._names, sample, strict=True)) for sample in samples]
        return samples if self._transform is None else [self._transform(sample) for sample in samples]

    def _check_indices(self, indices: Any) -> NDArray[np.int64]:
        """Return the indices that a list, slice or mask selects, as they count from the start."""
        count = len(self)
        if isinstance(indices, slice):
            return np.arange(*indices.indices(count), dtype=np.int64)
        array = np.asarray(indices)
        if array.dtype == np.bool_ and array.shape == (count,):
            return np.flatnonzero(array)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and len(array)):
            raise TypeError(f"expected integer indices, or a mask of {count}, found {describe_value(array)}")
        found = array.astype(np.int64)
        wrong = found[(found < -count) | (found >= count)]
        if len(wrong):
            raise IndexError(f"index {wrong[0]} is out of range for {count} samples")
        return np.where(found < 0, found + count, found)

    def __getstate__(self) -> dict[str, Any]:
        columns = self._open()
        path, commit, lazy = columns[0].pin()
        for column in columns:
            if column.pin()[:2] != (path, commit):
                raise InvalidInputError(
                    "columns of one data set must come from one repository and commit to be pickled"
                )
        return {
            "path": str(path),
            "commit": commit,
            "lazy": lazy,
            "columns": [(column.name, column.decodes) for column in columns],
            "names": self._names,
            "keys": self._keys,
            "transform": self._transform,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._pinned = (Path(state["path"]), state["commit"], state["lazy"], state["columns"])
        self._names, self._keys, self._transform = state["names"], state["keys"], state["transform"]
        self._columns = self._positions = self._stock = self._ahead = None

    def _open(self) -> list[Column]:
        """Return the columns, opened in this process on first use."""
        if self._columns is None:
            path, commit, lazy, columns = self._pinned
            self._stock = StockRoom(path, ref=commit, lazy=lazy)
            opened = [(self._stock.data[name], decodes) for name, decodes in columns]
            self._columns = [column if decodes else column.encoded for column, decodes in opened]
        return self._columns

    def _open_ahead(self) -> list[ReadAhead]:
        """Return the read-ahead for samples taken in order, of columns that may be partly absent."""
        if self._ahead is None:
            found = [column.read_ahead(self._choose(number)) for number, column in enumerate(self._open())]
            self._ahead = [ahead for ahead in found if ahead is not None]
        return self._ahead

    def _choose(self, number: int) -> NDArray[np.int64] | None:
        positions = self._find_positions()
        return None if positions is None else positions[number]

    def _find_positions(self) -> list[NDArray[np.int64]] | None:
        """Return the position of each chosen key in each column, or None if all keys were taken."""
        if self._keys is not None and self._positions is None:
            keys = list(self._keys)
            self._positions = [column.positions_of(keys) for column in self._open()]
        return self._positions


def _is_by_position(keys: KeyChoice) -> bool:
    return isinstance(keys, slice) or getattr(keys, "dtype", None) in (np.bool_, torch.bool)


def _list_keys(column: Column, keys: Any) -> list[Any]:
    """Return the chosen keys as a list; raises `SchemaError` for a single one."""
    if _is_by_position(keys):
        known = list(column)
        return [known[position] for position in column.choose_positions(keys).tolist()]
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        column.choose_positions(keys)  # raises
    return keys.tolist() if isinstance(keys, np.ndarray | torch.Tensor) else list(keys)


def _compact(keys: list[Any]) -> range | list[Key]:
    """Return keys as a range if they are evenly spaced: a range pickles to almost nothing."""
    plain = [operator.index(key) if is_integer(key) else key for key in keys]
    if len(plain) > 1 and type(plain[0]) is type(plain[1]) is int and plain[0] != plain[1]:
        spaced = range(plain[0], plain[0] + (plain[1] - plain[0]) * len(plain), plain[1] - plain[0])
        if list(spaced) == plain:
            return spaced
    return plain


def _check_same_keys(columns: list[Column]) -> None:
    first = columns[0]
    for other in columns[1:]:
        if other.key_type != first.key_type:
            raise SchemaError(
                f"columns {first.name!r} and {other.name!r} have {first.key_type} and {other.key_type} keys: "
                "one data set needs the same keys in all its columns"
            )
        missing = first.find_unshared_key(other)
        if missing is not None:
            raise SchemaError(
                f"columns {first.name!r} ({len(first)} samples) and {other.name!r} ({len(other)}) do not have the same "
                f"keys: {missing!r} is in only one of them; select common keys with keys=..."
            )


def _to_tensor(array: Array) -> torch.Tensor:
    """Return a tensor on the memory of `array`: dates and durations as int64, float8 that torch lacks as uint8."""
    if array.dtype.name in EXTENSION_NAMES or array.dtype.name == "float8_e4m3":
        bits = torch.from_numpy(array.view(np.uint8 if array.dtype.itemsize == 1 else np.int16))
        dtype: Any = getattr(torch, array.dtype.name, None)
        return bits if dtype is None else bits.view(dtype)
    return torch.from_numpy(array.view(np.int64) if array.dtype.kind in "mM" else array)


def _split_samples(batch: Batch) -> Sequence[Any]:
    """Return the samples of a batch: tensors that share its memory, or text as it is."""
    if isinstance(batch, np.ndarray):
        return _to_tensor(batch).unbind(0)
    return [_to_tensor(sample) if isinstance(sample, np.ndarray) else sample for sample in batch]
