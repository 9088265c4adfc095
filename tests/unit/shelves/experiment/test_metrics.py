"""Metrics: points in any order, any float, durable where they should be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stockroom import InvalidInputError, SchemaError, Series, StockRoom, ValueNotFoundError
from stockroom.shelves.experiment.metrics import choose_best_end


def as_pairs(series: Series) -> list[tuple[int, float]]:
    return list(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def test_a_series_is_two_arrays_of_the_callers_own(stock: StockRoom) -> None:
    with stock.enable_write():
        for step in range(5):
            assert stock.experiment.log({"loss": 1 / (step + 1), "acc": step}, step) == step
    steps, values = stock.experiment.metrics["loss"]
    assert (steps.dtype, values.dtype) == (np.int64, np.float64)
    assert (steps.tolist(), values.tolist()) == ([0, 1, 2, 3, 4], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5])
    values[:] = 0
    steps[:] = 0
    assert as_pairs(stock.experiment.metrics["loss"])[4] == (4, 0.2)
    assert list(stock.experiment.metrics) == ["acc", "loss"]
    assert len(stock.experiment.metrics) == 2
    assert len(stock.experiment) == 0


def test_nan_and_infinities_are_kept(stock: StockRoom) -> None:
    odd = [math.nan, math.inf, -math.inf, -0.0, 5e-324]
    with stock.enable_write():
        for step, value in enumerate(odd):
            stock.experiment.log({"loss": value}, step)
    assert stock.experiment.metrics["loss"].values.tobytes() == np.array(odd).tobytes()


def test_of_several_points_at_one_step_the_last_stands_and_steps_come_sorted(stock: StockRoom) -> None:
    with stock.enable_write():
        for step, value in [(5, 1.0), (2, 2.0), (5, 3.0), (-1, 4.0), (2, 5.0)]:
            stock.experiment.log({"loss": value}, step)
    with stock.enable_write():
        stock.experiment.log({"loss": 6.0}, 5)
        stock.experiment.log({"loss": 7.0}, 3)
    assert as_pairs(stock.experiment.metrics["loss"]) == [(-1, 4.0), (2, 5.0), (3, 7.0), (5, 6.0)]


def test_without_a_step_points_follow_the_greatest(stock: StockRoom) -> None:
    with stock.enable_write():
        assert stock.experiment.log({"loss": 1.0}) == 0
        assert stock.experiment.log({"loss": 2.0}) == 1
        assert stock.experiment.log({"acc": 0.5}, 10) == 10
        assert stock.experiment.log({"loss": 3.0}) == 11
    with stock.enable_write():
        assert stock.experiment.log({"loss": 4.0}) == 12
    assert as_pairs(stock.experiment.metrics["loss"]) == [(0, 1), (1, 2), (11, 3), (12, 4)]


def test_no_point_is_lost_between_a_step_that_is_given_and_one_that_is_not(stock: StockRoom) -> None:
    with stock.enable_write():
        assert [stock.experiment.log({"a": 0.0}, 5), stock.experiment.log({"a": 1.0, "b": 1.0})] == [5, 6]
        assert stock.experiment.log({"a": 2.0}) == 7
    assert as_pairs(stock.experiment.metrics["a"]) == [(5, 0), (6, 1), (7, 2)]
    assert as_pairs(stock.experiment.metrics["b"]) == [(6, 1)]


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (range(4), [0, 1, 2, 3]),  # shorter
        (range(1), [*range(10)]),  # one point is corrected
        (range(0, 8, 4), [0, 4]),  # and more rarely
        (range(-1, 4, 2), [*range(-1, 10)]),  # steps between, as of another process
        (range(10, 12), [*range(12)]),  # the same run goes on
        (range(5, 7), [*range(10)]),  # resumed in the middle
        (range(-3, 0), [*range(-3, 10)]),  # earlier steps are added
    ],
)
@pytest.mark.parametrize("is_session", [False, True])
def test_a_second_run_begins_a_metric_again(stock: StockRoom, second: range, expected, is_session: bool) -> None:
    with stock.enable_write():
        for step in range(10):
            stock.experiment.log({"loss": 1.0, "other": 1.0}, step)
    with stock.session() if is_session else stock.enable_write() as writer:
        for step in second:
            writer.experiment.log({"loss": 2.0}, step)
            writer.flush()
    stock.refresh()
    points = dict(as_pairs(stock.experiment.metrics["loss"]))
    assert list(points) == expected
    assert {points[step] for step in second} == {2.0}
    assert len(stock.experiment.metrics["other"].steps) == 10


def test_within_one_run_the_first_step_may_be_logged_again(stock: StockRoom) -> None:
    with stock.enable_write():
        for step in (0, 1, 2, 0):
            stock.experiment.log({"loss": 1.0}, step)
            assert step in stock.experiment.metrics["loss"].steps
    assert stock.experiment.metrics["loss"].steps.tolist() == [0, 1, 2]
    with StockRoom(stock.path, enable_write=True) as writer:
        for step in (0, 1):
            writer.experiment.log({"loss": 2.0}, step)
            writer.commit(f"Epoch {step}")
    stock.refresh()
    assert as_pairs(stock.experiment.metrics["loss"]) == [(0, 2.0), (1, 2.0)]


def test_what_was_logged_is_read_in_the_same_block(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment.log({"loss": 1.0}, 0)
        assert as_pairs(stock.experiment.metrics["loss"]) == [(0, 1.0)]
        stock.experiment.log({"loss": 2.0}, 1)
        assert as_pairs(stock.experiment.metrics["loss"]) == [(0, 1.0), (1, 2.0)]
        assert "loss" in stock.experiment.metrics
        assert stock.experiment.metrics.summary("loss").last == 2.0


def test_numbers_of_every_kind_are_points(stock: StockRoom) -> None:
    numbers = [1, True, np.float32(0.5), np.int8(3), np.array(2.5), np.bool_(True)]
    with stock.enable_write():
        for step, number in enumerate(numbers):
            stock.experiment.log({"x": number}, np.int64(step))
    assert stock.experiment.metrics["x"].values.tolist() == [1, 1, 0.5, 3, 2.5, 1]


@pytest.mark.parametrize("value", ["1", None, 1j, np.ones(2), [1], b"1", (1 << 53) + 1])
def test_what_is_no_number_is_refused_and_nothing_is_added(stock: StockRoom, value: object) -> None:
    with stock.enable_write():
        stock.experiment.log({"acc": 1.0}, 0)
        with pytest.raises(SchemaError, match="metric 'loss'"):
            stock.experiment.log({"acc": 2.0, "loss": value}, 1)  # type: ignore[dict-item]
        assert list(stock.experiment.metrics) == ["acc"]
        assert as_pairs(stock.experiment.metrics["acc"]) == [(0, 1.0)]


@pytest.mark.parametrize("step", [1.0, "1", True, 1 << 63])
def test_a_step_that_is_no_64_bit_integer_is_refused(stock: StockRoom, step: object) -> None:
    with stock.enable_write(), pytest.raises(InvalidInputError, match="step"):
        stock.experiment.log({"acc": 2.0}, step)  # type: ignore[arg-type]


def test_only_a_mapping_can_be_logged(stock: StockRoom) -> None:
    with stock.enable_write(), pytest.raises(InvalidInputError, match="expected a mapping"):
        stock.experiment.log([("loss", 1.0)], 1)  # type: ignore[arg-type]


def test_a_metric_can_be_deleted_and_begun_anew(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment.log({"loss": 1.0, "acc": 0.5}, 0)
    with stock.enable_write():
        stock.experiment.log({"loss": 2.0}, 1)
        del stock.experiment.metrics["loss"]
        with pytest.raises(ValueNotFoundError, match="there are 'acc'"):
            stock.experiment.metrics["loss"]
        with pytest.raises(ValueNotFoundError):
            del stock.experiment.metrics["loss"]
        stock.experiment.log({"loss": 3.0}, 7)
    assert as_pairs(stock.experiment.metrics["loss"]) == [(7, 3.0)]
    assert as_pairs(stock.experiment.metrics["acc"]) == [(0, 0.5)]


def test_flushed_points_outlive_their_writer_and_others_do_not(stock: StockRoom) -> None:
    writer = StockRoom(stock.path, enable_write=True)
    writer.experiment.log({"loss": 1.0}, 0)
    writer.flush()
    writer.experiment.log({"loss": 2.0}, 1)
    writer._pin.workspace.close()  # as if it had been killed
    writer._pin.workspace = None
    writer.close()
    with StockRoom(stock.path, enable_write=True) as again:
        assert as_pairs(again.experiment.metrics["loss"]) == [(0, 1.0)]


def test_many_points_of_a_few_metrics_come_back(stock: StockRoom) -> None:
    values = np.random.default_rng(3).normal(size=100_000)
    with stock.enable_write():
        shelf = stock.experiment
        for step, value in enumerate(values.tolist()):
            shelf.log({"loss": value, "acc": -value}, step)
    steps, found = stock.experiment.metrics["loss"]
    assert np.array_equal(steps, np.arange(100_000))
    assert np.array_equal(found, values)
    assert np.array_equal(stock.experiment.metrics["acc"].values, -values)


def test_a_summary_tells_last_least_and_greatest_without_nan(stock: StockRoom) -> None:
    with stock.enable_write():
        for step, value in enumerate([3.0, math.nan, 1.0, math.inf, 2.0]):
            stock.experiment.log({"loss": value, "nan": math.nan}, step * 10)
    summary = stock.experiment.metrics.summary("loss")
    assert (summary.last, summary.last_step, summary.count) == (2.0, 40, 5)
    assert (summary.min, summary.max) == (1.0, math.inf)
    assert (summary.pick("best", "val_loss"), summary.pick("best", "acc")) == (1.0, math.inf)
    nothing = stock.experiment.metrics.summary("nan")
    assert [math.isnan(value) for value in (nothing.last, nothing.min, nothing.max)] == [True] * 3


@pytest.mark.parametrize(
    ("name", "best"),
    [("loss", "min"), ("val/Loss", "min"), ("rmse", "min"), ("word_error_rate", "min"), ("acc", "max"), ("f1", "max")],
)
def test_the_best_of_a_metric_goes_by_its_name(name: str, best: str) -> None:
    assert choose_best_end(name) == best
