"""Shows samples of a column in notebooks: HTML of bounded size, without fetching. Knows no column."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

import numpy as np

from stockroom.content.html_table import Markup, format_table
from stockroom.errors import StockroomError
from stockroom.shelves.data.keys import SampleKey
from stockroom.shelves.data.values import Array
from stockroom.shelves.png import encode_png, is_image

MAX_SAMPLES: Final = 12
_SIDE: Final = 64
_MIN_SIDE: Final = 8
_MAX_SAMPLE_NBYTES: Final = 16 << 20


def show_column(title: str, attrs: Mapping[str, Any], keys: Iterable[SampleKey], peek: Callable[..., Any]) -> str:
    """Return HTML with a column's attrs and the samples under `keys`, read by `peek`; images as pictures."""
    rows: list[tuple[object, ...]] = [(f"attr {name}", value) for name, value in islice(attrs.items(), MAX_SAMPLES)]
    return format_table(title, [*rows, *((key, _show_sample(key, peek)) for key in keys)])


def _show_sample(key: SampleKey, peek: Callable[..., Any]) -> object:
    try:
        sample = peek(key, max_nbytes=_MAX_SAMPLE_NBYTES)
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
    """Return a small picture of an array, with channels last or first; None if the array is not an image."""
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
    """Scale values to 0 to 255; values that are not finite become 0."""
    numbers = np.where(np.isfinite(array), array, 0).astype(np.float64)
    low, high = numbers.min(), numbers.max()
    spread: Array = ((numbers - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    return spread
