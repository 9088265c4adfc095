"""Safetensors files: what is written others read, what others wrote is read, with every dtype and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from stockroom import CorruptionError, InvalidInputError, State, StockRoom
from stockroom.interop import read_model_file, write_safetensors
from stockroom.interop.safetensors_library import DTYPES

FLAT = {name: torch.arange(1, 7).reshape(2, 3).to(getattr(torch, name)) for name in DTYPES.values() if "x2" not in name}


def save(stock: StockRoom, state: object, **metadata: object) -> State:
    with stock.enable_write():
        stock.model.save("m", state, **metadata)
    return stock.model["m"]


def read_header(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    header: dict[str, object] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


def bits(tensor: torch.Tensor) -> tuple[torch.dtype, tuple[int, ...], bytes]:
    return tensor.dtype, tuple(tensor.shape), tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def test_every_dtype_comes_out_bit_for_bit(stock: StockRoom, tmp_path: Path) -> None:
    to = tmp_path / "m.safetensors"
    report = write_safetensors(save(stock, FLAT), to)
    assert (report.tensors, report.values) == (len(FLAT), 0)
    loaded = safetensors.torch.load_file(to)
    assert {name: bits(tensor) for name, tensor in loaded.items()} == {name: bits(t) for name, t in FLAT.items()}


def test_every_dtype_comes_in_bit_for_bit(stock: StockRoom, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file(FLAT, path, metadata={"format": "pt", "who": "ä"})
    found = read_model_file(path)
    assert found.metadata == {"format": "pt", "who": "ä"}
    loaded = save(stock, found.state).load()
    assert {name: bits(tensor) for name, tensor in loaded.items()} == {name: bits(t) for name, t in FLAT.items()}


def test_four_bit_floats_keep_their_bytes_and_their_shape(stock: StockRoom, tmp_path: Path) -> None:
    packed = torch.arange(6, dtype=torch.uint8).reshape(3, 2).view(torch.float4_e2m1fn_x2)
    path, again = tmp_path / "m.safetensors", tmp_path / "again.safetensors"
    safetensors.torch.save_file({"w": packed}, path)
    state = save(stock, read_model_file(path).state)
    assert bits(state["w"].view(torch.uint8)) == bits(packed.view(torch.uint8))
    write_safetensors(state, again)
    assert read_header(again)["w"] == read_header(path)["w"] == {"dtype": "F4", "shape": [3, 4], "data_offsets": [0, 6]}


def test_tensors_of_no_elements_and_of_no_axes_come_and_go(stock: StockRoom, tmp_path: Path) -> None:
    to = tmp_path / "m.safetensors"
    state = {"none": torch.empty(0, 3), "one": torch.tensor(1.5), "scalar": np.float32(2)}
    write_safetensors(save(stock, state), to)
    found = safetensors.numpy.load_file(to)
    assert {name: array.shape for name, array in found.items()} == {"none": (0, 3), "one": (), "scalar": ()}
    assert (float(found["one"]), float(found["scalar"])) == (1.5, 2.0)
    assert save(stock, read_model_file(to).state)["none"].shape == (0, 3)


def test_tied_and_overlapping_tensors_are_written_under_each_name(stock: StockRoom, tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"a": base, "tied": base, "turned": base.T, "row": base[1], "wide": torch.ones(1).expand(4)}
    to = tmp_path / "m.safetensors"
    write_safetensors(save(stock, state), to)
    loaded = safetensors.torch.load_file(to)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert len(loaded) == 5


def test_a_nested_state_is_written_flat_and_its_values_come_back(stock: StockRoom, tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    values = {"epoch": 3, "flag": True, "nan": float("nan"), "z": 1j, "raw": b"\0\xff", "text": "ä\ud800", "no": None}
    state = {"model": net.state_dict(), "optimizer": optimiser.state_dict(), "values": values}
    to = tmp_path / "m.safetensors"
    report = write_safetensors(save(stock, state, acc=0.5, tags=["a"], note="n"), to)
    loaded = safetensors.torch.load_file(to)
    assert torch.equal(loaded["model.weight"], net.weight)
    assert torch.equal(loaded["optimizer.state.0.exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])
    found = read_model_file(to)
    assert found.metadata == {"acc": 0.5, "tags": ["a"], "note": "n", "format": "pt"}
    again = {name: value for name, value in found.state.items() if name not in loaded}
    assert len(again) == report.values
    assert repr(again["values.nan"]) == "nan"
    assert {name: again[f"values.{name}"] for name in values if name != "nan"} == {
        name: value for name, value in values.items() if name != "nan"
    }
    assert again["optimizer.param_groups.0.lr"] == 0.001


def test_tensors_only_leaves_no_notes(stock: StockRoom, tmp_path: Path) -> None:
    to = tmp_path / "m.safetensors"
    state = save(stock, {"w": np.ones(2), "epoch": 3, "no": None})
    assert write_safetensors(state, to, tensors_only=True).values == 0
    with safetensors.safe_open(to, "np") as opened:
        assert (list(opened.keys()), opened.metadata()) == (["w"], None)


def test_a_part_of_a_model_is_written_under_its_own_names(stock: StockRoom, tmp_path: Path) -> None:
    to = tmp_path / "m.safetensors"
    state = save(stock, {"model": {"w": np.ones(2)}, "layers": [{"w": np.zeros(3)}]})
    write_safetensors(state.at("layers"), to)
    assert {name: array.shape for name, array in safetensors.numpy.load_file(to).items()} == {"0.w": (3,)}


def test_a_bare_tensor_is_called_as_its_model(stock: StockRoom, tmp_path: Path) -> None:
    to = tmp_path / "x.safetensors"
    write_safetensors(save(stock, np.arange(3)), to)
    assert safetensors.numpy.load_file(to)["m"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("key", ["a/b", "a~b", "", "7", "weiß ✓", 'quo"te', "new\nline", "__metadata"])
def test_names_with_odd_characters_come_and_go(key: str, stock: StockRoom, tmp_path: Path) -> None:
    to = tmp_path / "m.safetensors"
    write_safetensors(save(stock, {"outer": {key: np.arange(2)}}), to)
    assert list(safetensors.numpy.load_file(to)) == [f"outer.{key}"]
    assert save(stock, read_model_file(to).state)[f"outer.{key}"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"w": np.ones(2, complex)}, "complex128, the dtype of 'w'"),
        ({"w": np.array(["2020"], "datetime64[D]")}, r"datetime64\[D\]"),
        ({"a.b": np.ones(1), "a": {"b": np.ones(1)}}, "'a.b' and 'a/b' would both"),
        ({"__metadata__": np.ones(1)}, "__metadata__"),
        ({"\ud800": np.ones(1)}, "cannot hold a tensor named"),
    ],
)
def test_what_such_a_file_cannot_hold_is_refused_and_nothing_is_written(
    state: object, words: str, stock: StockRoom, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(InvalidInputError, match=words):
        write_safetensors(save(stock, state), folder / "m.safetensors")
    assert list(folder.iterdir()) == []


def test_a_file_that_is_there_stays_unless_it_may_be_replaced(stock: StockRoom, tmp_path: Path) -> None:
    to = tmp_path / "m.safetensors"
    to.write_bytes(b"mine")
    state = save(stock, {"w": np.ones(2)})
    with pytest.raises(InvalidInputError, match="already exists"):
        write_safetensors(state, to)
    assert to.read_bytes() == b"mine"
    write_safetensors(state, to, overwrite=True)
    (tmp_path / "other").touch()
    assert to.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert list(safetensors.numpy.load_file(to)) == ["w"]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_notes_of_others_under_our_key_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for notes in (
        "7",
        "{",
        '{"values": {"v": {"what": 1}}, "json": []}',
        '{"values": {}, "json": ["gone"]}',
        "[" * 9999,
    ):
        safetensors.numpy.save_file({"w": np.ones(1)}, path, metadata={"stockroom.export": notes})
        found = read_model_file(path)
        assert (list(found.state), found.metadata) == (["w"], {"stockroom.export": notes})


def test_notes_never_take_the_place_of_a_tensor(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    notes = json.dumps({"values": {"w": 1, "v": 2}, "json": []})
    safetensors.numpy.save_file({"w": np.ones(1)}, path, metadata={"stockroom.export": notes})
    state = read_model_file(path).state
    assert (state["w"].shape, state["v"]) == ((1,), 2)


def test_a_torn_or_mutated_file_is_refused_or_read_but_never_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"w": np.ones((3, 4)), "b": np.ones(2, "i2")}, path, metadata={"k": "v"})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[int(rng.integers(8, 150))] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        try:
            read_model_file(path)
        except (CorruptionError, InvalidInputError):
            refused += 1
    assert refused > 100
    for length in (0, 4, 8, 50, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptionError, match=r"m\.safetensors"):
            read_model_file(path)


def test_what_is_no_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        read_model_file(tmp_path / "gone.safetensors")
    with pytest.raises(InvalidInputError, match=r"file ending in \.safetensors, \.pt"):
        read_model_file(tmp_path / "model.onnx")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(InvalidInputError, match="found a folder"):
        read_model_file(tmp_path / "folder.pt")


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from pathlib import Path
import ml_dtypes, numpy as np
from stockroom import StockRoom, StockroomError
from stockroom.interop import read_model_file, write_safetensors
folder = Path(sys.argv[2])
try:
    if sys.argv[3:]:
        read_model_file(Path(sys.argv[3]))
    with StockRoom.init(folder) as stock:
        with stock.enable_write():
            stock.model["a"] = {"b": np.arange(3).astype(ml_dtypes.bfloat16), "f": np.ones(2, ml_dtypes.float8_e5m2)}
        write_safetensors(stock.model["a"], folder / "a.safetensors")
        with stock.enable_write():
            stock.model["c"] = read_model_file(folder / "a.safetensors").state
        loaded = stock.model["c"].load(as_numpy=True)
        print({name: (str(array.dtype), array.astype(float).tolist()) for name, array in loaded.items()})
except StockroomError as error:
    print(error)
"""


def run_without(package: str, *arguments: object) -> str:
    words = [sys.executable, "-c", WITHOUT, package, *map(str, arguments)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_bfloat16_and_float8_go_out_and_in_without_torch(tmp_path: Path) -> None:
    found = run_without("torch", tmp_path)
    assert found == "{'b': ('bfloat16', [0.0, 1.0, 2.0]), 'f': ('float8_e5m2', [1.0, 1.0])}"


def test_a_missing_library_is_named_with_what_installs_it(tmp_path: Path) -> None:
    assert "pip install 'stockroom-vcs[safetensors]'" in run_without("safetensors", tmp_path)
    torch.save({"w": torch.ones(1)}, tmp_path / "m.pt")
    assert "pip install 'stockroom-vcs[torch]'" in run_without("torch", tmp_path, tmp_path / "m.pt")
