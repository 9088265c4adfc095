"""An iteration yields the pairs of its start, even if the column is written meanwhile."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stockroom import ClosedError, StockRoom, make_torch_dataset

SAMPLES = {  # what a column is made with, and the sample that belongs to a key
    "inline": ({"dtype": "int64"}, lambda n: np.array(n)),
    "chunk": ({"dtype": "int32", "shape": (30,)}, lambda n: np.full(30, n, np.int32)),
    "ragged": ({"dtype": "int16", "shape": (None,)}, lambda n: np.full(n % 7 * 9, n, np.int16)),
    "text": ({"dtype": "str"}, lambda n: f"number {n} " * 5),
}

edits = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "flush", "commit", "remove", "widen"]), st.integers(-40, 400)),
    max_size=12,
)


def plain(sample):
    return sample if isinstance(sample, str) else sample.tolist()


def edit(stock, name, make, step, number):
    """Do one thing to the column while it is iterated; what another step has made impossible is left out."""
    if step == "flush":
        stock.flush()
    elif step == "commit" and stock.status().changes:
        stock.commit("meanwhile")
    elif name not in stock.data:
        return
    elif step == "put":
        stock.data[name, number] = make(number + 1000)
    elif step == "delete":
        stock.data[name].update({number: make(number)})
        del stock.data[name][number]
    elif step == "remove":
        del stock.data[name]
    elif step == "widen" and name == "chunk":
        stock.data.widen(name, (None,))


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(count=st.integers(1, 300), steps=edits, every=st.integers(1, 40), is_flushed=st.booleans())
def test_an_iteration_gives_the_pairs_that_were_there_at_its_start(name, count, steps, every, is_flushed):
    schema, make = SAMPLES[name]
    folder = Path(tempfile.mkdtemp())
    try:
        StockRoom.init(folder).close()
        with StockRoom(folder, enable_write=True) as stock:
            stock.data.create(name, **schema).update((key, make(key)) for key in range(count))
            if is_flushed:
                stock.flush()
            column, waiting = stock.data[name], list(steps)
            keys, values, items = iter(column), iter(column.values()), iter(column.items())
            dataset = make_torch_dataset([column], keys=list(range(0, count, 3)))
            for key in range(count):
                if key % every == every - 1 and waiting:
                    edit(stock, name, make, *waiting.pop())
                assert next(keys) == key
                assert plain(next(values)) == plain(make(key))
                found, sample = next(items)
                assert (found, plain(sample)) == (key, plain(make(key)))
            assert [next(rest, None) for rest in (keys, values, items)] == [None] * 3
            assert [plain(sample) for (sample,) in dataset] == [plain(make(key)) for key in range(0, count, 3)]
    finally:
        shutil.rmtree(folder)


def test_what_was_dropped_is_not_read_any_more(stock):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"] = [np.full(30, n) for n in range(600)]
        writer.model["net"] = {"w": np.arange(1000)}
        column, state = writer.data["x"], writer.model["net"]
        items, dataset = iter(column.items()), make_torch_dataset([column])
        next(items)
        writer.reset(undoable=False)
        for read in (lambda: list(items), lambda: dataset[3], lambda: state["w"]):
            with pytest.raises(ClosedError, match="dropped"):
                read()
