"""Compares experiments: a table with one row for each commit, and its values and metrics as columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

import numpy as np

from stockroom.content.html_table import escape
from stockroom.content.snapshot import EXPERIMENT, METRIC, Snapshot
from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import InvalidInputError, did_you_mean, near_names
from stockroom.refs import LoggedCommit, iter_log
from stockroom.repository.head import Head
from stockroom.shelves.condition import parse_where
from stockroom.shelves.experiment.cells import Cell, format_cell, read_cells
from stockroom.shelves.experiment.metrics import MetricChoice, MetricSummary, open_series
from stockroom.shelves.model.leaf_reader import LeafReader
from stockroom.shelves.pin import Pin
from stockroom.shelves.report import Commit, describe_commit

_MISSING: Final = object()
_HTML_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """One commit: its values by dotted name, a summary of each metric, and the ref that the caller named it by."""

    commit: Commit
    ref: str | None
    values: Mapping[str, Cell]
    metrics: Mapping[str, MetricSummary]

    def get(self, name: str, default: Any = None, *, metric: MetricChoice = "last") -> Any:
        """Return the value called `name`, or else the metric's value that `metric` selects, or else `default`."""
        cell = self.values.get(name, _MISSING)
        if cell is not _MISSING:
            return cell
        summary = self.metrics.get(name)
        return default if summary is None else summary.pick(metric, name)


@dataclass(frozen=True, slots=True)
class ExperimentTable(Sequence[ExperimentRow]):
    """Rows in order, and the names of the columns: `value_columns`, `metric_columns`.

    The methods that select or sort return another table.
    """

    rows: Sequence[ExperimentRow]
    value_columns: Sequence[str]
    metric_columns: Sequence[str]

    @property
    def columns(self) -> list[str]:
        """The names of values, then those of metrics that no value has."""
        return list(dict.fromkeys((*self.value_columns, *self.metric_columns)))

    def filter(self, expression: str) -> ExperimentTable:
        """Return the rows that meet a condition such as `lr < 0.01 and acc > 0.9`.

        A name is a value, or else the last value of a metric. Write a name that is not an identifier, such as
        train/loss, between backticks. A row without a name in the condition does not meet it. Raises
        `InvalidInputError` if the condition is invalid, or has a name that no row has.
        """
        condition = parse_where(expression)
        for name in condition.names:
            self._check_name(name)
        chosen = []
        for row in self.rows:
            values = {name: row.get(name, _MISSING) for name in condition.names}
            if not any(cell is _MISSING for cell in values.values()) and condition.holds(values):
                chosen.append(row)
        return self._keep(chosen)

    def sort(self, name: str, reverse: bool = False, *, metric: MetricChoice = "last") -> ExperimentTable:
        """Return the rows sorted by a value, or by a metric's value that `metric` selects.

        Numbers come before text. Rows with NaN and then rows without the name come last, even with `reverse`. Raises
        `InvalidInputError` if no row has the name.
        """
        self._check_name(name)
        cells = [(row.get(name, _MISSING, metric=metric), row) for row in self.rows]
        having = [pair for pair in cells if pair[0] is not _MISSING and not _is_nan(pair[0])]
        nan = [row for cell, row in cells if cell is not _MISSING and _is_nan(cell)]
        lacking = [row for cell, row in cells if cell is _MISSING]
        having.sort(key=lambda pair: _rank(pair[0]), reverse=reverse)
        return replace(self, rows=[*(row for _, row in having), *nan, *lacking])

    def changed_only(self) -> ExperimentTable:
        """Return the same rows, with only the columns that differ between any two of them."""
        return replace(
            self,
            value_columns=[name for name in self.value_columns if self._differs(name, lambda row: row.values)],
            metric_columns=[name for name in self.metric_columns if self._differs(name, lambda row: row.metrics)],
        )

    def head(self, n: int) -> ExperimentTable:
        """Return the first `n` rows."""
        return self._keep(self.rows[:n])

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict for each row: `commit`, `ref`, `time`, `message`, and by name `values` and last `metrics`."""
        return [
            {
                "commit": row.commit.id,
                "ref": row.ref,
                "time": row.commit.time,
                "message": row.commit.message,
                "values": {name: row.values[name] for name in self.value_columns if name in row.values},
                "metrics": {name: row.metrics[name].last for name in self.metric_columns if name in row.metrics},
            }
            for row in self.rows
        ]

    def __getitem__(self, index: Any) -> Any:
        return self._keep(self.rows[index]) if isinstance(index, slice) else self.rows[index]

    def __iter__(self) -> Iterator[ExperimentRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"ExperimentTable({len(self)} rows, columns {self.columns})"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in ("commit", *self.columns))
        body = "".join(
            f"<tr><td>{row.commit.id[:12]}</td>"
            + "".join(f"<td>{escape(format_cell(row.get(name, '')))}</td>" for name in self.columns)
            + "</tr>"
            for row in self.rows[:_HTML_ROWS]
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{len(self)} rows</p>"

    def _keep(self, rows: Sequence[ExperimentRow]) -> ExperimentTable:
        """Return a table of some of the rows, with only the columns that they have."""
        values = {name for row in rows for name in row.values}
        metrics = {name for row in rows for name in row.metrics}
        return ExperimentTable(
            rows,
            [name for name in self.value_columns if name in values],
            [name for name in self.metric_columns if name in metrics],
        )

    def _differs(self, name: str, choose: Callable[[ExperimentRow], Mapping[str, Any]]) -> bool:
        first = choose(self.rows[0]).get(name, _MISSING)
        return not all(_is_same(first, choose(row).get(name, _MISSING)) for row in self.rows)

    def _check_name(self, name: str) -> None:
        known = {*self.value_columns, *self.metric_columns}
        if name in known:
            return
        near = near_names(name, sorted(known)) or sorted(known)[:5]
        hint = did_you_mean(near) or "there is nothing to compare"
        raise InvalidInputError(f"none of these commits has a value or metric {name!r}; {hint}")


def read_table(pin: Pin, refs: Iterable[str] | None, n: int | None) -> ExperimentTable:
    """Return the table of the commits that `refs` name, or of the pinned commit's history; at most `n` rows."""
    reader = _RowReader(pin)
    rows = [reader.read(entry, ref) for entry, ref in islice(_iter_commits(pin, refs, n), n)]
    values = {name for row in rows for name in row.values}
    metrics = {name for row in rows for name in row.metrics}
    return ExperimentTable(rows, sorted(values), sorted(metrics))


def _iter_commits(pin: Pin, refs: Iterable[str] | None, n: int | None) -> Iterator[tuple[LoggedCommit, str | None]]:
    repository = pin.repository
    head = None if pin.commit is None else CommitId(bytes.fromhex(pin.commit))
    if refs is None:
        for entry in () if head is None else iter_log(repository.refs, head, n=n):
            yield entry, None
        return
    for ref in refs:
        commit = repository.resolve(ref, Head(None, head))
        yield LoggedCommit(commit, repository.read_commit(commit)), ref


@dataclass(frozen=True, slots=True)
class _RowReader:
    """Reads rows; content that commits share is read once, and is one object in all their rows."""

    pin: Pin
    cells: dict[tuple[str, ObjectDigest], Mapping[str, Cell]] = field(default_factory=dict)
    series: dict[ObjectDigest, MetricSummary] = field(default_factory=dict)

    def read(self, entry: LoggedCommit, ref: str | None) -> ExperimentRow:
        snapshot = self.pin.repository.open_snapshot(entry.commit_id)
        values: dict[str, Cell] = {}
        for key in snapshot.iter_digests(EXPERIMENT):
            cells = self.cells.get(key)
            if cells is None:
                reader = LeafReader(snapshot, snapshot.read_state(key[1]), self.pin.tensors)
                cells = self.cells[key] = read_cells(reader, *key)
            values.update(cells)
        metrics = {name: self._summarise(snapshot, digest) for name, digest in snapshot.iter_digests(METRIC)}
        return ExperimentRow(describe_commit(entry), ref, values, metrics)

    def _summarise(self, snapshot: Snapshot, digest: ObjectDigest) -> MetricSummary:
        summary = self.series.get(digest)
        if summary is None:
            summary = self.series[digest] = MetricSummary(open_series(snapshot, digest))
        return summary


def _is_same(one: object, other: object) -> bool:
    """Return whether two cells are equal, including types; NaN equals NaN."""
    return one is other or (type(one) is type(other) and repr(one) == repr(other))


def _is_nan(cell: Cell) -> bool:
    return isinstance(cell, float | np.floating) and math.isnan(cell)


def _rank(cell: Cell) -> tuple[int, Any]:
    """Return the sort key of a cell among cells of all kinds."""
    if isinstance(cell, np.generic) and cell.dtype.kind in "biuf":
        return 0, cell.item()
    return (0, cell) if isinstance(cell, int | float) else (1, format_cell(cell))
