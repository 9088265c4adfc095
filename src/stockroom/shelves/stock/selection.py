"""Selects content to fetch or drop: from paths such as `data/image` or `model/resnet` to chunks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from stockroom.content.snapshot import ARTIFACT, DATA, EXPERIMENT, METRIC, MODEL, Record
from stockroom.content.state import StateRecord
from stockroom.digest import DIGEST_NBYTES
from stockroom.errors import InvalidInputError, NotFoundError
from stockroom.shelves.model.leaf_reader import open_leaves

if TYPE_CHECKING:
    from stockroom.shelves.data.column import Column
    from stockroom.shelves.data.keys import KeyChoice
    from stockroom.shelves.stock.handle import Handle

_STATES: Final = (MODEL, EXPERIMENT, ARTIFACT)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The number of selected samples and leaves, and the digests `(n, 32)` of the chunks behind them."""

    count: int
    digests: NDArray[np.uint8]


def choose(handle: Handle, path: str | None, keys: Sequence[Any] | slice | None, where: str | None) -> Selection:
    """Return everything at `path` (None: in the commit), or the part that `keys` and `where` select of it."""
    if path is None:
        if keys is not None or where is not None:
            raise InvalidInputError("keys and where need one column or model; name it")
        return _select_all(handle)
    kind, _, name = path.partition("/")
    if kind == MODEL and name:
        return _select_leaves(handle, name, keys, where)
    if kind in (EXPERIMENT, ARTIFACT, METRIC) and name and path not in handle.data:
        if keys is not None or where is not None:
            raise InvalidInputError(f"keys and where need one column or model; {path!r} is neither")
        return _select_states(handle, [_read_record(handle, path)])
    return _select_samples(handle.data[path.removeprefix(f"{DATA}/")], keys, where)


def _select_all(handle: Handle) -> Selection:
    columns = [_select_samples(column, None, None) for column in handle.data.values()]
    content = handle._pin.content
    records = [content.read_state(digest) for kind in _STATES for _, digest in content.iter_digests(kind)]
    return _join([*columns, _select_states(handle, records)])


def _select_leaves(handle: Handle, name: str, names: Sequence[Any] | slice | None, where: str | None) -> Selection:
    if where is not None or isinstance(names, slice):
        raise InvalidInputError(f"model {name!r}: expected names or patterns of leaves, found a slice or a condition")
    state = handle.model[name]
    digests = state.list_chunks(names)
    return Selection(len(state.paths()) if names is None else len(list(names)), digests)


def _select_states(handle: Handle, records: Iterable[Record]) -> Selection:
    parts = []
    for record in records:
        if isinstance(record, StateRecord):  # any other record is only metadata
            reader = open_leaves(handle._pin, record)
            paths = list(reader.structure.stored)
            parts.append(Selection(len(paths), reader.list_stored(paths)))
    return _join(parts)


def _read_record(handle: Handle, path: str) -> Record:
    content = handle._pin.content
    digest = content.find_digest(path)
    if digest is None:
        raise NotFoundError(f"nothing at {path!r} in this commit; `stock ls` lists the names")
    return content.read_record(digest)


def _select_samples(column: Column, keys: KeyChoice, where: str | None) -> Selection:
    positions = column.choose_positions(keys, where)
    return Selection(len(positions), column.list_chunks(positions))


def _join(parts: Sequence[Selection]) -> Selection:
    empty = np.empty((0, DIGEST_NBYTES), np.uint8)
    return Selection(sum(part.count for part in parts), np.concatenate([empty, *(part.digests for part in parts)]))
