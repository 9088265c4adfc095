"""Selects samples of a column by keys, by positions, or by a condition on columns of the same keys."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stockroom.errors import SchemaError
from stockroom.shelves.data.keys import KeyChoice
from stockroom.shelves.data.open_column import OpenColumn
from stockroom.trees import find_unshared_key


def choose_positions(column: OpenColumn, keys: KeyChoice, where: str | None) -> NDArray[np.int64]:
    """Return the positions of the samples that `keys` select and that meet the condition `where`."""
    if keys is None or isinstance(keys, slice):
        positions = np.arange(*(keys or slice(None)).indices(column.tree.count), dtype=np.int64)
    else:
        positions = column.get_positions(list(keys))
    if where is not None:
        from stockroom.shelves.condition import choose_where  # here for start-up time

        positions = positions[choose_where(where, partial(_read_along, column))[positions]]
    return positions


def _read_along(column: OpenColumn, name: str) -> NDArray[Any]:
    """Return the values `(n,)` of another column under the keys of `column`."""
    other = OpenColumn(column.pin, name)
    has_keys = other.record.key_type == column.record.key_type and find_unshared_key(other.tree, column.tree) is None
    if not has_keys:
        raise SchemaError(
            f"columns {column.name!r} and {name!r} have different keys, so {name!r} cannot select samples"
        )
    values = np.asarray(other.reader.read_batch(np.arange(other.tree.count, dtype=np.int64)))
    if values.ndim != 1 or other.record.decoder is not None:
        raise SchemaError(f"column {name!r} holds arrays; a condition needs one value per sample")
    return values
