"""Frozen records of states, version 1: they must be read for ever, and what is saved today must become the same bytes.

`data/state_v1` holds one object a file; `data/model_v1` a remote with a model, a value, a metric and an artifact, as
`fill` made them. A new version adds folders beside these. If a test here fails, the code is wrong, not the files.
"""

from __future__ import annotations

import shutil
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit.states import assert_same, assert_tied_as

from stockroom import StockRoom
from stockroom.content.column import decode_column
from stockroom.content.snapshot import decode_record
from stockroom.content.state import decode_state, decode_value
from stockroom.content.structure import decode_structure, encode_structure
from stockroom.digest import compute_digest
from stockroom.shelves.model.flatten import flatten

DATA = Path(__file__).parent / "data"
RECORDS = DATA / "state_v1"
REMOTE = DATA / "model_v1"
COMMIT = "ba92a952b3a5b0d1908f04bd9fa0a6bd5c59cd7e9856d800c552c2e6b7e59ecc"

FLAT = torch.arange(24, dtype=torch.float32)
WEIGHT = torch.arange(40, dtype=torch.float32).to(torch.bfloat16).view(5, 8)


def make_state() -> Any:
    """Every kind of node, and keys that have to be escaped."""
    weights: Any = OrderedDict(
        {"fc.weight": WEIGHT, "fc.tied": WEIGHT, "fc.bias": torch.tensor([0.5, -0.0, float("nan")])}
    )
    weights._metadata = OrderedDict({"": {"version": 1}, "fc": {"version": 2, "flags": (True, [None, 0.5, "x"])}})
    return {
        "weights": weights,
        "views": [FLAT[:8], FLAT[4:].view(4, 5), FLAT[20:], torch.arange(3, dtype=torch.int8).expand(4, 3)],
        "odd": {"": 0, "a/b~c": 1, "-7": 2, -7: 3, "\ud800": {"\0": FLAT[:8]}, 1 << 62: None},
        "scalars": (True, -(1 << 70), 0.1, 1 - 2j, "grüße \ud800", b"\0\xff", None, ()),
        "numpy": [
            np.float16(1.5),
            np.arange(12, dtype=">i4").reshape(3, 4),
            np.array("2026-07-01", "M8[D]"),
            np.zeros((2, 0)),
        ],
        "dtypes": {
            str(dtype): torch.arange(16, dtype=torch.uint8).view(dtype)
            for dtype in (torch.complex32, torch.float8_e4m3fn, torch.float8_e8m0fnu, torch.uint16)
        },
        "count": Counter("abca"),
        "large": np.arange(1_100_000, dtype=np.uint32) % 1000,
    }


def make_value() -> Any:
    """A small nested value, as it stands whole in its record."""
    return {
        "lr": 0.1,
        "layers": [64, 32],
        "augment": True,
        "note": None,
        "name": "ä",
        "scale": np.float32(2),
        "w": WEIGHT,
    }


def fill(stock: StockRoom) -> None:
    with stock.enable_write("First"):
        stock.model.save("net", make_state(), epoch=1, note="first")
        stock.experiment["hyper"] = make_value()
        stock.experiment["large"] = np.arange(5000)
        for step in range(30):
            stock.experiment.log({"loss": 1 / (1 + step), "accuracy": step / 30}, step=step)
        stock.experiment.artifact("notes/read me.txt", b"words " * 20, media_type="text/plain")
    with stock.enable_write("Second"):
        stock.model.save("net", make_state() | {"count": Counter("b")}, epoch=2)
        stock.experiment.log({"loss": float("inf")}, step=3)


def check_content(stock: StockRoom) -> None:
    loaded, expected = stock.model["net"].load(), make_state() | {"count": Counter("b")}
    assert_same(loaded, expected)
    assert_tied_as(loaded, expected)
    assert loaded["weights"]._metadata == make_state()["weights"]._metadata
    assert stock.model["net"].metadata == {"epoch": 2}
    assert_same(stock.experiment["hyper"], make_value())
    assert_same(stock.experiment["large"], np.arange(5000))
    steps, values = stock.experiment.metrics["loss"]
    assert steps.tolist() == list(range(30))
    assert values.tolist() == [float("inf") if step == 3 else 1 / (1 + step) for step in range(30)]
    assert stock.experiment.artifacts["notes/read me.txt"].read() == b"words " * 20


def find_objects(stock: StockRoom) -> dict[str, bytes]:
    """The canonical bytes of what is frozen, as the second commit of `fill` has them."""
    snapshot = stock._pin.snapshot
    digests = {
        name: snapshot.find_digest(path)
        for name, path in {"state": "model/net", "value": "experiment/hyper", "series": "metric/loss"}.items()
    }
    objects = {name: snapshot.nodes.get_object(digest) for name, digest in digests.items() if digest is not None}
    structure = decode_state(objects["state"], where="here").structure
    return objects | {"structure": snapshot.nodes.get_object(structure)}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def written_today(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with StockRoom.init(tmp_path_factory.mktemp("today") / "repo") as stock:
        fill(stock)
        check_content(stock)
        return find_objects(stock)


@pytest.mark.parametrize("name", ["structure", "state", "value", "series"])
def test_a_record_is_written_today_as_it_was_then(written_today: dict[str, bytes], name: str) -> None:
    assert written_today[name] == (RECORDS / name).read_bytes()


def test_a_frozen_structure_is_still_read() -> None:
    frozen = (RECORDS / "structure").read_bytes()
    structure = decode_structure(frozen, where="frozen")
    expected = flatten(make_state() | {"count": Counter("b")}, where="here").structure
    assert structure.top == expected
    assert encode_structure(structure.top) == frozen
    assert list(structure.leaves)[:4] == ["weights/fc.weight", "weights/fc.tied", "weights/fc.bias", "views/0"]


def test_a_frozen_state_record_is_still_read() -> None:
    frozen = (RECORDS / "state").read_bytes()
    record = decode_state(frozen, where="frozen")
    assert record.metadata == {"epoch": 2}
    assert record.structure == compute_digest((RECORDS / "structure").read_bytes())
    assert record.root.hex() == "bf1c608ee85607a6d100987d149596ccc2847a58e9c88f2256d9ce11eeb7d68a"
    assert record.encode() == frozen
    assert decode_record(frozen, where="frozen") == record


def test_a_frozen_value_record_is_still_read() -> None:
    frozen = (RECORDS / "value").read_bytes()
    record = decode_value(frozen, where="frozen")
    payloads = {path: data for path, (_, data) in record.list_leaves().items()}
    assert payloads["lr"] == np.float64(0.1).tobytes()
    assert payloads["layers/1"] == b"\x20"
    assert payloads["name"] == "ä".encode()
    assert payloads["w"] == WEIGHT.view(torch.int16).numpy().tobytes()
    assert "note" not in payloads  # it stands in the structure
    assert record.encode() == frozen
    assert decode_record(frozen, where="frozen") == record


def test_a_frozen_series_is_still_read() -> None:
    frozen = (RECORDS / "series").read_bytes()
    record = decode_column(frozen, where="frozen")
    assert (record.dtype, record.shape, record.key_type, record.attrs) == ("float64", (), "int", {})
    assert record.root.hex() == "0b786d0f5bedd91b4aff3fc79e8e155e42512442977dff15a80e079015b5af5c"
    assert record.encode() == frozen
    assert decode_record(frozen, where="frozen") == record


@pytest.mark.parametrize("metadata_only", [True, False])
def test_a_remote_with_a_model_and_an_experiment_of_version_1_is_cloned(tmp_path: Path, metadata_only: bool) -> None:
    shutil.copytree(REMOTE, tmp_path / "remote")
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone", metadata_only) as stock:
        assert stock.commit_id == COMMIT
        assert [commit.message for commit in stock.log()] == ["Second", "First"]
        check_content(stock)
        assert find_objects(stock) == {file.name: file.read_bytes() for file in RECORDS.iterdir()}
        assert stock.verify().ok
        with StockRoom(stock.path, ref="HEAD~1") as first:
            assert first.model["net"]["count"].load() == Counter("abca")
            assert first.experiment.metrics["loss"][1][3] == 0.25
