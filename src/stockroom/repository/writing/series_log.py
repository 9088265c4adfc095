"""Logged metrics: points stay in memory, some thousands a series, before they go into the series' trees."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Final, Protocol

from stockroom.content.column import ColumnRecord
from stockroom.content.column_edit import ColumnEdit
from stockroom.content.series import as_number, as_step, make_series_record, put_points
from stockroom.content.snapshot import METRIC
from stockroom.refs.names import check_free_name

_MAX_UNAPPLIED: Final = 1 << 16


class _Columns(Protocol):
    """The methods that the log uses of the workspace that holds it."""

    def iter_names(self, shelf: str) -> list[str]: ...
    def find_column(self, path: str) -> ColumnEdit | None: ...
    def create_column(self, path: str, record: ColumnRecord) -> ColumnEdit: ...


class SeriesLog:
    """The points logged in a workspace and not yet applied to its columns.

    `restarted` are the series that the session has begun again since it opened or committed.
    """

    def __init__(self) -> None:
        self._unapplied: dict[str, tuple[array[int], array[float]]] = {}
        self._count = 0
        self._next_step: int | None = None
        self._firsts: dict[str, tuple[array[int], array[float]]] = {}  # applied, but only one step of each series
        self.start_unit()

    def start_unit(self) -> None:
        """Take the points so far as those of an earlier run, as after a commit."""
        self._begun: set[str] = set()
        self.restarted: set[str] = set()
        self._given: int | None = None
        self._is_chosen = False

    def list_appended(self) -> tuple[set[str], range]:
        """Return the series of this unit, and the steps given to their points; none if the caller chose any step."""
        if self._given is None or self._is_chosen or self._next_step is None:
            return set(), range(0)
        return self._begun | self._firsts.keys() | self._unapplied.keys(), range(self._given, self._next_step)

    def log(self, workspace: _Columns, values: Mapping[str, object], step: int | None) -> int:
        """Add one point to each series named in `values`, and return their step.

        The default step is one more than the greatest of any series. If one value is invalid, no point is added.
        """
        numbers = [value if type(value) is float else as_number(name, value) for name, value in values.items()]
        unapplied = self._unapplied
        for name in values:
            if name not in unapplied:
                check_free_name("metric", name)
        if step is None:
            step = as_step(self._choose_next_step(workspace))
            unapplied = self._unapplied  # again: finding the next step may apply waiting points
            if self._given is None:
                self._given = step
        else:
            step = as_step(step)
            self._is_chosen = True
        for name, number in zip(values, numbers, strict=True):
            series = unapplied.get(name)
            if series is None:
                series = unapplied[str.__str__(name)] = (array("q"), array("d"))  # a member of a str enum, by its value
            series[0].append(step)
            series[1].append(number)
        if self._next_step is not None and step >= self._next_step and numbers:
            self._next_step = step + 1
        self._count += len(numbers)
        if self._count >= _MAX_UNAPPLIED:
            self.work_in(workspace)
        return step

    def work_in(self, workspace: _Columns) -> None:
        """Apply the logged points to the workspace's columns.

        One point alone corrects a series, as far as can be told. Only with a second one may it be another run's first.
        """
        if not self._unapplied:
            return
        firsts: dict[str, tuple[array[int], array[float]]] = {}
        for name, points in self._unapplied.items():
            edit, first = _open(workspace, name), self._firsts.get(name)
            may_begin = name not in self._begun and (first is not None or points[0][0] == edit.tree.first_key)
            steps, values = points if first is None else (first[0] + points[0], first[1] + points[1])
            is_one = steps[0] == steps[-1] and min(steps) == max(steps)
            if may_begin and is_one:
                firsts[name] = steps, values
            if may_begin and not is_one:
                edit.clear()
                self.restarted.add(name)
            put_points(edit, steps, values)
        self._begun |= self._unapplied.keys() - firsts.keys()
        self._firsts = {name: points for name, points in self._firsts.items() if name not in self._begun} | firsts
        self._unapplied, self._count = {}, 0  # last: after an interrupt the next call repeats it all

    def forget(self, name: str) -> None:
        """Take a series as deleted."""
        self._firsts.pop(name, None)

    def _choose_next_step(self, workspace: _Columns) -> int:
        if self._next_step is None:
            self.work_in(workspace)
            last = [_open(workspace, name).tree.last_key for name in workspace.iter_names(METRIC)]
            self._next_step = max((int(step) + 1 for step in last if step is not None), default=0)
        return self._next_step


def _open(workspace: _Columns, name: str) -> ColumnEdit:
    path = f"{METRIC}/{name}"
    return workspace.find_column(path) or workspace.create_column(path, make_series_record())
