"""Metrics as they are logged: points wait in memory, some thousands a series, and are worked into their series' trees.

A series is a column of float64 under int keys: the value at each step. A step that comes again replaces the value
logged before, and steps come back in order, however they were logged.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stockroom.content.column import ColumnRecord
from stockroom.content.column_edit import ColumnEdit
from stockroom.content.snapshot import METRIC
from stockroom.digest import DIGEST_NBYTES
from stockroom.errors import InvalidInputError, SchemaError
from stockroom.refs.names import check_free_name
from stockroom.store.codecs import AUTO

if TYPE_CHECKING:
    from stockroom.repository.writing.workspace import Workspace

MAX_EXACT: Final = 1 << 53
"""Up to here float64 holds every integer."""

_MAX_STEP: Final = (1 << 63) - 1
_MAX_WAITING: Final = 1 << 16


def make_series_record() -> ColumnRecord:
    """The schema of every series, without points."""
    return ColumnRecord("float64", (), "int", AUTO, bytes(DIGEST_NBYTES), {})


class SeriesLog:
    """What a write session has logged and not yet worked into its columns."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[array[int], array[float]]] = {}
        self._count = 0
        self._next_step: int | None = None

    def log(self, session: Workspace, values: Mapping[str, object], step: int | None) -> int:
        """Add one point to each series named in `values`; the step they are under.

        Without `step` it is one more than the greatest of any series. If one value is refused, none is added.
        """
        waiting = self._waiting
        numbers = [value if type(value) is float else _as_number(name, value) for name, value in values.items()]
        for name in values:
            if name not in waiting:
                check_free_name("metric", name)
        if step is None:
            step = self._find_next_step(session)
        elif type(step) is not int:
            step = _as_step(step)
        if not -_MAX_STEP - 1 <= step <= _MAX_STEP:
            raise InvalidInputError(f"step {step} does not fit 64 bits")
        for name, number in zip(values, numbers, strict=True):
            series = waiting.get(name)
            if series is None:
                series = waiting[name] = (array("q"), array("d"))
            series[0].append(step)
            series[1].append(number)
        if self._next_step is not None and step >= self._next_step and numbers:
            self._next_step = step + 1
        self._count += len(numbers)
        if self._count >= _MAX_WAITING:
            self.work_in(session)
        return step

    def work_in(self, session: Workspace) -> None:
        """Work what was logged into the session's columns."""
        waiting = self._waiting
        if waiting:
            for name, (steps, values) in waiting.items():
                _put_points(_open(session, name), steps, values)
            self._waiting, self._count = {}, 0  # only now: after an interrupt the next call does it all again

    def _find_next_step(self, session: Workspace) -> int:
        if self._next_step is None:
            self.work_in(session)
            last = [_open(session, name).tree.last_key for name in session.iter_names(METRIC)]
            self._next_step = max((int(step) + 1 for step in last if step is not None), default=0)
        return self._next_step


def _open(session: Workspace, name: str) -> ColumnEdit:
    path = f"{METRIC}/{name}"
    return session.find_column(path) or session.create_column(path, make_series_record())


def _put_points(edit: ColumnEdit, steps: array[int], values: array[float]) -> None:
    """Set the points of one series; of several at one step the last."""
    keys, entries = np.frombuffer(steps, np.int64), np.frombuffer(values, "<f8")
    if len(keys) > 1 and not (np.diff(keys) > 0).all():
        backwards, first = np.unique(keys[::-1], return_index=True)
        keys, entries = backwards, entries[::-1][first]
    edit.put_many(keys, np.ascontiguousarray(entries).view(np.uint8).reshape(-1, 8))


def _as_number(name: str, value: Any) -> float:
    """The value of one point; `SchemaError` for what is no real number, or an integer float64 does not hold."""
    if isinstance(value, bool | int):
        if abs(value) > MAX_EXACT:
            raise SchemaError(f"metric {name!r}: {value} is beyond 2**53, where float64 rounds; log a float")
        return float(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str | bytes | complex) or value is None or getattr(value, "ndim", 0) != 0:
        raise SchemaError(f"metric {name!r}: expected a number, found {_describe(value)}; keep it as a value instead")
    try:
        item = value.item()  # a numpy scalar, or an array or tensor of no axes
    except (AttributeError, ValueError, RuntimeError) as error:
        raise SchemaError(f"metric {name!r}: expected a number, found {_describe(value)}") from error
    if not isinstance(item, bool | int | float):
        raise SchemaError(f"metric {name!r}: expected a real number, found {_describe(value)}")
    return _as_number(name, item)


def _as_step(step: object) -> int:
    if isinstance(step, bool) or not hasattr(step, "__index__"):
        raise InvalidInputError(f"expected an integer step, or None, found {step!r}")
    return int(step.__index__())


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if shape else "")
