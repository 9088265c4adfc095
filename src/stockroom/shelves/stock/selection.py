"""What somebody chose to bring here or to drop: from paths such as `data/image` or `model/resnet` to chunks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.snapshot import ARTIFACT, DATA, EXPERIMENT, METRIC, MODEL, Snapshot
from stockroom.content.state import StateRecord
from stockroom.digest import DIGEST_NBYTES
from stockroom.errors import InvalidInputError, NotFoundError, SchemaError
from stockroom.shelves.model.leaf_reader import open_leaves

if TYPE_CHECKING:
    from stockroom.shelves.data.column import Column
    from stockroom.shelves.data.keys import SampleKey
    from stockroom.shelves.data.shelf import DataShelf
    from stockroom.shelves.stock.handle import Handle

_STATES: Final = (MODEL, EXPERIMENT, ARTIFACT)


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """How many samples and leaves were chosen, and the digests `(n, 32)` of the chunks behind them."""

    count: int
    digests: NDArray[np.uint8]


def choose(handle: Handle, path: str | None, keys: Sequence[Any] | slice | None, where: str | None) -> Choice:
    """What lies at `path` (None: everything), or, of a column or model, what `keys` and `where` choose of it."""
    if path is None:
        if keys is not None or where is not None:
            raise InvalidInputError("keys and where choose within one column or model: say which")
        return _choose_all(handle)
    kind, _, name = path.partition("/")
    if kind == MODEL and name:
        return _choose_leaves(handle, name, keys, where)
    if kind in (EXPERIMENT, ARTIFACT, METRIC) and name and path not in handle.data:
        if keys is not None or where is not None:
            raise InvalidInputError(f"keys and where choose within one column or model, and {path!r} is none")
        return _choose_states(handle, [_find_record(handle, path)])
    return _choose_samples(handle.data, path.removeprefix(f"{DATA}/"), keys, where)


def _choose_all(handle: Handle) -> Choice:
    columns = [_choose_samples(handle.data, name, None, None) for name in handle.data]
    content = handle._access.content
    records = [content.read_state(digest) for kind in _STATES for _, digest in content.iter_digests(kind)]
    states = _choose_states(handle, [record for record in records if isinstance(record, StateRecord)])
    return _join([*columns, states])


def _choose_leaves(handle: Handle, name: str, names: Sequence[Any] | slice | None, where: str | None) -> Choice:
    if where is not None or isinstance(names, slice):
        raise InvalidInputError(f"model {name!r}: expected names or patterns of leaves, found a slice or a condition")
    state = handle.model[name]
    digests = state.find_chunks(names)
    return Choice(len(state.paths()) if names is None else len(list(names)), digests)


def _choose_states(handle: Handle, records: Iterable[StateRecord | None]) -> Choice:
    parts = []
    for record in records:
        if record is not None:
            reader = open_leaves(handle._access, record)
            paths = list(reader.structure.stored)
            parts.append(Choice(len(paths), reader.find_stored(paths)))
    return _join(parts)


def _find_record(handle: Handle, path: str) -> StateRecord | None:
    """The record at a path whose bytes lie in chunks; None for one that is all metadata."""
    content: Snapshot = handle._access.content
    digest = content.find_digest(path)
    if digest is None:
        raise NotFoundError(f"nothing at {path!r} in this commit; `stock ls` lists what there is")
    record = content.read_record(digest)
    return record if isinstance(record, StateRecord) else None


def _choose_samples(shelf: DataShelf, name: str, keys: Iterable[SampleKey] | slice | None, where: str | None) -> Choice:
    column: Column = shelf[name]
    positions = choose_positions(shelf, column, keys, where)
    return Choice(len(positions), column.find_chunks(positions))


def choose_positions(
    shelf: DataShelf, column: Column, keys: Iterable[SampleKey] | slice | None, where: str | None
) -> NDArray[np.int64]:
    """Positions of the samples under `keys` (a slice: at these positions) that meet the condition `where`."""
    count = len(column)
    if keys is None:
        positions = np.arange(count, dtype=np.int64)
    elif isinstance(keys, slice):
        positions = np.arange(*keys.indices(count), dtype=np.int64)
    else:
        positions = column.positions_of(keys)
    if where is not None:
        from stockroom.shelves.condition import choose_where

        positions = positions[choose_where(where, lambda other: _read_along(shelf, column, other))[positions]]
    return positions


def _read_along(shelf: Mapping[str, Column], column: Column, name: str) -> NDArray[Any]:
    """The values of another column under the keys of `column`, `(n,)`."""
    other = shelf[name]
    if other.key_type != column.key_type or other.find_unshared_key(column) is not None:
        raise SchemaError(
            f"columns {column.name!r} and {name!r} do not have the same keys, so {name!r} cannot choose samples"
        )
    values = np.asarray(other.take(np.arange(len(other))))
    if values.ndim != 1:
        raise SchemaError(f"column {name!r} holds arrays; a condition needs one value a sample")
    return values


def _join(parts: Sequence[Choice]) -> Choice:
    empty = np.empty((0, DIGEST_NBYTES), np.uint8)
    return Choice(sum(part.count for part in parts), np.concatenate([empty, *(part.digests for part in parts)]))
