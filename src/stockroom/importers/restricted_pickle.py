"""Reads pickles of arrays and plain containers without executing anything from them.

Owns the list of names that a pickle may use. A pickle never gets hold of a function or class: each allowed name becomes
an inert record, and arrays are made from those records here, by our own rules. Knows no data set.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.streams import translate_read_errors

MAX_PICKLE_NBYTES = 1 << 30
"""A larger pickle is rejected unread; the largest CIFAR file has 155 MB."""

_MEMO_OPCODES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_NUMERIC_KINDS = "biuf"


def load_plain_pickle(path: Path) -> object:
    """Load a pickle file of dict, list, tuple, str, bytes, numbers, and numeric numpy arrays among them.

    Text that Python 2 wrote is returned as bytes. Raises `InvalidInputError` naming the first other object that the
    pickle asks for, `CorruptionError` if its bytes are damaged.
    """
    data = _read_pickle(path)
    _scan(data, path)
    try:
        return _convert(_RestrictedUnpickler(data).load(), {})
    except _NotPlainError as error:
        raise InvalidInputError(
            f"{path}: expected a pickle of numpy arrays and plain containers, found {error}; nothing was "
            "executed; if you trust the file, convert it with numpy.savez"
        ) from error
    except Exception as error:  # a hostile pickle can make the reader raise anything
        raise CorruptionError(f"{path}: not a complete pickle of arrays: {error}", where=str(path)) from error


def _read_pickle(path: Path) -> bytes:
    with translate_read_errors(path):
        size = path.stat().st_size
        if size > MAX_PICKLE_NBYTES:
            raise InvalidInputError(f"{path}: expected a pickle of at most {MAX_PICKLE_NBYTES} bytes, found {size}")
        return path.read_bytes()


def _scan(data: bytes, path: Path) -> None:
    """Check every length and memo index against the pickle's size, before the reader allocates by them."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _MEMO_OPCODES and not 0 <= int(argument or 0) <= len(data):
                raise ValueError(f"memo index {argument} is out of bounds")
    except Exception as error:  # genops passes on the errors of its argument decoders
        raise CorruptionError(f"{path}: not a complete pickle: {error}", where=str(path)) from error


class _NotPlainError(Exception):
    """A pickle asks for something other than arrays and plain containers; the message names it."""


class _Named:
    """A name that a pickle may use. It has no attributes to set, and does nothing except represent its name."""

    __slots__ = ()


class _ArrayClass(_Named):
    __slots__ = ()


class _PickledDtype:
    """A dtype as a pickle spells it: a code such as `u1`, and a byte order that comes later."""

    __slots__ = ("byteorder", "code")

    def __init__(self, code: str) -> None:
        self.code = code
        self.byteorder = "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.byteorder = _text(state[1])

    def build(self) -> np.dtype[Any]:
        dtype = np.dtype(self.code)
        if dtype.kind not in _NUMERIC_KINDS:
            raise _NotPlainError(f"an array of dtype {self.code!r}")
        return dtype.newbyteorder(">" if self.byteorder == ">" else "<")


class _PickledArray:
    """An array as a pickle spells it: shape, dtype and bytes, which are checked only when it is built."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def build(self) -> NDArray[Any]:
        _version, shape, dtype, is_fortran, raw = self.state
        values = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
        built = dtype.build()
        if any(length < 0 for length in shape) or math.prod(shape) * built.itemsize != len(values):
            raise ValueError(f"an array of shape {shape} and {built} has {len(values)} bytes")
        return np.frombuffer(values, built).reshape(shape, order="F" if is_fortran else "C")


class _MakeDtype(_Named):
    __slots__ = ()

    def __call__(self, code: object, *_flags: object) -> _PickledDtype:
        return _PickledDtype(_text(code))


class _MakeArray(_Named):
    __slots__ = ()

    def __call__(self, cls: object, *_placeholder: object) -> _PickledArray:
        if not isinstance(cls, _ArrayClass):
            raise TypeError("an array of a class other than numpy.ndarray")
        return _PickledArray()


class _MakeArrayFromBuffer(_Named):
    """The form of an array in pickle protocol 5."""

    __slots__ = ()

    def __call__(self, raw: object, dtype: object, shape: object, order: object) -> _PickledArray:
        array = _PickledArray()
        array.state = (1, shape, dtype, order == "F", raw)
        return array


class _MakeScalar(_Named):
    __slots__ = ()

    def __call__(self, dtype: object, raw: object) -> _PickledArray:
        array = _PickledArray()
        array.state = (1, (), dtype, False, raw)
        return array


class _EncodeLatin1(_Named):
    """The form of bytes that Python 3 wrote in Python 2's protocols."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or _text(encoding) not in {"latin1", "latin-1"}:
            raise TypeError(f"expected latin1 text, found {encoding!r}")
        return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], _Named] = {
    ("numpy", "ndarray"): _ArrayClass(),
    ("numpy", "dtype"): _MakeDtype(),
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy.core.multiarray", "scalar"): _MakeScalar(),
    ("numpy._core.multiarray", "scalar"): _MakeScalar(),
    ("numpy.core.numeric", "_frombuffer"): _MakeArrayFromBuffer(),
    ("numpy._core.numeric", "_frombuffer"): _MakeArrayFromBuffer(),
    ("_codecs", "encode"): _EncodeLatin1(),
}


class _RestrictedUnpickler(pickle.Unpickler):
    """An unpickler that knows no names except those in `_ADMITTED`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _NotPlainError(f"{module}.{name}") from None


def _convert(value: object, converted: dict[int, object]) -> object:
    """Return `value` with containers rebuilt, and every pickled array in them made into an array.

    `converted` maps the id of each finished object to its result, so an object shared in the pickle is converted once.
    """
    if id(value) not in converted:
        converted[id(value)] = _convert_new(value, converted)
    return converted[id(value)]


def _convert_new(value: object, converted: dict[int, object]) -> object:
    match value:
        case _PickledArray():
            return value.build()
        case dict():
            return {_convert(key, converted): _convert(item, converted) for key, item in value.items()}
        case list() | tuple():
            return type(value)([_convert(item, converted) for item in value])
        case None | bool() | int() | float() | str() | bytes() | bytearray():
            return value
        case _:
            raise _NotPlainError(f"a value of type {type(value).__name__.lstrip('_')}")


def _text(value: object) -> str:
    """Return text, which Python 2 pickles hold as bytes."""
    if isinstance(value, bytes):
        return value.decode("ascii")
    if isinstance(value, str):
        return value
    raise TypeError(f"expected text, found {type(value).__name__}")
