"""Merging columns and series: samples by key, attrs by name, codecs, schemas, names."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from tests.kit.forks import collect_conflicts, commit, fork

from stockroom import ConflictError, MergeConflictError, NotFoundError, StockRoom
from stockroom.errors import InvalidInputError

SCHEMA = {"dtype": "int64", "shape": (), "keys": "int"}


def set_samples(samples, name="n", deletes=()):
    def change(stock):
        column = stock.data[name] if name in stock.data else stock.data.create(name, **SCHEMA)
        column.update(samples)
        for key in deletes:
            del column[key]

    return change


def set_attrs(attrs):
    def change(stock):
        stock.data["n"].attrs = attrs

    return change


def set_codec(codec):
    def change(stock):
        stock.data["n"].codec = codec

    return change


def create(**schema):
    def change(stock):
        if "n" in stock.data:
            del stock.data["n"]
        stock.data.create("n", **(SCHEMA | schema))

    return change


def nothing(_):
    pass


def read(stock, name="n"):
    return {key: int(value) for key, value in stock.data[name].items()}


base = set_samples({1: 1, 2: 2, 3: 3, 4: 4})


def test_each_change_comes_from_its_own_side(stock: StockRoom) -> None:
    fork(stock, base, set_samples({1: 10, 5: 5}, deletes=[4]), set_samples({2: 20, 6: 6}, deletes=[3]))
    assert stock.merge("dev").outcome == "merged"
    assert read(stock) == {1: 10, 2: 20, 5: 5, 6: 6}


def test_conflicts_name_the_key_the_kind_and_what_each_side_has(stock: StockRoom) -> None:
    fork(
        stock,
        base,
        set_samples({1: 10, 5: 50, 7: 7, 3: 30}, deletes=[2]),
        set_samples({1: 11, 5: 51, 7: 7, 2: 20}, deletes=[3]),
    )
    assert collect_conflicts(stock) == [
        ("data/n", 1, "both changed"),
        ("data/n", 2, "deleted by us, changed by them"),
        ("data/n", 3, "changed by us, deleted by them"),
        ("data/n", 5, "both added"),
    ]
    with pytest.raises(MergeConflictError) as caught:
        stock.merge("dev")
    first, second = caught.value.conflicts[:2]
    with StockRoom(stock.path, ref="dev") as theirs, StockRoom(stock.path, ref="dev~1") as before:
        assert (first.base, first.ours, first.theirs) == (
            before.data["n"].digest(1),
            stock.data["n"].digest(1),
            theirs.data["n"].digest(1),
        )
        assert (second.ours, second.theirs) == (None, theirs.data["n"].digest(2))


def test_digests_of_large_samples_are_those_of_their_bytes(stock: StockRoom) -> None:
    def put(value):
        def change(writer):
            for length in (100, 5 << 20):
                writer.data[f"of-{length}"] = np.full((1, length), value, np.uint8)

        return change

    fork(stock, put(0), put(1), put(2))
    with pytest.raises(MergeConflictError) as caught:
        stock.merge("dev")
    assert len(caught.value.conflicts) == 2
    with StockRoom(stock.path, ref="dev") as theirs:
        for conflict in caught.value.conflicts:
            name = conflict.path.removeprefix("data/")
            assert conflict.ours == stock.data[name].digest(0)
            assert conflict.theirs == theirs.data[name].digest(0)


def test_attrs_are_merged_by_name(stock: StockRoom) -> None:
    def start(writer):
        base(writer)
        writer.data["n"].attrs = {"a": 1, "b": 1, "c": 1, "d": 1}

    fork(stock, start, set_attrs({"a": 2, "b": 1, "c": 1, "x": [1]}), set_attrs({"a": 1, "b": 3, "d": 1, "y": 2}))
    stock.merge("dev")
    assert dict(stock.data["n"].attrs) == {"a": 2, "b": 3, "x": [1], "y": 2}


def test_attrs_in_conflict_are_named_and_decided(stock: StockRoom) -> None:
    fork(stock, base, set_attrs({"unit": "m", "scale": 1}), set_attrs({"unit": "km", "scale": 1}))
    assert collect_conflicts(stock) == [("data/n", "attrs unit", "attrs")]
    stock.merge("dev", strategy={"data/n": "theirs"})
    assert dict(stock.data["n"].attrs) == {"unit": "km", "scale": 1}


@pytest.mark.parametrize(("choice", "unit"), [("ours", "m"), ("theirs", "km")])
def test_attrs_in_conflict_are_resolved(stock: StockRoom, choice: str, unit: str) -> None:
    fork(stock, base, set_attrs({"unit": "m"}), set_attrs({"unit": "km", "more": 1}))
    assert len(stock.merge("dev", commit=False).conflicts) == 1
    assert stock.resolve("data/n", "attrs unit", choice=choice) == 0
    stock.continue_merge()
    assert dict(stock.data["n"].attrs) == {"unit": unit, "more": 1}


def test_numbers_that_python_takes_for_equal_are_different_attrs(stock: StockRoom) -> None:
    def start(writer):
        base(writer)
        writer.data["n"].attrs = {"flag": 1}

    fork(stock, start, set_attrs({"flag": True}), set_attrs({"flag": 1, "other": 2}))
    stock.merge("dev")
    assert stock.data["n"].attrs["flag"] is True


def test_of_two_codecs_the_changed_one_stands_and_ours_if_both_were(stock: StockRoom) -> None:
    fork(stock, base, set_samples({9: 9}), set_codec("zstd"))
    stock.merge("dev")
    assert stock.data["n"].codec == "zstd"
    stock.checkout("dev")
    commit(stock, set_codec("lz4"))
    stock.checkout("main")
    commit(stock, set_codec("raw"))
    stock.merge("dev")
    assert stock.data["n"].codec == "raw"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (create(dtype="float32"), set_samples({5: 5})),
        (set_samples({5: 5}), create(keys="str")),
        (create(shape=(2,)), create(shape=(3,))),
        (create(dtype="bytes"), create(decoder="image", dtype=None)),
        (create(decoder="image:L", dtype=None), create(decoder="image", dtype=None)),
    ],
)
def test_two_schemas_are_one_conflict(stock: StockRoom, ours, theirs) -> None:
    fork(stock, base, ours, theirs)
    assert collect_conflicts(stock) == [("data/n", None, "schema")]
    stock.merge("dev", strategy="theirs")
    with StockRoom(stock.path, ref="dev") as dev:
        assert stock.data["n"].schema == dev.data["n"].schema
        assert stock.data["n"].root == dev.data["n"].root


def test_a_decoder_that_one_side_set_is_neither_dropped_nor_applied_to_the_others_samples(stock: StockRoom) -> None:
    def add(key):
        return lambda writer: writer.data["n"].encoded.update({key: b"\xff\xd8"})

    fork(stock, create(dtype="bytes", keys="int"), add(1), create(decoder="image", dtype=None))
    assert collect_conflicts(stock) == [("data/n", None, "schema")]
    assert stock.diff("HEAD", "dev")["data/n"].kind == "schema"
    stock.merge("dev", strategy="theirs")
    assert (stock.data["n"].decoder, len(stock.data["n"])) == ("image", 0)


def test_a_schema_that_one_side_changed_alone_is_no_conflict(stock: StockRoom) -> None:
    fork(stock, base, set_samples({1: 1}, name="other"), create(dtype="float32"))
    stock.merge("dev")
    assert stock.data["n"].dtype == np.float32


def test_both_sides_may_change_to_the_same_schema(stock: StockRoom) -> None:
    def recreate(samples):
        def change(writer):
            create(dtype="float64")(writer)
            writer.data["n"].update(samples)

        return change

    fork(stock, base, recreate({1: 1.5, 2: 2.5}), recreate({2: 2.5, 3: 3.5}))
    stock.merge("dev")
    assert {key: float(value) for key, value in stock.data["n"].items()} == {1: 1.5, 2: 2.5, 3: 3.5}


@pytest.mark.parametrize(("strategy", "left"), [("ours", []), ("theirs", ["n"])])
def test_a_column_deleted_on_one_side_and_changed_on_the_other(stock: StockRoom, strategy: str, left) -> None:
    fork(stock, base, lambda writer: writer.data.__delitem__("n"), set_samples({5: 5}))
    assert collect_conflicts(stock) == [("data/n", None, "deleted by us, changed by them")]
    stock.merge("dev", strategy=strategy)
    assert list(stock.data) == left


def test_names_that_differ_only_in_case_do_not_meet(stock: StockRoom) -> None:
    fork(stock, base, set_samples({1: 1}, name="label"), set_samples({1: 2}, name="Label"))
    assert collect_conflicts(stock) == [("data/Label", None, "name")]
    stock.merge("dev", commit=False)
    with pytest.raises(InvalidInputError, match="'label'"):
        stock.resolve("data/Label", choice="theirs")
    with StockRoom(stock.path, enable_write=True) as writer:
        del writer.data["label"]
    assert stock.resolve("data/Label", choice="theirs") == 0
    stock.continue_merge()
    assert list(stock.data) == ["Label", "n"]


@pytest.mark.parametrize(("strategy", "names"), [("ours", ["label", "n"]), ("theirs", ["Label", "n"])])
def test_names_that_do_not_meet_are_decided_by_a_strategy(stock: StockRoom, strategy: str, names) -> None:
    fork(stock, base, set_samples({1: 1}, name="label"), set_samples({1: 2}, name="Label"))
    stock.merge("dev", strategy=strategy)
    assert list(stock.data) == names


def test_a_column_renamed_in_case_by_them_alone_is_no_conflict(stock: StockRoom) -> None:
    def rename(writer):
        set_samples({1: 1}, name="N")
        del writer.data["n"]
        set_samples({1: 1}, name="N")(writer)

    fork(stock, base, set_samples({1: 1}, name="other"), rename)
    stock.merge("dev")
    assert list(stock.data) == ["N", "other"]


def test_points_of_a_metric_are_merged_by_step(stock: StockRoom) -> None:
    def log(points):
        def change(writer):
            for step, value in points.items():
                writer.experiment.log({"loss": value}, step)

        return change

    fork(stock, log({0: 1.0, 1: 0.5}), log({2: 0.25, 4: 0.1}), log({3: 0.125, 4: 0.2, 1: 0.6}))
    assert collect_conflicts(stock) == [("metric/loss", 4, "both added")]
    stock.merge("dev", strategy={"metric/*:4": "ours"})
    steps, values = stock.experiment.metrics["loss"]
    assert steps.tolist() == [0, 1, 2, 3, 4]
    assert values.tolist() == [1.0, 0.6, 0.25, 0.125, 0.1]


def test_values_of_experiments_are_merged_by_name(stock: StockRoom) -> None:
    def put(**values):
        return lambda writer: writer.experiment.update(values)

    fork(stock, put(lr=0.1, seed=1, note="a"), put(lr=0.2, own=1, note="b"), put(seed=2, other=2, note="c"))
    assert collect_conflicts(stock) == [("experiment/note", None, "both changed")]
    stock.merge("dev", strategy={"experiment/note": "theirs"})
    assert dict(stock.experiment) == {"lr": 0.2, "seed": 2, "note": "c", "own": 1, "other": 2}


def test_patterns_decide_by_path_and_by_key_the_first_that_fits(stock: StockRoom) -> None:
    fork(stock, base, set_samples({1: 10, 2: 20, 3: 30}), set_samples({1: 11, 2: 21, 3: 31}))
    stock.merge("dev", strategy={"data/n:1": "theirs", "data/n": "ours", "*": "theirs"})
    assert read(stock) == {1: 11, 2: 20, 3: 30, 4: 4}


def test_a_strategy_that_is_not_known_is_refused(stock: StockRoom) -> None:
    fork(stock, base, nothing, set_samples({9: 9}))
    with pytest.raises(InvalidInputError, match="'mine'"):
        stock.merge("dev", strategy={"data/n": "mine"})


def test_conflicts_are_resolved_one_by_one_and_only_where_they_are(stock: StockRoom) -> None:
    fork(stock, base, set_samples({1: 10, 3: 30}, deletes=[2]), set_samples({1: 11, 2: 21, 3: 31, 4: 41}))
    merge = stock.merge("dev", commit=False)
    assert (merge.outcome, len(merge.conflicts)) == ("staged", 3)
    assert stock.resolve("data/n", 1, choice="theirs") == 2
    assert stock.resolve("data/n", "2", choice="theirs") == 1
    with pytest.raises(NotFoundError, match="no open conflict"):
        stock.resolve("data/n", 2, choice="ours")
    with pytest.raises(MergeConflictError, match="stock resolve"):
        stock.continue_merge()
    assert stock.resolve("data/n", choice="ours") == 0
    stock.continue_merge()
    assert read(stock) == {1: 11, 2: 21, 3: 30, 4: 41}
    assert len(next(stock.log()).parents) == 2


def test_a_value_of_ones_own_resolves_and_what_else_was_staged_stays(stock: StockRoom) -> None:
    fork(stock, base, set_samples({1: 10, 2: 20}), set_samples({1: 11, 2: 21, 4: 41}))
    stock.merge("dev", commit=False)
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["n"][1] = 99
        writer.data["n"][4] = 4  # as it was before they changed it
    assert stock.resolve("data/n", 1) == 1
    assert stock.resolve("data/n", 2, choice="theirs") == 0
    stock.continue_merge("Mine and theirs")
    assert read(stock) == {1: 99, 2: 21, 3: 3, 4: 4}
    assert next(stock.log()).message == "Mine and theirs"


def test_ours_takes_back_what_was_staged_meanwhile(stock: StockRoom) -> None:
    fork(stock, base, set_samples({1: 10}), set_samples({1: 11}))
    stock.merge("dev", commit=False)
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["n"][1] = 99
    stock.resolve("data/n", 1, choice="ours")
    stock.continue_merge()
    assert read(stock)[1] == 10


def test_a_column_of_another_schema_by_now_is_resolved_as_staged(stock: StockRoom) -> None:
    fork(stock, base, set_samples({1: 10}), set_samples({1: 11}))
    stock.merge("dev", commit=False)
    with StockRoom(stock.path, enable_write=True) as writer:
        create(dtype="str", shape=())(writer)
    with pytest.raises(InvalidInputError, match="as staged"):
        stock.resolve("data/n", 1, choice="theirs")
    assert stock.resolve("data/n") == 0
    stock.continue_merge()
    assert stock.data["n"].dtype == "str"


def test_average_is_for_tensors_of_models(stock: StockRoom) -> None:
    fork(stock, base, set_samples({1: 10}), set_samples({1: 11}))
    with pytest.raises(MergeConflictError):
        stock.merge("dev", strategy="average")
    stock.merge("dev", commit=False)
    with pytest.raises(InvalidInputError, match="average"):
        stock.resolve("data/n", 1, choice="average")


@pytest.mark.parametrize("bulk", [1000, 30_000])
def test_many_conflicts_are_decided_alike(stock: StockRoom, bulk: int) -> None:
    def fill(value):
        return lambda writer: writer.data.__setitem__("n", np.full(bulk, value))

    fork(stock, fill(0), fill(1), fill(2))
    assert len(collect_conflicts(stock)) == bulk
    stock.merge("dev", strategy="theirs")
    assert set(read(stock).values()) == {2}


def test_refused_while_a_merge_is_under_way(stock: StockRoom) -> None:
    fork(stock, base, set_samples({1: 10}), set_samples({1: 11}))
    stock.merge("dev", commit=False)
    for refused in (
        partial(stock.merge, "dev"),
        partial(stock.merge, "HEAD"),
        partial(stock.revert, "HEAD"),
        partial(stock.cherry_pick, "dev"),
        partial(stock.checkout, "dev"),
        stock.undo,
    ):
        with pytest.raises(ConflictError, match="in progress"):
            refused()
    assert not stock.status().clean
    stock.abort_merge()
    assert stock.status().clean
    with pytest.raises(NotFoundError, match="no merge"):
        stock.abort_merge()
