"""Samples of many shapes in one array: each at the start of its place, the rest filled up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stockroom.errors import SchemaError
from stockroom.shelves.data.values import Array


def pad_samples(
    samples: Sequence[Array], pad: Any, *, shape: tuple[int | None, ...], dtype: np.dtype[Any], where: str
) -> Array:
    """`(n, *longest)`: samples with as many axes, each axis as long as the longest, filled up with `pad`.

    `shape` is that of the column. Raises `SchemaError` naming `where` if `pad` is no value of `dtype`.
    """
    if any(sample.ndim != samples[0].ndim for sample in samples):
        raise SchemaError(f"{where}: samples with different numbers of axes cannot be padded to one shape")
    longest = (
        np.max([sample.shape for sample in samples], axis=0).tolist() if samples else [length or 0 for length in shape]
    )
    batch = _fill((len(samples), *longest), pad, dtype, where)
    for place, sample in zip(batch, samples, strict=True):
        place[(*map(slice, sample.shape), ...)] = sample
    return batch


def _fill(shape: tuple[int, ...], pad: Any, dtype: np.dtype[Any], where: str) -> Array:
    try:
        value = np.asarray(pad).astype(dtype) if dtype.kind == "V" else np.array(pad, dtype)
        if value.ndim == 0 and (dtype.kind not in "biu" or value == pad):
            return np.full(shape, value, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise SchemaError(f"{where}: {pad!r} is no {dtype} to pad with ({error})") from error
    raise SchemaError(f"{where}: expected one {dtype} to pad with, found {pad!r:.80}")
