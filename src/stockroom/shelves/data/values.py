"""Converts the values users put in a column (arrays, tensors, numbers, text) to little-endian arrays or bytes.

Never imports torch: a caller who has a tensor has imported it already.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stockroom.content.column import BYTES, STR, ColumnRecord
from stockroom.errors import CorruptionError, SchemaError
from stockroom.shelves.model.tensor_library import is_tensor
from stockroom.store.dtypes import format_dtype, parse_dtype

Array: TypeAlias = NDArray[Any]

_PYTHON_DTYPES = {bool: "bool", int: "int64", float: "float64", complex: "complex128"}
_MAX_AXES = 32
_SHARED_NBYTES = 64 << 10
_NORMAL = {np.dtype(name): (float(np.finfo(name).tiny), float(np.finfo(name).max)) for name in ("f2", "f4", "f8")}
"""The least and the greatest positive float that each dtype rounds to one of full precision."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of a column: a dtype name, `str` or `bytes`, and the shape of one sample."""

    dtype: str
    shape: tuple[int | None, ...]


def to_array(tensor: Any, where: str | None = None) -> Array:
    """Return a torch tensor's values as a numpy array, copied to the host if they are on another device.

    Raises `SchemaError`, naming `where`, for tensors without plain values: sparse, quantized or meta.
    """
    torch: Any = sys.modules["torch"]
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        found = f"expected a dense tensor, found {tensor.layout}; call `.to_dense()` or `.dequantize()` first"
        raise SchemaError(found if where is None else f"{where}: {found}")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    try:
        return np.asarray(plain.numpy())
    except TypeError:  # numpy itself does not have the dtype
        dtype = parse_dtype(str(plain.dtype).removeprefix("torch."))
        same_size = torch.uint8 if dtype.itemsize == 1 else torch.int16
        return np.asarray(plain.contiguous().view(same_size).numpy().view(dtype))


def infer_schema(value: object, where: str) -> Schema:
    """Return the schema of a column whose first sample is `value`; raises `SchemaError` naming `where` if invalid."""
    if isinstance(value, str):
        return Schema(STR, (None,))
    if isinstance(value, bytes | bytearray | memoryview):
        return Schema(BYTES, (None,))
    if is_tensor(value):
        value = to_array(value, where)
    if isinstance(value, np.ndarray | np.generic):
        check_unmasked(value, where)
        return Schema(_check_dtype(value, where), value.shape)
    dtype = _PYTHON_DTYPES.get(type(value))
    if dtype is None:
        raise SchemaError(f"{where}: expected an array, a tensor, a number, str or bytes, found {type(value).__name__}")
    return Schema(dtype, ())


def widen_schema(schema: Schema, other: Schema) -> Schema:
    """Return `schema` widened to admit samples of `other`, if dtypes and numbers of axes agree; otherwise as it is."""
    if other == schema or schema.dtype != other.dtype or len(schema.shape) != len(other.shape):
        return schema
    lengths = zip(schema.shape, other.shape, strict=True)
    return Schema(schema.dtype, tuple(ours if ours == theirs else None for ours, theirs in lengths))


def encode_text(record: ColumnRecord, value: object, where: str) -> bytes:
    """Return the bytes of a sample of a str or bytes column; raises `SchemaError` for any other value."""
    if record.dtype == STR and isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if record.dtype == BYTES and isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise SchemaError(f"{where}: expected {record.dtype}, found {type(value).__name__}")


def decode_text(record: ColumnRecord, data: bytes | bytearray) -> str | bytes:
    """Return the sample that `encode_text` encoded; raises `CorruptionError` if the bytes are not text."""
    if record.dtype != STR:
        return bytes(data)
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise CorruptionError(f"a sample of text is not UTF-8 ({error.reason}); run `stock fsck`") from error


def as_sample(record: ColumnRecord, value: object, where: str) -> Array:
    """Return a sample as a C-contiguous array of the column's dtype and shape; raises `SchemaError` if it differs."""
    dtype = parse_dtype(record.dtype)
    array = check_unmasked(value, where) if isinstance(value, np.ndarray) else _coerce(dtype, value, where)
    if array.dtype != dtype:
        array = _match_dtype(array, dtype, where)
    if array.shape != record.shape:
        _check_shape(record, array.shape, where)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array).reshape(array.shape)


def as_batch(record: ColumnRecord, values: Array, where: str, *, first_key: int = 0) -> Array:
    """Return samples stacked on axis 0, of the column's dtype and shape, in any memory order; raises `SchemaError`."""
    values = check_unmasked(values, where, first_key=first_key)
    if values.ndim == 0:
        raise SchemaError(f"{where}: expected an array of samples, found a single number; use `column[key] = value`")
    _check_shape(record, values.shape[1:], where)
    return _match_dtype(values, parse_dtype(record.dtype), where, by_batch=True)


def check_unmasked(array: Any, where: str, *, first_key: int | None = None) -> Any:
    """Return an array without its mask; raises `SchemaError` naming `where` if the mask hides any value.

    With `first_key`, samples are stacked on axis 0, and the error also names the first key whose values are hidden.
    """
    if type(array) is np.ndarray or not isinstance(array, np.ma.MaskedArray):
        return array
    if np.ma.is_masked(array):
        if first_key is not None and array.ndim:
            row = np.ma.getmaskarray(array).reshape(len(array), -1).any(axis=1).argmax()
            where = f"{where}, key {first_key + int(row)}"
        raise SchemaError(
            f"{where}: some values of the array are masked; fill them with `.filled(value)`, or store data and mask as "
            "two columns"
        )
    return np.ma.getdata(array)


def as_bytes(array: Array) -> NDArray[np.uint8]:
    """Return the raw little-endian bytes of a C-contiguous array, flat; a view unless the array is big-endian."""
    little = array.astype(array.dtype.newbyteorder("<")) if array.dtype.byteorder == ">" else array
    return little.reshape(-1).view(np.uint8)


def as_array_like(value: object, where: str | None = None) -> object:
    """Return `value`, converted to an array if it is a tensor; errors name `where`."""
    return to_array(value, where) if is_tensor(value) else value


def is_data_frame(value: object) -> bool:
    """Return whether this is a table of pandas, Polars or Arrow, which some iterate by its titles."""
    kind = type(value)
    return hasattr(kind, "__dataframe__") or (hasattr(kind, "__arrow_c_stream__") and hasattr(kind, "columns"))


def pad_samples(
    samples: Sequence[Any] | Array, pad: Any, *, shape: tuple[int | None, ...], dtype: np.dtype[Any] | str, where: str
) -> Array:
    """Return samples as one array `(n, *longest)`, each axis as long as the longest, filled up with `pad`.

    `shape` is the column's. An array is returned as it is. Raises `SchemaError` naming `where` for text, if numbers of
    axes differ, or if `pad` is not a value of `dtype`.
    """
    if isinstance(samples, np.ndarray):
        return samples
    if isinstance(dtype, str):
        raise SchemaError(f"{where} holds {dtype}, which cannot be padded; leave out pad")
    if any(sample.ndim != samples[0].ndim for sample in samples):
        raise SchemaError(f"{where}: samples with different numbers of axes cannot be padded to one shape")
    longest = (
        np.max([sample.shape for sample in samples], axis=0).tolist() if samples else [length or 0 for length in shape]
    )
    batch = _fill((len(samples), *longest), pad, dtype, where)
    for target, sample in zip(batch, samples, strict=True):
        target[(*map(slice, sample.shape), ...)] = sample
    return batch


def _fill(shape: tuple[int, ...], pad: Any, dtype: np.dtype[Any], where: str) -> Array:
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(pad).astype(dtype) if dtype.kind == "V" else np.array(pad, dtype)
        if value.ndim == 0 and (dtype.kind not in "biufcV" or holds_number(pad, value)):
            return np.full(shape, value, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise SchemaError(f"{where}: cannot pad {dtype} with {pad!r} ({error})") from error
    raise SchemaError(f"{where}: cannot pad {dtype} with {pad!r:.80}")


def describe_value(value: object) -> str:
    """Return a short description for messages."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    return type(value).__name__


def _coerce(dtype: np.dtype[Any], value: object, where: str) -> Array:
    if is_tensor(value):
        return to_array(value, where)
    if isinstance(value, np.generic):
        return np.asarray(value)
    if type(value) in _PYTHON_DTYPES:
        return _coerce_number(dtype, value, where)
    raise SchemaError(f"{where}: expected an array of {dtype}, found {describe_value(value)}")


def _coerce_number(dtype: np.dtype[Any], value: Any, where: str) -> Array:
    """Return a Python number as a 0-d array, if the dtype holds it without changing its kind."""
    kinds = {bool: "b", int: "iufcV", float: "fcV", complex: "c"}[type(value)]
    if dtype.kind in kinds:
        try:
            if dtype.kind in "biu" or (type(value) is float and _is_within(value, dtype)):
                return np.array(value, dtype)  # numpy refuses integers that do not fit
            with np.errstate(all="ignore"):
                array = np.array(value, dtype)
        except OverflowError as error:
            raise SchemaError(f"{where}: {value!s:.40} does not fit {dtype}") from error
        if not holds_number(value, array):
            raise SchemaError(f"{where}: {value!s:.40} does not fit {dtype}, which makes it {array}; convert it first")
        return array
    raise SchemaError(f"{where}: expected {dtype}, found {type(value).__name__}; convert it first")


def _is_within(value: float, dtype: np.dtype[Any]) -> bool:
    """Return whether a float is zero, or so far from the dtype's limits that it needs no closer look."""
    least, greatest = _NORMAL.get(dtype, (math.inf, 0.0))
    return value == 0 or least <= abs(value) <= greatest


def holds_number(value: Any, array: Array) -> bool:
    """Return whether a 0-d array holds a Python number: an int exactly, a float rounded but not to infinity or zero."""
    if array.dtype.kind in "biu":
        return bool(array == value)
    if isinstance(value, complex):
        found = complex(array)
        return _is_rounded(value.real, found.real) and _is_rounded(value.imag, found.imag)
    found = complex(array).real if array.dtype.kind == "c" else float(array)
    return found == value if isinstance(value, int) else _is_rounded(value, found)


def _is_rounded(value: float, found: float) -> bool:
    """Return whether `found` is `value` rounded to fewer digits, rather than to infinity, NaN or zero."""
    if not math.isfinite(value):
        return found == value or (found != found and value != value)
    return math.isfinite(found) and (found == 0) == (value == 0)


def _match_dtype(array: Array, dtype: np.dtype[Any], where: str, *, by_batch: bool = False) -> Array:
    if array.dtype == dtype:
        return array
    _check_dtype(array, where)
    if array.dtype.newbyteorder("<") == dtype:
        return array if by_batch else array.astype(dtype)
    raise SchemaError(
        f"{where}: expected dtype {dtype}, found {array.dtype}; convert it first (arrays: `.astype`, tensors: `.to`)"
    )


def _check_dtype(array: Any, where: str) -> str:
    """Return the name of an array's dtype; raises `SchemaError` naming `where` if it cannot be stored."""
    if array.dtype.hasobject:
        raise SchemaError(
            f"{where}: arrays of Python objects cannot be stored; pass an array of numbers, or a list of str or bytes"
        )
    if array.ndim > _MAX_AXES:
        raise SchemaError(f"{where}: expected at most {_MAX_AXES} axes, found {array.ndim}")
    try:
        return format_dtype(array.dtype)
    except SchemaError as error:
        raise SchemaError(f"{where}: {error}") from error


def _check_shape(record: ColumnRecord, shape: tuple[int, ...], where: str) -> None:
    fits = len(shape) == len(record.shape) and all(
        wanted is None or wanted == length for wanted, length in zip(record.shape, shape, strict=True)
    )
    if not fits:
        raise SchemaError(f"{where}: expected shape {format_shape(record.shape)}, found {format_shape(shape)}")


def format_shape(shape: tuple[int | None, ...]) -> str:
    """Return a shape as Python writes it."""
    return f"({', '.join(str(length) for length in shape)}{',' if len(shape) == 1 else ''})"


def split_batch(batch: Array) -> Iterator[Array]:
    """Yield the samples of a batch `(n, *shape)`. One that is kept keeps no more than 64 KiB beside its own memory."""
    if len(batch) == 1 or batch.ndim == 1 or batch.nbytes <= _SHARED_NBYTES:
        return (batch[row, ...] for row in range(len(batch)))
    return (sample.copy() for sample in batch)
