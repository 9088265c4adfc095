"""Whatever value is kept comes back bit for bit, and metrics are a plain dict of dicts, whatever is done to them."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.kit.states import assert_same, states

from stockroom import StockRoom
from stockroom.shelves.experiment.cells import format_cell

quick = settings(
    max_examples=int(os.environ.get("STOCKROOM_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

NAMES = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=8) | st.sampled_from(
    ["a.b", "a/b", "a"]
)
STEPS = st.integers(-5, 40) | st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp())
    StockRoom.init(made).close()
    yield made
    with StockRoom(made) as stock:
        assert stock.verify().ok
    shutil.rmtree(made)


@quick
@given(values=st.dictionaries(NAMES, states(), max_size=4))
@example(values={"a": {"b": 1}, "a.b": 2})
@example(values={"a": [None] * 600})
def test_values_come_back_bit_for_bit(folder: Path, values: dict[str, Any]) -> None:
    with StockRoom(folder) as stock:
        with stock.enable_write():
            stock.experiment.clear()
            stock.experiment.update(values)
            for name, value in values.items():
                assert_same(stock.experiment[name], value)
        assert list(stock.experiment) == sorted(values, key=lambda name: name.encode())
        for name, value in values.items():
            assert_same(stock.experiment[name], value)
        for row in stock.experiment.table(n=1):  # no value keeps a table from being made
            assert all(isinstance(format_cell(cell), str) for cell in row.values.values())


class Metrics(RuleBasedStateMachine):
    """Points logged, deleted, committed and discarded, against a dict of dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.stock = StockRoom.init(self.folder)
        self.writer = StockRoom(self.folder, enable_write=True)
        self.staged: dict[str, dict[int, float]] = {}
        self.committed: dict[str, dict[int, float]] = {}
        self.begun: set[str] = set()  # the metrics logged since the writer opened or committed

    @initialize()
    def begin(self) -> None:
        self.writer.experiment["seed"] = 1
        self.commit()

    @rule(values=st.dictionaries(st.sampled_from("xyz"), st.floats(), min_size=1), step=STEPS)
    def log(self, values: dict[str, float], step: int) -> None:
        assert self.writer.experiment.log(values, step) == step
        for name, value in values.items():
            self.put(name, step, value)

    def put(self, name: str, step: int, value: float) -> None:
        points = self.staged.setdefault(name, {})
        if name not in self.begun and points and step == min(points):
            points.clear()
        points[step] = value
        self.begun.add(name)

    @rule(value=st.floats())
    def log_without_step(self, value: float) -> None:
        last = max((max(points) for points in self.staged.values() if points), default=-1)
        if last < (1 << 63) - 1:
            step = self.writer.experiment.log({"x": value})
            assert step > last
            self.put("x", step, value)

    @rule(name=st.sampled_from("xyz"))
    def delete(self, name: str) -> None:
        if name in self.staged:
            del self.writer.experiment.metrics[name]
            del self.staged[name]

    @rule()
    def commit(self) -> None:
        if not self.writer.status().clean:
            self.writer.commit("points")
            self.begun = set()
        self.committed = {name: dict(points) for name, points in self.staged.items()}

    @rule()
    def reset(self) -> None:
        self.writer.reset()
        self.begun = set()
        self.staged = {name: dict(points) for name, points in self.committed.items()}

    @rule()
    def flush(self) -> None:
        self.writer.flush()

    @rule()
    def reopen(self) -> None:
        self.writer.close()  # which makes what is staged durable
        self.writer = StockRoom(self.folder, enable_write=True)
        self.begun = set()

    @invariant()
    def staged_points_are_those_of_the_dict(self) -> None:
        check(self.writer, self.staged)

    @invariant()
    def a_reader_sees_the_commit(self) -> None:
        self.stock.refresh()
        check(self.stock, self.committed)

    def teardown(self) -> None:
        self.writer.close()
        assert self.stock.verify().ok
        self.stock.close()
        shutil.rmtree(self.folder)


def check(stock: StockRoom, expected: dict[str, dict[int, float]]) -> None:
    metrics = stock.experiment.metrics
    assert list(metrics) == sorted(expected)
    for name, points in expected.items():
        steps, values = metrics[name]
        assert steps.tolist() == sorted(points)
        assert values.tobytes() == np.array([points[step] for step in sorted(points)], np.float64).tobytes()
        summary = metrics.summary(name)
        assert (summary.count, summary.last_step) == (len(points), max(points))
        least = min((value for value in points.values() if not math.isnan(value)), default=math.nan)
        assert summary.min == least or math.isnan(summary.min) is math.isnan(least) is True


TestMetrics = Metrics.TestCase
TestMetrics.settings = settings(
    max_examples=int(os.environ.get("STOCKROOM_EXAMPLES", "20")), stateful_step_count=30, deadline=None
)
