"""CIFAR-10 and CIFAR-100 files, in binary and python format, read one file at a time.

Binary: records of label bytes (1 for CIFAR-10; coarse, fine for CIFAR-100), then 3072 bytes, an image of
3 color planes of 32 rows of 32. Python: a pickled dict of `data` (n, 3072) and lists of labels.
Source: https://www.cs.toronto.edu/~kriz/cifar.html. Knows one file at a time, no folders.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import CorruptionError, InvalidInputError
from stockroom.importers.limits import DEFAULT, Limits
from stockroom.importers.restricted_pickle import load_plain_pickle
from stockroom.importers.source import count_batch_rows
from stockroom.importers.streams import iter_rows, translate_read_errors

IMAGE_SHAPE = (3, 32, 32)
_IMAGE_NBYTES = 3 * 32 * 32
_UINT8 = np.dtype(np.uint8)


@dataclass(frozen=True, slots=True)
class CifarFormat:
    """The labels of one data set: keys of the python format, in the order of the binary format's label bytes."""

    label_keys: tuple[str, ...]

    @property
    def record_nbytes(self) -> int:
        """Bytes of one sample in the binary format."""
        return len(self.label_keys) + _IMAGE_NBYTES


CIFAR10 = CifarFormat(("labels",))
CIFAR100 = CifarFormat(("coarse_labels", "fine_labels"))


def count_cifar_binary(path: Path, layout: CifarFormat) -> int:
    """Count the samples in a binary file by its size. Raises `CorruptionError` for a part of a record."""
    with translate_read_errors(path):
        size = path.stat().st_size
    count, rest = divmod(size, layout.record_nbytes)
    if rest:
        raise CorruptionError(
            f"{path}: expected complete records of {layout.record_nbytes} bytes, found {size} bytes, {rest} too "
            "many; download the file again",
            where=str(path),
        )
    return count


def iter_cifar_binary(path: Path, layout: CifarFormat, *, field: str) -> Iterator[NDArray[Any]]:
    """Yield batches of `field` of a binary file: `"data"` as `(n, 3, 32, 32)` uint8, a label as `(n,)` int64."""
    count = count_cifar_binary(path, layout)
    with translate_read_errors(path), path.open("rb") as stream:
        for records in iter_rows(stream, _UINT8, shape=(layout.record_nbytes,), rows=count, where=str(path)):
            yield _take_field(records, layout, field)


def _take_field(records: NDArray[Any], layout: CifarFormat, field: str) -> NDArray[Any]:
    """Return one field of `(n, record_nbytes)` binary records, as a new array."""
    if field == "data":
        return np.ascontiguousarray(records[:, len(layout.label_keys) :]).reshape(-1, *IMAGE_SHAPE)
    return records[:, layout.label_keys.index(field)].astype(np.int64)


def iter_cifar_python(path: Path, *, field: str, limits: Limits = DEFAULT) -> Iterator[NDArray[Any]]:
    """Yield batches of `field` of a python file, shaped as by `iter_cifar_binary`.

    A pickle is read whole, which takes about three times the file's size in memory.
    """
    members = _load_dict(path, limits)
    images = _member(members, "data", path)
    if images.dtype != _UINT8 or images.ndim != 2 or images.shape[1] != _IMAGE_NBYTES:
        raise _unfit(path, "data", f"uint8 of shape (n, {_IMAGE_NBYTES})", images)
    if field == "data":
        rows = count_batch_rows(_UINT8, IMAGE_SHAPE)
        yield from (images[start : start + rows].reshape(-1, *IMAGE_SHAPE) for start in range(0, len(images), rows))
        return
    labels = _member(members, field, path)
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise _unfit(path, field, f"{len(images)} integers", labels)
    yield labels.astype(np.int64)


def read_cifar_classes(path: Path, key: str, limits: Limits = DEFAULT) -> list[str]:
    """Read class names from a text file with one name a line, or from member `key` of a pickle."""
    if path.suffix == ".txt":
        with translate_read_errors(path):
            lines = path.read_text("utf-8", "replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    names = _load_dict(path, limits).get(key)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise CorruptionError(f"{path}: expected a list of names under {key!r}, found none", where=str(path))
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names]


def _load_dict(path: Path, limits: Limits) -> Mapping[str, object]:
    """Load the dict in a python file, with keys as text whether Python 2 or 3 wrote them."""
    loaded = load_plain_pickle(path, limits)
    if not isinstance(loaded, dict) or not all(isinstance(key, str | bytes) for key in loaded):
        raise InvalidInputError(
            f"{path}: expected a pickled dict keyed by name, as in CIFAR, found {type(loaded).__name__}"
        )
    return {key.decode("latin1") if isinstance(key, bytes) else key: item for key, item in loaded.items()}


def _member(members: Mapping[str, object], key: str, path: Path) -> NDArray[Any]:
    """Return the array under `key`, which may also be written as a flat list of integers."""
    if key not in members:
        raise InvalidInputError(
            f"{path}: expected a member {key!r}, found {', '.join(sorted(members))[:300] or 'none'}"
        )
    match members[key]:
        case np.ndarray() as array:
            return array
        case list() as items:
            return _array_of(items, key, path)
        case other:
            raise CorruptionError(
                f"{path}: {key}: expected an array or a list of integers, found {type(other).__name__}", where=str(path)
            )


def _array_of(items: list[Any], key: str, path: Path) -> NDArray[Any]:
    with translate_read_errors(path, f"{key}: not a list of integers"):
        return np.array([operator.index(item) for item in items], np.int64)


def _unfit(path: Path, key: str, expected: str, found: NDArray[Any]) -> CorruptionError:
    return CorruptionError(
        f"{path}: {key}: expected {expected}, found {found.dtype} of shape {found.shape}", where=str(path)
    )
