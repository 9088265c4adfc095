"""The experiment shelf's values: a dict that is versioned, types and all."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

from stockroom import (
    ClosedError,
    InvalidNameError,
    ReadOnlyError,
    SchemaError,
    StockRoom,
    ValueNotFoundError,
)

VALUES = {
    "int": 3,
    "big": -(1 << 80),
    "float": 0.1,
    "negative zero": -0.0,
    "inf": -math.inf,
    "true": True,
    "none": None,
    "str": "ä\n\0",
    "empty": "",
    "bytes": b"\0\xff",
    "complex": 1 - 2j,
    "list": [1, "two", None, [3.0]],
    "tuple": (1, (2,), []),
    "nested": {"optimizer": {"lr": 0.1, "betas": (0.9, 0.999)}, 3: {}, "": b""},
    "train/seed": 7,
}


@pytest.fixture(params=["pinned", "staged"])
def opened(request: pytest.FixtureRequest, stock: StockRoom) -> Iterator[StockRoom]:
    """A handle whose shelf holds `VALUES`, read from a commit or from what is staged."""
    writer = StockRoom(stock.path, enable_write=True)
    writer.experiment.update(VALUES)
    if request.param == "pinned":
        writer.commit("values")
        stock.refresh()
        writer.close()
        yield stock
    else:
        yield writer
        writer.close()


def test_values_come_back_with_their_types(opened: StockRoom) -> None:
    for key, value in VALUES.items():
        found = opened.experiment[key]
        assert repr(found) == repr(value)
        assert type(found) is type(value)


def test_the_shelf_is_a_dict_in_order_of_name(opened: StockRoom) -> None:
    shelf = opened.experiment
    assert list(shelf) == sorted(VALUES)
    assert len(shelf) == len(VALUES)
    assert dict(shelf.items()) == VALUES
    assert "int" in shelf
    assert "nope" not in shelf
    assert 3 not in shelf
    assert shelf.get("nope", 5) == 5
    assert repr(shelf).startswith("ExperimentShelf(big, bytes, ")


@pytest.mark.parametrize("name", ["float16", "float32", "int8", "uint64", "bool", "complex64", "datetime64[s]"])
def test_numpy_scalars_keep_their_dtype(stock: StockRoom, name: str) -> None:
    scalar = np.ones(1, name)[0]
    with stock.enable_write():
        stock.experiment["x"] = scalar
        stock.experiment["nested"] = {"x": [scalar]}
    for found in (stock.experiment["x"], stock.experiment["nested"]["x"][0]):
        assert type(found) is type(scalar)
        assert found == scalar


def test_bool_stays_bool_and_one_stays_one(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment.update(flag=True, one=1, real=1.0)
    assert [type(value) for value in stock.experiment.values()] == [bool, int, float]


def test_a_nan_keeps_its_bits(stock: StockRoom) -> None:
    odd = np.array([0x7FF8_0000_0000_1234], np.uint64).view(np.float64)[0]
    with stock.enable_write():
        stock.experiment["nan"] = float(odd)
        stock.experiment["odd"] = odd
    assert np.float64(stock.experiment["nan"]).tobytes() == np.float64(float(odd)).tobytes()
    assert stock.experiment["odd"].tobytes() == odd.tobytes()


def test_arrays_are_the_callers_own(stock: StockRoom) -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)
    with stock.enable_write():
        stock.experiment["small"] = array
        stock.experiment["large"] = np.arange(1 << 20)
        array[:] = 0
        stock.experiment["small"][:] = 1
    small = stock.experiment["small"]
    assert small.tolist() == np.arange(12).reshape(3, 4).tolist()
    small[:] = 5
    large = stock.experiment["large"]
    large[:] = 5
    assert stock.experiment["small"][2, 3] == 11
    assert stock.experiment["large"][-1] == (1 << 20) - 1


def test_a_bfloat16_array_comes_back_bit_for_bit(stock: StockRoom) -> None:
    array = np.array([0.1, -2.5, np.nan], ml_dtypes.bfloat16)
    with stock.enable_write():
        stock.experiment["x"] = array
    assert stock.experiment["x"].dtype == array.dtype
    assert stock.experiment["x"].tobytes() == array.tobytes()


def test_tensors_come_back_as_tensors_or_as_arrays(stock: StockRoom) -> None:
    torch = pytest.importorskip("torch")
    with stock.enable_write():
        stock.experiment["weights"] = {"w": torch.arange(3, dtype=torch.bfloat16), "step": torch.tensor(4)}
    found = stock.experiment["weights"]
    assert found["w"].dtype is torch.bfloat16
    assert found["step"].shape == ()
    assert stock.experiment.load("weights", as_numpy=True)["w"].tolist() == [0, 1, 2]


def test_numpy_values_need_no_torch(stock: StockRoom) -> None:
    program = """
import sys
sys.modules["torch"] = None
import numpy as np
from stockroom import StockRoom
with StockRoom() as stock:
    with stock.enable_write():
        stock.experiment["x"] = {"a": np.arange(3), "b": [1.5, None, b"x"], "c": np.float32(2)}
        stock.experiment.log({"loss": np.float32(0.5)}, 0)
    assert stock.experiment["x"]["a"].tolist() == [0, 1, 2]
    assert stock.experiment.table().filter("loss == 0.5")[0].values["x.c"] == 2
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=stock.path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("value", [object(), {1, 2}, {"a": [object()]}, {("a",): 1}, [np.array(["x"])]])
def test_an_update_with_one_value_that_cannot_be_kept_changes_nothing(stock: StockRoom, value: object) -> None:
    with stock.enable_write():
        stock.experiment["lr"] = 0.1
    with stock.enable_write():
        with pytest.raises(SchemaError, match="value 'bad'"):
            stock.experiment.update({"lr": 0.2, "new": 1, "bad": value})
        assert dict(stock.experiment) == {"lr": 0.1}
    assert len(list(stock.log())) == 1


@pytest.mark.parametrize("name", ["", " x", "a\nb", "\ud800", "x" * 201, 3])
def test_a_name_that_cannot_be_is_refused(stock: StockRoom, name: str) -> None:
    with stock.enable_write():
        with pytest.raises(InvalidNameError):
            stock.experiment[name] = 1
        with pytest.raises(InvalidNameError):
            stock.experiment.log({name: 1.0}, 0)
        assert len(stock.experiment) == 0
        assert len(stock.experiment.metrics) == 0


def test_values_can_be_deleted_popped_and_cleared(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment.update(VALUES)
    with stock.enable_write():
        shelf = stock.experiment
        del shelf["int"]
        assert shelf.pop("float") == 0.1
        assert shelf.pop("nope", 3) == 3
        assert shelf.setdefault("int", 9) == 9
        with pytest.raises(ValueNotFoundError):
            del shelf["float"]
    assert stock.experiment["int"] == 9
    assert "float" not in stock.experiment
    with stock.enable_write():
        stock.experiment.clear()
    assert list(stock.experiment) == []


def test_a_missing_value_is_a_key_error_that_names_near_ones(opened: StockRoom) -> None:
    with pytest.raises(KeyError, match="did you mean 'float'"):
        opened.experiment["flaot"]
    with pytest.raises(ValueNotFoundError):
        opened.experiment[3]  # type: ignore[index]


def test_a_metric_asked_for_as_a_value_says_where_it_is(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment.log({"loss": 1.0}, 0)
        stock.experiment["lr"] = 0.1
        stock.experiment.artifact("log.txt", b"")
        with pytest.raises(ValueNotFoundError, match=r"use \.metrics\['loss'\]"):
            stock.experiment["loss"]
    with pytest.raises(ValueNotFoundError, match=r"use \.metrics\['loss'\]"):
        stock.experiment["loss"]
    with pytest.raises(ValueNotFoundError, match=r"use \.artifacts\['log.txt'\]"):
        stock.experiment["log.txt"]
    with pytest.raises(ValueNotFoundError, match="'lr' is a value"):
        stock.experiment.metrics["lr"]


def test_a_reader_refuses_to_write(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment["lr"] = 0.1
        stock.experiment.log({"loss": 1}, 0)
        stock.experiment.artifact("a", b"x")
    shelf = stock.experiment
    for write in (
        lambda: shelf.update(lr=1),
        lambda: shelf.__setitem__("lr", 1),
        lambda: shelf.__delitem__("lr"),
        lambda: shelf.log({"loss": 2}, 1),
        lambda: shelf.artifact("a", b"y"),
        lambda: shelf.metrics.__delitem__("loss"),
        lambda: shelf.artifacts.__delitem__("a"),
    ):
        with pytest.raises(ReadOnlyError):
            write()
    assert dict(shelf) == {"lr": 0.1}


def test_old_handles_stay_as_they_were(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment["lr"] = 0.1
        stock.experiment.log({"loss": 1}, 0)
        stock.experiment.artifact("a", b"old")
    with StockRoom(stock.path) as old:
        artifact = old.experiment.artifacts["a"]
        with stock.enable_write():
            stock.experiment["lr"] = 0.2
            stock.experiment.log({"loss": 2}, 0)
            stock.experiment.artifact("a", b"new")
        assert old.experiment["lr"] == 0.1
        assert old.experiment.metrics["loss"].values.tolist() == [1]
        assert (artifact.read(), old.experiment.artifacts["a"].read()) == (b"old", b"old")
    with StockRoom(stock.path, ref="HEAD~1") as pinned:
        assert pinned.experiment["lr"] == 0.1
    assert stock.experiment["lr"] == 0.2


def test_a_failed_write_block_leaves_nothing(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment["lr"] = 0.1

    def fail() -> None:
        with stock.enable_write():
            stock.experiment["lr"] = 0.2
            stock.experiment.log({"loss": 2}, 0)
            stock.flush()
            stock.experiment.log({"loss": 3}, 1)
            stock.experiment.artifact("a", b"x" * 100)
            raise RuntimeError("training failed")

    with pytest.raises(RuntimeError, match="training failed"):
        fail()
    assert stock.experiment["lr"] == 0.1
    assert (len(stock.experiment.metrics), len(stock.experiment.artifacts)) == (0, 0)
    assert stock.status().clean
    assert stock.verify().ok


def test_setting_the_same_again_makes_no_commit(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment.update(VALUES)
    with stock.enable_write():
        stock.experiment.update(VALUES)
    assert len(list(stock.log())) == 1


def test_a_closed_handle_closes_its_shelf(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment["lr"] = 0.1
        stock.experiment.log({"loss": 1}, 0)
        stock.experiment.artifact("a", b"x")
    shelf, metrics, artifact = stock.experiment, stock.experiment.metrics, stock.experiment.artifacts["a"]
    stock.close()
    for read in (
        lambda: shelf["lr"],
        lambda: list(shelf),
        lambda: metrics["loss"],
        lambda: artifact.read(),
        lambda: shelf.table(),
        lambda: stock.experiment,
    ):
        with pytest.raises(ClosedError):
            read()


def test_a_value_without_a_small_structure_is_kept_too(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment["nothing"] = [None] * 300_000
    assert stock.experiment["nothing"] == [None] * 300_000


def test_one_commit_ties_data_model_and_experiment_together(stock: StockRoom) -> None:
    with stock.enable_write("Train"):
        stock.data["label"] = np.arange(3)
        stock.model["net"] = {"w": np.ones(3, np.float32)}
        stock.experiment["lr"] = 0.1
        stock.experiment.log({"loss": 1.0}, 0)
        stock.experiment.artifact("log.txt", b"done")
    with stock.enable_write("Train on"):
        stock.experiment["lr"] = 0.2
    assert list(stock.diff("HEAD~1", "HEAD")) == ["experiment/lr"]
    assert stock.verify().ok
