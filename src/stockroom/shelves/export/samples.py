"""The samples of one export: selected ones of a column, in bounded batches, with their keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError, SchemaError
from stockroom.shelves.export.export_record import ExportRecord
from stockroom.shelves.read_ahead import ReadAhead
from stockroom.store.dtypes import format_dtype, parse_dtype
from stockroom.store.wide_floats import is_extension

_BATCH_NBYTES: Final = 8 << 20
_MAX_ROWS_AT_ONCE: Final = 4096

Array: TypeAlias = NDArray[Any]
Positions: TypeAlias = NDArray[np.int64]


class _Column(Protocol):
    """The methods of a column that an export uses."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> np.dtype[Any] | str: ...
    @property
    def shape(self) -> tuple[int | None, ...]: ...
    @property
    def decoder(self) -> str | None: ...
    @property
    def encoded(self) -> _Column: ...
    @property
    def key_type(self) -> str: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def attrs(self) -> Mapping[str, Any]: ...
    def __len__(self) -> int: ...
    def take(self, positions: Positions, /) -> Any: ...
    def read_ahead(self, positions: Positions, /) -> ReadAhead | None: ...
    def keys_at(self, positions: Positions, /) -> list[Any]: ...
    def stored_keys_at(self, positions: Positions, /) -> list[int | str]: ...


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples at some positions of a column. Images are exported as the files that are stored."""

    column: _Column
    positions: Positions
    on_progress: Callable[[int, int], object] | None = None
    left_out: list[str] = field(default_factory=list)
    """A line for each part of the column that the export does not hold."""

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.name

    @property
    def stored(self) -> _Column:
        """The column without its decoder."""
        return self.column.encoded

    @property
    def is_one_array(self) -> bool:
        """Whether all samples are arrays of one shape."""
        return not isinstance(self.stored.dtype, str) and None not in self.stored.shape

    @property
    def is_numbered(self) -> bool:
        """Whether the keys are 0, 1, 2 and so on, and need not be written."""
        count = len(self)
        if self.column.key_type != "int" or not count or not np.array_equal(self.positions, np.arange(count)):
            return count == 0
        return self.column.keys_at(self.positions[[0, -1]]) == [0, count - 1]

    @property
    def attrs(self) -> dict[str, Any]:
        """The column's attrs."""
        return dict(self.column.attrs)

    def make_record(self, **where: Any) -> ExportRecord:
        """Return the record of an export; `where` are the fields that say where it holds samples and keys."""
        dtype = self.stored.dtype
        return ExportRecord(
            column=self.name,
            dtype=dtype if isinstance(dtype, str) else format_dtype(dtype),
            shape=list(self.stored.shape),
            key_type="int" if self.column.key_type == "int" else "str",
            decoder=self.column.decoder,
            **where,
        )

    def leave_out(self, what: str, hint: str) -> None:
        """Say in one line what of the column the export does not hold."""
        self.left_out.append(f"column {self.name!r}: left out {what}; {hint}")

    def leave_out_attrs(self, kind: str) -> None:
        """Say that a kind of file cannot hold the attrs, if there are any."""
        if names := list(self.attrs):
            listed = ", ".join(f"`{name[:40]}`" for name in names[:5]) + (" and more" if len(names) > 5 else "")
            self.leave_out(f"the attrs {listed}", f"{kind} cannot hold them; .parquet and .zarr can")

    def iter_batches(self) -> Iterator[tuple[list[int | str], Any]]:
        """Yield stored keys and samples, about 8 MiB at a time: an array `(n, *shape)`, or a list."""
        column = self.stored
        size = max(1, min(_MAX_ROWS_AT_ONCE, _BATCH_NBYTES * len(column) // max(1, column.nbytes)))
        ahead = column.read_ahead(self.positions)
        for start in range(0, len(self), size):
            indices = np.arange(start, min(start + size, len(self)))
            if ahead is not None:
                ahead.see(indices)
            positions = self.positions[indices]
            yield self.column.stored_keys_at(positions), column.take(positions)
            if self.on_progress is not None:
                self.on_progress(int(indices[-1]) + 1, len(self))

    def iter_samples(self) -> Iterator[tuple[int | str, Any]]:
        """Yield keys and samples, one by one."""
        for keys, batch in self.iter_batches():
            for row, key in enumerate(keys):
                yield key, batch[row, ...] if isinstance(batch, np.ndarray) else batch[row]

    def refuse_key(self, key: int | str, kind: str, hint: str) -> InvalidInputError:
        """Return the error for a kind of file that cannot hold a key."""
        return InvalidInputError(f"column {self.name!r} has the key {key!r:.80}, which {kind} cannot hold; {hint}")

    def refuse(self, kind: str, hint: str) -> InvalidInputError:
        """Return the error for a kind of file that cannot hold these samples."""
        column = self.stored
        shape = "" if isinstance(column.dtype, str) else f" of shape {column.shape}"
        return InvalidInputError(
            f"column {self.name!r} has samples of {column.dtype}{shape}, which {kind} cannot hold; {hint}"
        )


def as_plain(array: Array) -> Array:
    """Return the same bytes in a dtype that numpy alone can read: bfloat16 and float8 as the only field of a structure.

    `np.load(...).view(ml_dtypes.bfloat16)` gives the values; without it, nothing takes the bytes for numbers.
    """
    return array.view(plain_dtype(array.dtype)) if is_extension(array.dtype) else array


def plain_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that `as_plain` returns."""
    return np.dtype([(dtype.name, f"V{dtype.itemsize}")]) if is_extension(dtype) else dtype


def restore_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype for which `plain_dtype` returned `dtype`; any other dtype as it is."""
    if dtype.names is not None and len(dtype.names) == 1 and dtype.names[0].startswith(("bfloat16", "float8_")):
        with suppress(SchemaError):
            found = parse_dtype(dtype.names[0])
            return found if plain_dtype(found) == dtype else dtype
    return dtype
