"""The table that compares commits: rows, columns, and what chooses among them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stockroom import ExperimentTable, InvalidInputError, RefNotFoundError, StockRoom
from stockroom.shelves.experiment.cells import MAX_PARTS, Outline, format_cell

RUNS: list[dict[str, Any]] = [
    {"lr": 0.1, "optimizer": {"name": "sgd", "lr": 0.1}, "seed": 1},
    {"lr": 0.01, "optimizer": {"name": "adam", "lr": 0.01}, "seed": 1},
    {"lr": "auto", "optimizer": {"name": "adam", "lr": math.nan}, "seed": 1, "extra": [1, 2]},
]
ACC = [[0.1, 0.5], [0.2, 0.9, 0.8], [math.nan]]


@pytest.fixture
def runs(stock: StockRoom) -> StockRoom:
    """Three commits, each a run of its own, tagged run0 to run2; the last has no acc."""
    for number, values in enumerate(RUNS):
        with stock.enable_write(f"Run {number}"):
            stock.experiment.update(values)
            if number:
                del stock.experiment.metrics["acc"]
            for step, acc in enumerate(ACC[number]):
                stock.experiment.log({"acc": acc, "loss": 1 - acc}, step)
        stock.create_tag(f"run{number}")
    with stock.enable_write("Run 2 without acc"):
        del stock.experiment.metrics["acc"]
    return stock


def list_messages(table: ExperimentTable) -> list[str]:
    return [row.commit.message for row in table]


def test_without_refs_the_rows_are_the_history_newest_first(runs: StockRoom) -> None:
    table = runs.experiment.table()
    assert list_messages(table) == ["Run 2 without acc", "Run 2", "Run 1", "Run 0"]
    assert [row.ref for row in table] == [None] * 4
    assert list_messages(runs.experiment.table(n=2)) == ["Run 2 without acc", "Run 2"]
    assert len(runs.experiment.table(n=0)) == 0
    with StockRoom(runs.path, ref="run1") as pinned:
        assert list_messages(pinned.experiment.table()) == ["Run 1", "Run 0"]


def test_refs_are_rows_in_their_order(runs: StockRoom) -> None:
    table = runs.experiment.table(["run1", "HEAD", "run0", "run1"])
    assert list_messages(table) == ["Run 1", "Run 2 without acc", "Run 0", "Run 1"]
    assert [row.ref for row in table] == ["run1", "HEAD", "run0", "run1"]
    assert list_messages(runs.experiment.table("run0")) == ["Run 0"]
    with pytest.raises(RefNotFoundError):
        runs.experiment.table(["run1", "nope"])
    with pytest.raises(InvalidInputError, match="number of rows"):
        runs.experiment.table(n=-1)


def test_values_are_flat_under_dotted_names(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment.update(
            a={"b": {"c": 1}, "d": {}, "list": [1, None, "x"], "tuple": (1.5,), "nested": [[1], {"e": True}]},
            one=np.full((1, 1), 2.5, np.float32),
            zero=np.empty((0, 3), np.int8),
            array=np.zeros((3, 4), np.float32),
            bytes=b"xyz",
            dates=np.datetime64("2026-07-01"),
            many=list(range(MAX_PARTS + 1)),
        )
    (row,) = stock.experiment.table()
    outlines = {name: str(cell) for name, cell in row.values.items() if isinstance(cell, Outline)}
    assert outlines == {
        "zero": "int8 (0, 3)",
        "array": "float32 (3, 4)",
        "bytes": "3 bytes",
        "many": f"list of {MAX_PARTS + 1} parts",
    }
    assert {name: cell for name, cell in row.values.items() if name not in outlines} == {
        "a.b.c": 1,
        "a.d": {},
        "a.list": [1, None, "x"],
        "a.tuple": (1.5,),
        "a.nested.0": [1],
        "a.nested.1.e": True,
        "one": np.float32(2.5),
        "dates": np.datetime64("2026-07-01"),
    }
    assert type(row.values["one"]) is np.float32
    assert row.values["a.nested.1.e"] is True


def test_a_long_text_in_a_large_value_is_an_outline(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment["notes"] = {"long": "x" * 20_000, "short": "y", "n": 3}
    values = stock.experiment.table()[0].values
    assert (str(values["notes.long"]), values["notes.short"], values["notes.n"]) == ("str of 20000 bytes", "y", 3)


def test_tensors_need_no_torch_to_stand_in_a_table(stock: StockRoom) -> None:
    torch = pytest.importorskip("torch")
    base = torch.arange(6.0)
    with stock.enable_write():
        stock.experiment["t"] = {
            "one": torch.tensor(1.5, dtype=torch.bfloat16),
            "two": torch.ones(2),
            "view": [base[:4], base[2:]],
            "tied": [base, base],
        }
    values = stock.experiment.table()[0].values
    assert (values["t.one"], type(values["t.one"])) == (1.5, float)
    assert str(values["t.two"]) == "float32 (2,)"
    assert list(map(str, values["t.view"])) == ["float32 (4,)", "float32 (4,)"]
    assert values["t.tied"][0] == values["t.tied"][1]


def test_columns_are_the_values_and_then_the_metrics(runs: StockRoom) -> None:
    table = runs.experiment.table()
    assert table.columns == ["extra", "lr", "optimizer.lr", "optimizer.name", "seed", "acc", "loss"]
    assert table.metric_columns == ["acc", "loss"]
    assert runs.experiment.table(["run0"]).columns == ["lr", "optimizer.lr", "optimizer.name", "seed", "acc", "loss"]


def test_only_what_differs_is_left_of_columns(runs: StockRoom) -> None:
    assert runs.experiment.table().changed_only().columns == [
        *("extra", "lr", "optimizer.lr", "optimizer.name"),
        *("acc", "loss"),
    ]
    assert runs.experiment.table(["HEAD", "run2"]).changed_only().columns == ["acc"]
    assert runs.experiment.table(["run2"]).changed_only().columns == []
    assert len(runs.experiment.table(["run2"]).changed_only()) == 1


def test_values_alike_but_for_their_type_or_their_elements_differ(stock: StockRoom) -> None:
    for value, array in ((1, np.zeros(3)), (True, np.ones(3))):
        with stock.enable_write():
            stock.experiment.update(flag=value, array=array, same=math.nan)
    assert stock.experiment.table().changed_only().columns == ["array", "flag"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("lr < 0.05", ["Run 1"]),
        ("lr == 'auto'", ["Run 2 without acc", "Run 2"]),
        ("optimizer.name == 'adam' and seed == 1", ["Run 2 without acc", "Run 2", "Run 1"]),
        ("optimizer.lr < 1", ["Run 1", "Run 0"]),
        ("acc > 0.7", ["Run 1"]),
        ("acc < 0.7 or lr == 0.01", ["Run 1", "Run 0"]),
        ("not acc > 0.7", ["Run 2", "Run 0"]),
        ("2 in extra", ["Run 2 without acc", "Run 2"]),
        ("seed in (2, 3)", []),
    ],
)
def test_a_condition_leaves_the_rows_that_meet_it(runs: StockRoom, condition: str, expected: list[str]) -> None:
    assert list_messages(runs.experiment.table().filter(condition)) == expected


def test_a_name_means_the_value_before_the_metric(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment["x"] = 1
        stock.experiment.log({"x": 2.0, "val/x y": 5.0}, 0)
    table = stock.experiment.table()
    assert len(table.filter("x == 1")) == 1
    assert len(table.filter("`val/x y` == 5")) == 1
    assert table.columns == ["x", "val/x y"]
    assert (table.value_columns, table.metric_columns) == (["x"], ["val/x y", "x"])


def test_a_name_that_no_row_has_is_refused_with_near_ones(runs: StockRoom) -> None:
    for call in (lambda table: table.filter("acc > 1 and lrr < 1"), lambda table: table.sort("lrr")):
        with pytest.raises(InvalidInputError, match="value or metric 'lrr'; did you mean 'lr'"):
            call(runs.experiment.table())


def test_a_condition_that_is_code_is_refused(runs: StockRoom) -> None:
    with pytest.raises(InvalidInputError, match="condition"):
        runs.experiment.table().filter("__import__('os').system('true') == 0")


def test_rows_sort_by_value_or_metric_and_those_without_come_last(runs: StockRoom) -> None:
    table = runs.experiment.table()
    assert list_messages(table.sort("acc")) == ["Run 0", "Run 1", "Run 2", "Run 2 without acc"]
    assert list_messages(table.sort("acc", reverse=True)) == ["Run 1", "Run 0", "Run 2", "Run 2 without acc"]
    assert list_messages(table.sort("lr")) == ["Run 1", "Run 0", "Run 2 without acc", "Run 2"]
    assert list_messages(table.sort("extra"))[2:] == ["Run 1", "Run 0"]
    assert list_messages(table.sort("acc", metric="min"))[:2] == ["Run 0", "Run 1"]
    assert list_messages(table.sort("acc", True, metric="best"))[:2] == ["Run 1", "Run 0"]


def test_summaries_in_rows_are_cheap_and_whole(runs: StockRoom) -> None:
    summary = runs.experiment.table(["run1"])[0].metrics["acc"]
    assert (summary.last, summary.last_step, summary.count) == (0.8, 2, 3)
    assert (summary.min, summary.max) == (0.2, 0.9)
    assert summary.series.values.tolist() == [0.2, 0.9, 0.8]


def test_a_table_is_a_sequence(runs: StockRoom) -> None:
    table = runs.experiment.table()
    assert table[-1].commit.message == "Run 0"
    assert list_messages(table[1:3]) == ["Run 2", "Run 1"]
    assert table[3:].columns == ["lr", "optimizer.lr", "optimizer.name", "seed", "acc", "loss"]
    assert "4 rows" in repr(table)


def test_dicts_have_what_the_columns_say(runs: StockRoom) -> None:
    first = runs.experiment.table(["run0", "run1"]).changed_only().to_dicts()[0]
    assert first.pop("time").tzinfo is not None
    assert first == {
        "commit": runs.tags["run0"],
        "ref": "run0",
        "message": "Run 0",
        "values": {"lr": 0.1, "optimizer.lr": 0.1, "optimizer.name": "sgd"},
        "metrics": {"acc": 0.5, "loss": 0.5},
    }


def test_a_page_of_html_escapes_what_it_shows(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment["<b>"] = "<script>"
    page = stock.experiment.table()._repr_html_()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<b>" not in page


def test_an_empty_repository_has_an_empty_table(stock: StockRoom) -> None:
    table = stock.experiment.table()
    assert (len(table), table.columns, table.to_dicts()) == (0, [], [])
    assert table.changed_only().columns == []


def test_what_is_staged_is_no_row(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment["lr"] = 0.1
    with stock.enable_write():
        stock.experiment["lr"] = 0.2
        assert [row.values["lr"] for row in stock.experiment.table()] == [0.1]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (np.float32(0.1), "0.1"),
        (1e-9, "1e-09"),
        (math.nan, "nan"),
        (True, "True"),
        ([1, 0.5, "x"], "[1, 0.5, x]"),
        ((1,), "(1)"),
        (None, "None"),
        ({}, "{}"),
    ],
)
def test_cells_are_short(cell: object, text: str) -> None:
    assert format_cell(cell) == text
