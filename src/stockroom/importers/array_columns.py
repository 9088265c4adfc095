"""Columns out of named arrays whose first axis counts samples, and the arrays that no column holds.

Owns which arrays are left out beside others, and how text becomes samples. Knows no file format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from stockroom.errors import InvalidInputError, SchemaError
from stockroom.importers.left_out import LeftOut
from stockroom.importers.source import Batch, ColumnSource, Source, TableSource
from stockroom.importers.streams import translate_read_errors
from stockroom.shelves.data.table import ColumnPlan, Values
from stockroom.shelves.data.values import Schema
from stockroom.store.dtypes import format_dtype

_TEXT: Final = {"U": "str", "T": "str", "S": "bytes"}
"""Kinds of numpy's text dtypes -> the dtype of a column."""


@dataclass(frozen=True, slots=True)
class FoundArray:
    """An array in a file: `where` names both, for messages, and `batches` streams its samples.

    `text` is `str` or `bytes` if the array holds Python objects that are text.
    """

    where: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    batches: Callable[[], Iterator[Batch]]
    attrs: Mapping[str, object] = field(default_factory=dict)
    text: str = ""

    @property
    def text_dtype(self) -> str:
        """The dtype of its column if it is text; otherwise empty."""
        return self.text or _TEXT.get(self.dtype.kind, "")

    def make_column(self, name: str) -> Source:
        """Return the column called `name`. Requires that `find_unfit` finds nothing."""
        if not self.text_dtype:
            native = self.dtype if self.dtype.kind == "V" else self.dtype.newbyteorder("=")
            return ColumnSource(name, native, self.shape[1:], self.shape[0], self.batches, self.attrs)
        plan = ColumnPlan(name, Schema(self.text_dtype, (None,)), self.attrs)
        return TableSource(name, [plan], self.shape[0], partial(_iter_texts, name, self.batches, self.where))


def _iter_texts(name: str, batches: Callable[[], Iterator[Batch]], where: str) -> Iterator[dict[str, Values]]:
    with translate_read_errors(where):
        for batch in batches():
            yield {name: batch.tolist()}


def find_unfit(array: FoundArray) -> tuple[str, str] | None:
    """Return the kind of an array that no column holds, and why none does."""
    dtype, shape = array.dtype, array.shape
    if not shape:
        return "single value", "expected samples along the first axis, found a single value of shape ()"
    if array.text_dtype and dtype.itemsize:
        if len(shape) == 1:
            return None
        return "multi-axis text array", f"expected text along one axis, found shape {shape}"
    if dtype.hasobject or dtype.names is not None:
        return (
            "structured array" if dtype.names else "object array",
            f"expected numbers, found dtype {dtype}; save the fields of records and the contents of objects as "
            "separate numeric arrays",
        )
    try:
        format_dtype(dtype)
    except SchemaError:
        kind = "raw-bytes" if dtype.kind == "V" else dtype.name
        return f"{kind} array", f"expected numbers, found dtype {dtype}"
    if 0 in shape[1:]:
        return "zero-length array", f"expected samples that hold values, found shape {shape}"
    return None


def keep_fit(arrays: Mapping[str, FoundArray], left_out: LeftOut) -> dict[str, FoundArray]:
    """Return the arrays that columns hold, and count the others.

    Raises `InvalidInputError`, with the first reason, if there are others only.
    """
    kept, reasons = {}, []
    for title, array in arrays.items():
        unfit = find_unfit(array)
        if unfit is None:
            kept[title] = array
        else:
            kind, reason = unfit
            left_out.add(array.where, kind, "array")
            reasons.append(f"{array.where}: {reason}")
    if not kept and reasons:
        more = f" (and {len(reasons) - 1} more that no column holds)" if len(reasons) > 1 else ""
        raise InvalidInputError(reasons[0] + more)
    return kept
