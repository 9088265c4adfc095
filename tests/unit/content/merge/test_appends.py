"""Appends of several writers stay all, in the order of the commits, and rows of one table stay together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockroom import MergeConflictError, StockRoom
from stockroom.importers.run import import_into
from stockroom.importers.source import ColumnSource


@pytest.fixture
def table(stock: StockRoom) -> StockRoom:
    """Three rows in the columns image and label: every image is full of its label."""
    with stock.enable_write():
        stock.data["image"] = np.stack([np.full(30, n, np.int32) for n in range(3)])
        stock.data["label"] = np.arange(3)
    return stock


def append(writer: StockRoom, *labels: int) -> None:
    writer.data["image"].extend([np.full(30, n, np.int32) for n in labels])
    writer.data["label"].extend(labels)


def read(stock: StockRoom) -> list[int]:
    """The labels in key order, after a look at the pairs."""
    stock.refresh()
    image, label = stock.data["image"], stock.data["label"]
    assert list(image) == list(label)
    assert [int(sample[0]) for sample in image.values()] == [int(n) for n in label.values()]
    return [int(n) for n in label.values()]


def test_appends_of_two_sessions_follow_each_other(table: StockRoom) -> None:
    """
    0 1 2 --- 10 11 ------ 20 21 22      the second session began before the first one's commit
         \\--- 20 21 22 ---/
    """
    with table.session() as one, table.session() as two:
        append(one, 10, 11)
        append(two, 20, 21)
        append(two, 22)
        one.commit("One")
        two.commit("Two")
        assert two.data["label"][7] == 22
    assert read(table) == [0, 1, 2, 10, 11, 20, 21, 22]


def test_a_write_block_goes_behind_a_session_that_was_faster(table: StockRoom) -> None:
    with table.session() as session, table.enable_write():
        append(table, 20)
        append(session, 10, 11)
        session.commit("Faster")
    assert read(table) == [0, 1, 2, 10, 11, 20]


def test_equal_samples_that_both_appended_are_all_kept(table: StockRoom) -> None:
    with table.session() as one, table.session() as two:
        append(one, 7)
        append(two, 7)
    assert read(table) == [0, 1, 2, 7, 7]


def test_rows_move_together_where_others_appended_to_one_column_only(table: StockRoom) -> None:
    with table.session() as one, table.session() as two:
        one.data["image"].extend(np.full((2, 30), 9, np.int32))
        append(two, 20)
        one.commit("One")
    table.refresh()
    assert list(table.data["label"]) == [0, 1, 2, 5]
    assert (table.data["label"][5], table.data["image"][5][0]) == (20, 20)


def test_a_column_that_both_made_is_filled_by_both(table: StockRoom) -> None:
    with table.session() as one, table.session() as two:
        for number, session in enumerate((one, two)):
            session.data.create("new", dtype="int64").extend([number, number])
        one.commit("One")
    table.refresh()
    assert [int(n) for n in table.data["new"].values()] == [0, 0, 1, 1]


def test_two_imports_of_the_same_rows_are_one(stock: StockRoom) -> None:
    source = ColumnSource("values", np.dtype(np.int8), (), 2, lambda: iter([np.ones(2, np.int8)]))
    with stock.session() as one, stock.session() as two:
        for session in (one, two):
            session.data.import_from([{"n": n} for n in range(3)])
            import_into(session, [source])
        one.commit("One")
        two.commit("Two")
    stock.refresh()
    assert (len(stock.data["n"]), len(stock.data["values"])) == (3, 2)


def choose_a_key(session: StockRoom) -> None:
    session.data["label"].extend([20])
    session.data["image"][3] = np.full(30, 20, np.int32)


def name_a_key(session: StockRoom) -> None:
    keys = session.data["label"].extend([20])
    session.data["split"] = {"test": np.array(keys)}


def add_beyond(session: StockRoom) -> None:
    session.data["label"][100] = 1
    session.data["label"].extend([20])
    session.data["label"][3] = 2


@pytest.mark.parametrize("change", [choose_a_key, name_a_key, add_beyond])
def test_keys_that_the_writer_may_have_used_do_not_move(table: StockRoom, change) -> None:
    with table.session() as one, table.session() as two:
        append(one, 10)
        change(two)
        one.commit("One")
        with pytest.raises(MergeConflictError):
            two.commit("Two")
        two.reset()


def test_points_without_a_step_go_behind_those_of_others(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment.log({"a": 0, "b": 0})
    with stock.session() as one, stock.session() as two:
        for number in (1, 2):
            one.experiment.log({"a": number})
        two.experiment.log({"a": 10, "b": 10})
        two.experiment.log({"b": 11})
        two.commit("Two")
    stock.refresh()
    assert list(zip(*stock.experiment.metrics["a"], strict=True)) == [(0, 0), (1, 10), (3, 1), (4, 2)]
    assert list(zip(*stock.experiment.metrics["b"], strict=True)) == [(0, 0), (1, 10), (2, 11)]


def test_points_at_chosen_steps_are_a_conflict(stock: StockRoom) -> None:
    with stock.session() as one, stock.session() as two:
        one.experiment.log({"a": 1}, 1)
        two.experiment.log({"a": 2}, 1)
        two.experiment.log({"a": 3})
        one.commit("One")
        with pytest.raises(MergeConflictError, match="metric/a"):
            two.commit("Two")
        two.reset()


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=12))
def test_nothing_is_lost_in_any_order_of_appends_and_rows_stay_whole(table: StockRoom, steps) -> None:
    """Each step is a session and how many rows it appends; 0 is a commit. The order is that of the commits."""
    before = read(table)
    sessions, waiting, expected = [table.session() for _ in range(3)], [[], [], []], []
    for number, (which, count) in enumerate([*steps, (2, 0), (1, 0), (0, 0)]):
        labels = [number * 10 + n for n in range(count)]
        append(sessions[which], *labels)
        waiting[which] += labels
        if not count and waiting[which]:
            sessions[which].commit("Rows")
            expected += waiting[which]
            waiting[which] = []
    for session in sessions:
        session.close()
    assert read(table) == [*before, *expected]
