"""What notebooks show of repositories, shelves, columns and commits: HTML of bounded size, which fetches nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stockroom.content.html_table import MAX_ROWS, Markup, format_table
from stockroom.errors import StockroomError
from stockroom.shelves.data.values import Array, format_shape
from stockroom.shelves.png import encode_png, is_image

if TYPE_CHECKING:
    from stockroom.shelves.data.column import Column
    from stockroom.shelves.data.shelf import DataShelf
    from stockroom.shelves.report import Commit
    from stockroom.shelves.stock.handle import Handle

_SAMPLES: Final = 12
_SIDE: Final = 64
_MIN_SIDE: Final = 8
_MAX_SAMPLE_NBYTES: Final = 16 << 20
_COLUMN_HEADINGS: Final = ("column", "dtype", "shape", "samples")


def show_stock(stock: Handle) -> str:
    """A handle: where it is, and what it holds."""
    title = f"{stock.path} · {stock.branch or 'detached'} · {(stock.commit_id or 'no commit')[:12]}"
    rows = [*islice(_iter_columns(stock.data), MAX_ROWS)]
    rows += [(f"model/{name}", "", "", "") for name in islice(stock.model, MAX_ROWS)]
    rows += [(f"experiment/{name}", "", "", "") for name in islice(stock.experiment, MAX_ROWS)]
    return format_table(title, rows, headings=_COLUMN_HEADINGS)


def show_data(shelf: DataShelf) -> str:
    """A data shelf: its columns."""
    return format_table(f"{len(shelf)} columns", _iter_columns(shelf), headings=_COLUMN_HEADINGS)


def show_commit(commit: Commit) -> str:
    """A commit: what it says, and of whom."""
    rows: list[tuple[object, ...]] = [
        ("author", f"{commit.author} <{commit.email}>"),
        ("time", commit.time.isoformat(" ", "seconds")),
        ("parents", ", ".join(parent[:12] for parent in commit.parents[:5]) or "none"),
        ("message", commit.message),
    ]
    return format_table(f"commit {commit.id[:12]}", rows + list(commit.metadata.items()))


def show_column(column: Column) -> str:
    """A column: its schema, and its first samples, arrays that are pictures as such."""
    shape = "" if isinstance(column.dtype, str) else f" {format_shape(column.shape)}"
    title = f"data/{column.name}: {column.dtype}{shape}, {len(column)} samples, {column.key_type} keys"
    rows: list[tuple[object, ...]] = [(f"attr {name}", value) for name, value in islice(column.attrs.items(), _SAMPLES)]
    keys = column.keys_at(np.arange(min(_SAMPLES, len(column))))
    return format_table(title, [*rows, *((key, _show_sample(column, key)) for key in keys)])


def _iter_columns(shelf: DataShelf) -> Iterator[tuple[object, ...]]:
    for name in shelf:
        column = shelf[name]
        shape = "" if isinstance(column.dtype, str) else format_shape(column.shape)
        yield f"data/{name}", column.dtype, shape, len(column)


def _show_sample(column: Column, key: Any) -> object:
    try:
        sample = column.peek(key, max_nbytes=_MAX_SAMPLE_NBYTES)
    except StockroomError as error:
        return str(error)
    if sample is None:
        return "(too large to show, or not on this machine)"
    if not isinstance(sample, np.ndarray):
        return sample if isinstance(sample, str) else repr(sample[:_SIDE])
    picture = make_thumbnail(sample)
    if picture is not None:
        data = base64.b64encode(encode_png(picture)).decode()
        return Markup(f'<img src="data:image/png;base64,{data}" alt="{sample.shape[0]} x {sample.shape[1]}">')
    return np.array2string(sample, threshold=8, edgeitems=2, max_line_width=100)


def make_thumbnail(sample: Array) -> Array | None:
    """A small picture of an array of height and width, with channels last or first; None if it is none."""
    array = sample
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or min(array.shape[:2]) < _MIN_SIDE or array.dtype.kind not in "biuf":
        return None
    small = array[:: -(-array.shape[0] // _SIDE), :: -(-array.shape[1] // _SIDE)]
    picture = np.ascontiguousarray(small if small.dtype == np.uint8 else _stretch(small))
    return picture if is_image(picture) else None


def _stretch(array: Array) -> Array:
    """Values spread over 0 to 255; those that are not finite are 0."""
    numbers = np.where(np.isfinite(array), array, 0).astype(np.float64)
    low, high = numbers.min(), numbers.max()
    spread: Array = ((numbers - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    return spread
