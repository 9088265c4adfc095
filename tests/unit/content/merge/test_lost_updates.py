"""A value that a writer read and changed, and others changed too, is a conflict even if the values are equal."""

from __future__ import annotations

import numpy as np
import pytest

from stockroom import MergeConflictError, StockRoom


@pytest.fixture
def counted(stock: StockRoom) -> StockRoom:
    with stock.enable_write():
        stock.experiment["count"] = 0
        stock.data["n"] = np.arange(5)
        stock.data["n"].attrs = {"count": 0, "unit": "m"}
        stock.model["net"] = {"w": np.arange(3), "epoch": 0}
    return stock


def count_value(writer: StockRoom) -> None:
    writer.experiment["count"] = writer.experiment["count"] + 1


def count_missing_value(writer: StockRoom) -> None:
    writer.experiment["new"] = writer.experiment.get("new", 0) + 1


def take_value(writer: StockRoom) -> None:
    writer.experiment.pop("count")


def count_sample(writer: StockRoom) -> None:
    writer.data["n"][3] = writer.data["n"][3] + 1


def count_all_samples(writer: StockRoom) -> None:
    column = writer.data["n"]
    column.update((key, value + 1) for key, value in column.items())


def count_batch(writer: StockRoom) -> None:
    writer.data["n"].update(enumerate(writer.data["n"].take([0, 1]) + 1))


def take_sample(writer: StockRoom) -> None:
    del writer.data["n"][next(iter(writer.data["n"]))]


def count_attr(writer: StockRoom) -> None:
    attrs = writer.data["n"].attrs
    writer.data["n"].attrs = {**attrs, "count": attrs["count"] + 1}


def count_epoch(writer: StockRoom) -> None:
    state = writer.model["net"].load()
    writer.model["net"] = {**state, "epoch": state["epoch"] + 1}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (count_value, "experiment/count"),
        (count_missing_value, "experiment/new"),
        (take_value, "experiment/count"),
        (count_sample, "data/n, 3"),
        (count_all_samples, "data/n, 0"),
        (count_batch, "data/n, 0"),
        (take_sample, "data/n, 0"),
        (count_attr, "data/n, 'attrs count'"),
        (count_epoch, "model/net"),
    ],
)
@pytest.mark.parametrize("is_block", [False, True])
def test_an_update_of_what_others_updated_is_not_lost(counted: StockRoom, change, path: str, is_block: bool) -> None:
    second = StockRoom(counted.path, enable_write=True) if is_block else counted.session()
    with counted.session() as one, second as two:
        change(one)
        change(two)
        one.commit("One")
        with pytest.raises(MergeConflictError, match=path):
            two.commit("Two")
        two.reset()


def set_value(writer: StockRoom) -> None:
    writer.experiment["count"] = 1


def set_sample(writer: StockRoom) -> None:
    assert writer.data["n"][2] == 2
    writer.data["n"][3] = 7


def read_what_it_wrote(writer: StockRoom) -> None:
    for number in (6, 7):
        writer.experiment["count"] = number
        writer.data["n"][3] = number
        writer.data["n"].attrs = {"count": number}
        assert (writer.experiment["count"], writer.data["n"][3]) == (number, number)
        assert (list(writer.data["n"].values())[3], writer.data["n"].attrs["count"]) == (number, number)


@pytest.mark.parametrize("change", [set_value, set_sample, read_what_it_wrote])
def test_equal_values_that_do_not_follow_from_the_old_one_are_no_conflict(counted: StockRoom, change) -> None:
    with counted.session() as one, counted.session() as two:
        change(one)
        change(two)
        two.data["n"][4] = 9
    counted.refresh()
    assert counted.data["n"][4] == 9


def test_a_strategy_decides_about_lost_updates_too(counted: StockRoom) -> None:
    with counted.session() as one, counted.session(strategy="ours") as two:
        count_value(one)
        count_value(two)
        count_sample(two)
        one.commit("One")
    counted.refresh()
    assert (counted.experiment["count"], counted.data["n"][3]) == (1, 4)


def test_two_runs_in_one_metric_are_a_conflict(stock: StockRoom) -> None:
    with stock.enable_write():
        for step in range(5):
            stock.experiment.log({"loss": 1.0}, step)
    with stock.session() as one, stock.session() as two:
        one.experiment.log({"loss": 2.0}, 5)
        for step in range(3):
            two.experiment.log({"loss": 3.0}, step)
        one.commit("The first run goes on")
        with pytest.raises(MergeConflictError, match="metric/loss"):
            two.commit("A second run")
        two.reset()
