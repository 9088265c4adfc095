"""The seam every importer plugs into: what was asked for, and the columns that answer it.

Owns `ImportSpec`, `ColumnSource`, `TableSource` and the `Importer` protocol. Knows no file format and no shelf.

A plug-in is a class with no-argument construction that follows `Importer`, named under the entry-point
group `stockroom.importers`; the entry point's name is the first part of the sources it answers for, so
`torchvision` answers for `torchvision.mnist`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stockroom.shelves.data.table import ColumnPlan, Values

BATCH_NBYTES = 8 << 20
"""Bytes a batch aims at: importing holds about this much of a column in memory, whatever its size."""

Batch: TypeAlias = NDArray[Any]
"""Samples stacked along axis 0: `(n, *shape)`."""


@dataclass(frozen=True, slots=True)
class ImportSpec:
    """What the user asked to import.

    `source` is a name such as `"torchvision.cifar10"` or `"numpy"`; `paths` are files named one by one;
    `root` is a folder to look in; `download` allows fetching what is not there. `split` is the part of a data set
    that comes in several; `keep_encoded` leaves images as the files they are; `skip_broken` leaves out what cannot be
    read.
    """

    source: str
    paths: tuple[Path, ...] = ()
    root: Path | None = None
    download: bool = False
    split: str | None = None
    keep_encoded: bool = False
    skip_broken: bool = False


@dataclass(frozen=True, slots=True)
class ColumnSource:
    """One column to come: its schema, and a way to stream its samples in bounded batches.

    `dtype` is in the machine's byte order; `shape` is one sample's; `count` is None where it shows only
    at the end. Each call of `batches` starts again from the first sample.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    count: int | None
    batches: Callable[[], Iterator[Batch]]
    attrs: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableSource:
    """Columns to come whose samples are read together, row by row.

    `plans` says what is known of them beforehand; those it leaves out are made when they first have a value. `count` is
    None where it shows only at the end. `batches` gives parts of some rows, by column: arrays, or lists with None where
    a row has no value. What it leaves out because it cannot be read, it adds to `skipped`, a line each.
    """

    name: str
    plans: Sequence[ColumnPlan]
    count: int | None
    batches: Callable[[], Iterator[Mapping[str, Values]]]
    skipped: list[str] = field(default_factory=list)


Source: TypeAlias = ColumnSource | TableSource


@runtime_checkable
class Importer(Protocol):
    """A plug-in that turns an `ImportSpec` into columns."""

    @property
    def name(self) -> str:
        """The first part of every source it answers for."""

    def sources(self) -> Sequence[str]:
        """Every source it answers for, as the user types them."""

    def open(self, spec: ImportSpec) -> Sequence[Source]:
        """The columns of `spec`, in the order to import them; headers are read, samples are not.

        Raises `InvalidInputError` where a file is missing or of another kind, `CorruptionError` where it is
        damaged.
        """


def count_batch_rows(dtype: np.dtype[Any], shape: Sequence[int]) -> int:
    """Samples of one batch: as many as fit `BATCH_NBYTES`, at least one."""
    sample_nbytes = dtype.itemsize * math.prod(shape)
    return max(1, BATCH_NBYTES // max(1, sample_nbytes))
