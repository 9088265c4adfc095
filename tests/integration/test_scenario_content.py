"""What is kept: equal content once, refused input not at all, the same root in whatever order it was written."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
from tests.kit.packs import measure_packs

from stockroom import (
    AmbiguousRefError,
    ColumnNotFoundError,
    InvalidInputError,
    RefNotFoundError,
    SampleNotFoundError,
    SchemaError,
    StockRoom,
)

# -- equal content is stored once


def test_the_same_bytes_are_stored_once_whatever_refers_to_them(stock):
    data = np.random.default_rng(1).integers(0, 256, 60_000, np.uint8)
    with stock.enable_write("once") as writer:
        writer.data["a"] = {1: data, 2: data, -3: data}
    size = measure_packs(stock.path, "c.*")
    assert size >= 60_000
    with stock.enable_write("again") as writer:
        writer.data["a"][9] = data
        writer.data["b"] = {"same": data}
        writer.data["squared"] = data.reshape(1, 200, 300)
        writer.data["as floats"[:2]] = data.view(np.float32)[None]
        writer.data["bytes"] = [data.tobytes()]
        writer.data["ragged"] = [data.reshape(3, -1), data.reshape(4, -1)]
    with stock.enable_write("once more") as writer:
        del writer.data["a"]
    with stock.enable_write("and back") as writer:
        writer.data["a"] = data[None]
    assert measure_packs(stock.path, "c.*") == size
    digests = {stock.data["a"].digest(0), stock.data["b"].digest("same"), stock.data["squared"].digest(0)}
    assert len(digests) == 1
    assert np.array_equal(stock.data["squared"][0], data.reshape(200, 300))
    assert stock.data["as"][0].dtype == np.float32
    assert np.array_equal(stock.data["as"][0].view(np.uint8), data)
    assert stock.data["bytes"][0] == data.tobytes()
    assert [sample.shape for sample in stock.data["ragged"].values()] == [(3, 20_000), (4, 15_000)]


@pytest.mark.parametrize("opened", ["before", "and writing"])
def test_what_another_process_has_written_meanwhile_is_not_stored_again(stock, opened):
    data = np.random.default_rng(3).integers(0, 256, (40, 1000), np.uint8)
    with stock.enable_write("first") as writer:
        writer.data["first"] = data[:10]
    writing = stock.session() if opened == "and writing" else nullcontext(stock)
    with writing as handle:
        if opened == "and writing":
            handle.data["mine"] = data[10:15]
            handle.commit("mine")
        code = (
            "import sys, numpy as np; from stockroom import StockRoom\n"
            "data = np.random.default_rng(3).integers(0, 256, (40, 1000), np.uint8)\n"
            "with StockRoom(sys.argv[1]).enable_write('theirs') as stock: stock.data['theirs'] = data[15:]\n"
        )
        subprocess.run([sys.executable, "-c", code, str(stock.path)], check=True)
        size = measure_packs(stock.path, "c.*")
        with handle.enable_write("again") if handle is stock else nullcontext(handle) as writer:
            writer.data["again"] = data[20:]
            writer.data["one"] = data[15:16]
        if handle is not stock:
            handle.commit("again")
    assert measure_packs(stock.path, "c.*") == size
    stock.refresh()
    assert (stock.data["again"][:] == data[20:]).all()


def test_a_large_tensor_changed_in_one_row_shares_its_other_chunks(stock):
    data = np.random.default_rng(2).integers(0, 256, (12, 1 << 20), np.uint8)  # 12 MiB: three chunks
    with stock.enable_write("whole") as writer:
        writer.data["x"] = data[None]
    size = measure_packs(stock.path, "c.*")
    data[11, 5] ^= 1
    with stock.enable_write("one row") as writer:
        writer.data["x"][0] = data
    assert measure_packs(stock.path, "c.*") - size < 5 << 20
    assert np.array_equal(stock.data["x"][0], data)


# -- refused input leaves no trace


@pytest.fixture
def writer(stock):
    """A writer with something committed and something staged."""
    with StockRoom(stock.path, enable_write=True) as opened:
        opened.data["x"] = np.arange(300).reshape(3, 100)
        opened.data["scan"] = [np.zeros((2, 3), np.float32), np.ones((4, 3), np.float32)]
        opened.data["text"] = ["a", "b"]
        opened.data["raw"] = [b"a"]
        opened.data["named"] = {"a": 1.0, "b": 2.0}
        opened.data["flag"] = [True, False]
        opened.commit("first")
        opened.data["x"][5] = np.full(100, 5)
        opened.data["new"] = [1, 2, 3]
        yield opened


def describe(stock):
    """Everything a user can see of what is staged."""
    changes = {path: (list(d.added), list(d.removed), list(d.changed)) for path, d in stock.status().changes.items()}
    content = {
        name: [(key, value.tolist() if isinstance(value, np.ndarray) else value) for key, value in column.items()]
        for name, column in stock.data.items()
    }
    return changes, content


GOOD = np.zeros(100, int)
OBJECTS = np.array([object()] * 100)
BAD_SAMPLES = {
    "dtype": np.zeros(100, np.float32),
    "width of ints": np.zeros(100, np.int32),
    "sign": np.zeros(100, np.uint64),
    "rank": np.zeros((1, 100), int),
    "scalar": 5,
    "shape": np.zeros(99, int),
    "object array": OBJECTS,
    "list": [0] * 100,
    "str": "text",
    "None": None,
    "text array": np.array(["a"] * 100),
    "structured": np.zeros(100, "i4,i4"),
}


@pytest.mark.parametrize("what", BAD_SAMPLES)
def test_a_bad_sample_is_refused_by_column_and_key_and_leaves_no_trace(writer, what):
    bad = BAD_SAMPLES[what]
    before = describe(writer)
    column = writer.data["x"]
    for refuse in (
        lambda: column.__setitem__(1, bad),
        lambda: column.update({0: GOOD, 1: bad, 2: GOOD}),
        lambda: column.update((key, bad if key == 1 else GOOD) for key in range(3)),
        lambda: column.update([(2, GOOD), (1, bad)]),
        lambda: writer.data.__setitem__("x", [GOOD, bad, GOOD]),
        lambda: writer.data.__setitem__("x", {7: GOOD, 1: bad}),
        lambda: writer.data.__setitem__("x", (bad if key == 1 else GOOD for key in range(3))),
        lambda: writer.data.__setitem__(("x", 1), bad),
    ):
        with pytest.raises(SchemaError, match=r"column 'x', key 1:"):
            refuse()
        assert describe(writer) == before
    for values in ([GOOD, bad, GOOD], iter([GOOD, bad])):
        with pytest.raises(SchemaError, match=r"column 'x', key 7:"):
            column.extend(values)
        assert describe(writer) == before
    if what != "shape":  # samples of several shapes make a column of variable shape
        with pytest.raises(SchemaError, match=r"column 'fresh', key 1:"):
            writer.data["fresh"] = [GOOD, bad]
    assert describe(writer) == before
    assert writer.verify().ok


@pytest.mark.parametrize("bad", [True, False, np.True_, "1", 1.0, None, b"1", (1, 2), 1 << 63, -(1 << 63) - 1])
def test_a_bad_int_key_is_refused_and_leaves_no_trace(writer, bad):
    before = describe(writer)
    column = writer.data["x"]
    for refuse in (
        lambda: column.__setitem__(bad, GOOD),
        lambda: column.update({0: GOOD, bad: GOOD}) if bad is not False else column.update([(False, GOOD)]),
        lambda: column.update([(1, GOOD), (bad, GOOD)]),
    ):
        with pytest.raises(InvalidInputError, match="column 'x'"):
            refuse()
        assert describe(writer) == before
    with pytest.raises((SchemaError, SampleNotFoundError), match="column 'x'"):
        del column[bad]
    with pytest.raises((SchemaError, SampleNotFoundError), match="column 'x'"):
        column[bad]
    assert bad not in column
    assert describe(writer) == before


@pytest.mark.parametrize("bad", [1, True, 1.0, None, b"a", "k" * 1025])
def test_a_bad_str_key_is_refused_and_leaves_no_trace(writer, bad):
    before = describe(writer)
    column = writer.data["named"]
    for refuse in (
        lambda: column.__setitem__(bad, 1.0),
        lambda: column.update({"a": 7.0, bad: 1.0}),
        lambda: writer.data.__setitem__("fresh", {"a": 7.0, bad: 1.0}),
    ):
        with pytest.raises(InvalidInputError, match=r"column '(named|fresh)'"):
            refuse()
        assert describe(writer) == before
    with pytest.raises(SchemaError, match="str keys"):
        column.extend([1.0])
    assert bad not in column


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("text", b"bytes"),
        ("text", 5),
        ("text", None),
        ("raw", "text"),
        ("raw", [1]),
        ("raw", np.zeros(3)),
        ("flag", 1),
        ("flag", "True"),
        ("new", 1.5),
        ("new", True),
        ("new", 1 << 64),
        ("new", "1"),
        ("scan", np.zeros((2, 4), np.float32)),
        ("scan", np.zeros(3, np.float32)),
        ("scan", np.zeros((2, 3))),
    ],
)
def test_a_value_of_another_kind_is_refused_by_column_and_key(writer, name, bad):
    before = describe(writer)
    for refuse in (
        lambda: writer.data[name].__setitem__(1, bad),
        lambda: writer.data[name].update({1: bad}),
        lambda: writer.data.__setitem__(name, {0: writer.data[name][0], 1: bad}),
    ):
        with pytest.raises(SchemaError, match=f"column '{name}', key 1"):
            refuse()
        assert describe(writer) == before


@pytest.mark.parametrize(
    "bad",
    [
        5,
        "abc",
        b"abc",
        None,
        [],
        {},
        [None],
        [[1, 2]],
        OBJECTS,
        np.array(5),
        np.array(["a"]),
        {1: 1, "a": 2},
        {None: 1},
    ],
)
def test_a_value_that_makes_no_column_is_refused(writer, bad):
    before = describe(writer)
    with pytest.raises(SchemaError, match="column 'fresh'"):
        writer.data["fresh"] = bad
    assert describe(writer) == before
    with pytest.raises(ColumnNotFoundError):
        writer.data["fresh"]


@pytest.mark.parametrize("values", [np.zeros((2, 99), int), np.zeros((2, 100)), np.zeros(100, int), OBJECTS, 5, "ab"])
def test_a_bad_stacked_array_is_refused_whole(writer, values):
    before = describe(writer)
    for refuse in (lambda: writer.data["x"].extend(values), lambda: writer.data.__setitem__("x", values)):
        with pytest.raises(InvalidInputError, match="column 'x'"):
            refuse()
        assert describe(writer) == before


def test_an_iterator_that_raises_leaves_no_trace(writer):
    def fail():
        yield GOOD
        raise ZeroDivisionError

    before = describe(writer)
    for use in (
        lambda: writer.data["x"].extend(fail()),
        lambda: writer.data["x"].update((key, value) for key, value in enumerate(fail())),
        lambda: writer.data.__setitem__("x", fail()),
        lambda: writer.data.__setitem__("fresh", fail()),
    ):
        with pytest.raises(ZeroDivisionError):
            use()
        assert describe(writer) == before


@pytest.mark.parametrize(
    "schema",
    [
        {"dtype": "object"},
        {"dtype": "float99"},
        {"dtype": "datetime64"},
        {"dtype": "uint8", "shape": (-1,)},
        {"dtype": "uint8", "shape": (2.5,)},
        {"dtype": "uint8", "shape": (True,)},
        {"dtype": "uint8", "shape": "abc"},
        {"dtype": "uint8", "shape": (1,) * 33},
        {"dtype": "str", "shape": (3,)},
        {"dtype": "uint8", "keys": "float"},
        {"dtype": "uint8", "codec": "gzip"},
        {"dtype": "uint8", "attrs": {"a": object()}},
        {"dtype": "uint8", "attrs": {"a": "x" * (1 << 17)}},
    ],
    ids=lambda schema: "-".join(schema),
)
def test_a_bad_schema_is_refused(writer, schema):
    before = describe(writer)
    with pytest.raises(InvalidInputError):
        writer.data.create("fresh", **schema)
    assert describe(writer) == before


def test_an_empty_mapping_or_list_empties_an_existing_column(writer):
    for nothing in ({}, [], np.zeros((0, 100), int)):
        writer.data["x"] = nothing
        assert len(writer.data["x"]) == 0
        writer.data["x"].extend([GOOD])


def test_assigning_a_column_to_itself_or_from_itself_loses_nothing(writer):
    before = describe(writer)
    writer.data["x"] = writer.data["x"]
    writer.data["named"] = writer.data["named"]
    writer.data["new"] = (value for value in writer.data["new"].values())
    assert describe(writer) == before
    writer.data["new"] = (np.int64(value + 1) for value in writer.data["new"].values())
    assert writer.data["new"][:].tolist() == [2, 3, 4]


def test_a_column_assigned_to_a_new_name_is_a_copy_of_schema_keys_and_samples(writer):
    for name in ("x", "scan", "text", "named"):
        source = writer.data[name]
        writer.data["copy"] = source
        copy = writer.data["copy"]
        assert (copy.dtype, copy.shape, copy.key_type, copy.root) == (
            source.dtype,
            source.shape,
            source.key_type,
            source.root,
        )
        del writer.data["copy"]


def test_arrays_given_out_are_the_callers_own(writer):
    writer.commit("second")
    for column in (writer.data["x"], StockRoom(writer.path).data["x"]):
        for change in (
            lambda c=column: c[0].fill(-1),
            lambda c=column: c[[0, 1]].fill(-1),
            lambda c=column: c[:2].fill(-1),
            lambda c=column: c.take([0]).fill(-1),
            lambda c=column: next(iter(c.values())).fill(-1),
        ):
            change()
            assert column[0].tolist() == list(range(100))
        with pytest.raises(ValueError, match="read-only"):
            column.view(0)[0] = -1


def test_a_sample_changed_by_the_caller_after_it_was_given_stays_as_it_was(stock):
    with stock.enable_write() as writer:
        given, batch = np.zeros(100), np.zeros((600, 100))
        writer.data["x"] = {0: given}
        given.fill(1)
        writer.data["y"] = batch
        batch.fill(1)
        data = bytearray(b"before" * 20)
        writer.data["z"] = [data]
        data[:6] = b"after!"
    assert not stock.data["x"][0].any()
    assert not stock.data["y"][:].any()
    assert stock.data["z"][0].startswith(b"before")


# -- the same content has the same root


def write_in_some_order(path, samples, seed):
    order = random.Random(seed)
    keys = list(samples)
    order.shuffle(keys)
    with StockRoom.init(path) as stock:
        with stock.enable_write("schema") as writer:
            writer.data.create("x", dtype="int64", shape=(7,), keys="int")
        while keys:
            count = order.randint(1, 1500)
            batch, keys = keys[:count], keys[count:]
            with stock.enable_write("part") as writer:
                column = writer.data["x"]
                for key in batch:
                    column[key] = samples[key] + 1  # to be changed below
                if order.random() < 0.5:
                    writer.flush()
                column.update({key: samples[key] for key in batch})
                extra = -order.randint(1, 1000)
                column[extra] = samples[0]
                del column[extra]
        return stock.data["x"].root, list(stock.data["x"].items())[:3]


def test_the_order_of_writing_leaves_no_mark_on_the_root(tmp_path):
    samples = {key: np.full(7, key) for key in range(0, 9000, 3)}
    roots = {write_in_some_order(tmp_path / str(seed), samples, seed)[0] for seed in range(4)}
    with StockRoom.init(tmp_path / "bulk") as stock, stock.enable_write() as writer:
        writer.data["x"] = samples
    roots.add(stock_root(tmp_path / "bulk"))
    assert len(roots) == 1


def stock_root(path):
    with StockRoom(path) as stock:
        return stock.data["x"].root


@pytest.mark.parametrize("codec", ["raw", "lz4", "zstd", "blosc"])
def test_the_codec_leaves_no_mark_on_the_root(stock, codec):
    samples = np.arange(50_000, dtype=np.int32).reshape(50, 1000)
    with stock.enable_write() as writer:
        writer.data["x"] = samples
        writer.data.create("y", dtype="int32", shape=1000, codec=codec).extend(samples)
    assert stock.data["y"].root == stock.data["x"].root
    assert np.array_equal(stock.data["y"][:], samples)


# -- short digests


def test_a_prefix_means_the_one_commit_it_fits(stock):
    with stock.enable_write("first") as writer:
        writer.data["x"] = [1]
    first = stock.commit_id
    with stock.enable_write("second") as writer:
        writer.data["x"] = [2]
    for digits in range(4, 65):
        for prefix in (first[:digits], first[:digits].upper()):
            if not stock.commit_id.startswith(prefix.lower()):
                assert next(stock.log(prefix)).id == first
    for digits in range(4):
        with pytest.raises(RefNotFoundError):
            stock.log(first[:digits])
    with pytest.raises(RefNotFoundError):
        stock.log(first + "0")
    with StockRoom(stock.path, ref=first[:12]) as reader:
        assert reader.data["x", 0] == 1


def test_an_ambiguous_prefix_lists_its_candidates(stock):
    writer = StockRoom(stock.path, enable_write=True)
    by_prefix: dict[str, list[str]] = {}
    number = 0
    while not any(len(ids) > 1 for ids in by_prefix.values()):  # some 300 commits: 4 digits are 65,536
        writer.data["x"] = [number]
        commit = writer.commit(f"number {number}")
        by_prefix.setdefault(commit[:4], []).append(commit)
        number += 1
    writer.close()
    prefix, candidates = next((prefix, ids) for prefix, ids in by_prefix.items() if len(ids) > 1)
    with pytest.raises(AmbiguousRefError) as caught:
        stock.log(prefix)
    assert set(caught.value.candidates) == set(candidates)
    for commit in candidates:
        assert commit in str(caught.value)
        assert next(stock.log(commit[:20])).id == commit
    stock.create_branch(prefix, at=candidates[0])  # a name goes before a digest
    assert next(stock.log(prefix)).id == candidates[0]


def test_a_key_that_is_not_there_is_named(stock):
    with stock.enable_write() as writer:
        writer.data["x"] = [1]
        writer.data["images"] = [2]
    for missing in (lambda: stock.data["x", 5], lambda: stock.data["x"][[0, 5]], lambda: stock.data["x"].digest(5)):
        with pytest.raises(SampleNotFoundError, match=r"column 'x'.*key 5 "):
            missing()
    assert "x" * 5000 not in stock.data
    assert stock.data.get("x" * 5000) is None
    with pytest.raises(ColumnNotFoundError, match="did you mean 'images'"):
        stock.data["image"]
