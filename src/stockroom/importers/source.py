"""The interface of every importer: the request, and the columns that answer it.

Owns `ImportSpec`, `ColumnSource`, `TableSource` and the `Importer` protocol. Knows no file format and no shelf.

A plug-in is a class that follows `Importer` and is constructed without arguments. It is named under the entry-point
group `stockroom.importers`. The entry point's name is the first part of its sources: `torchvision` answers for
`torchvision.mnist`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import InvalidInputError
from stockroom.importers.left_out import LeftOut
from stockroom.importers.limits import DEFAULT, Limits
from stockroom.shelves.data.table import ColumnPlan, Values
from stockroom.shelves.data.values import Schema

BATCH_NBYTES = 8 << 20
"""The target bytes of a batch: an import holds about this much of a column in memory, whatever its size."""

Batch: TypeAlias = NDArray[Any]
"""Samples stacked along axis 0: `(n, *shape)`."""


@dataclass(frozen=True, slots=True)
class ImportSpec:
    """A user's request to import.

    `source` is a name such as `"torchvision.cifar10"` or `"numpy"`; `paths` are files named one by one; `root` is a
    folder to look in; `download` allows downloading missing files. `split` is the part of a data set that comes in
    several; `keep_encoded` leaves images as the files they are; `skip_broken` skips input that cannot be read. `limits`
    bound the memory and time a hostile file can use.
    """

    source: str
    paths: tuple[Path, ...] = ()
    root: Path | None = None
    download: bool = False
    split: str | None = None
    keep_encoded: bool = False
    skip_broken: bool = False
    limits: Limits = DEFAULT

    def list_paths(self, endings: str) -> list[Path]:
        """Return `paths`, relative to `root` if given. Raises `InvalidInputError`, which says `endings`, for none."""
        if not self.paths:
            raise InvalidInputError(f"expected {endings} files to import, found none")
        return [(self.root or Path()) / path for path in self.paths]


@dataclass(frozen=True, slots=True)
class ColumnSource:
    """One column to import: its schema, and a way to stream its samples in bounded batches.

    `dtype` is in native byte order; `shape` is one sample's; `count` is None if it is known only at the end. Each call
    of `batches` starts again from the first sample. `left_out` counts the input beside it that is not imported.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    count: int | None
    batches: Callable[[], Iterator[Batch]]
    attrs: Mapping[str, object] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True, slots=True)
class TableSource:
    """Columns to import whose samples are read together, row by row.

    `plans` describes the columns known in advance; others are created when they first have a value. `count` is None if
    it is known only at the end. `batches` yields batches of rows, by column: arrays, or lists with None for rows
    without a value. It adds a line to `skipped` for each part that it skips as unreadable, and counts in `left_out` the
    parts that it does not import.
    """

    name: str
    plans: Sequence[ColumnPlan]
    count: int | None
    batches: Callable[[], Iterator[Mapping[str, Values]]]
    skipped: list[str] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True, slots=True)
class KeyedSource:
    """One column to import with its keys, as an export of ours holds it.

    `schema` has its dtype, and the shape of its samples with None for an axis of any length. Each call of `batches`
    yields keys and as many samples; without keys, the samples follow each other.
    """

    name: str
    schema: Schema
    key_type: str
    count: int | None
    batches: Callable[[], Iterator[tuple[Sequence[Any] | None, Values]]]
    attrs: Mapping[str, object] = field(default_factory=dict)
    decoder: str | None = None
    left_out: LeftOut = field(default_factory=LeftOut)


Source: TypeAlias = ColumnSource | TableSource | KeyedSource


@runtime_checkable
class Importer(Protocol):
    """A plug-in that turns an `ImportSpec` into columns."""

    @property
    def name(self) -> str:
        """The first part of every source of this importer."""

    def sources(self) -> Sequence[str]:
        """Return its sources, as the user types them: without its own method, the one called `name`."""
        return [self.name]

    def open(self, spec: ImportSpec) -> Sequence[Source]:
        """Return the columns of `spec`, in the order to import them. Reads headers, not samples.

        Raises `InvalidInputError` if a file is missing or of another kind, `CorruptionError` if it is damaged.
        """


def count_batch_rows(dtype: np.dtype[Any], shape: Sequence[int]) -> int:
    """Return the number of samples in a batch: as many as fit `BATCH_NBYTES`, at least one."""
    sample_nbytes = dtype.itemsize * math.prod(shape)
    return max(1, BATCH_NBYTES // max(1, sample_nbytes))
