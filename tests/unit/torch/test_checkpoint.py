"""PyTorch's checkpoints: every kind of state comes in, nothing hostile does, and nothing is ever executed."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from tests.kit.hostile import Hostile

from stockroom import CorruptionError, InvalidInputError, StockRoom
from stockroom.interop import name_model, read_model_file


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_checkpoint_of_model_and_optimiser_comes_in_as_it_was_saved(
    is_zip: bool, stock: StockRoom, tmp_path: Path
) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).to(torch.bfloat16)
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 4, dtype=torch.bfloat16)).sum().backward()
    optimiser.step()
    tied = net.state_dict()
    tied["head"] = tied["0.weight"]
    state = {"model": tied, "optimizer": optimiser.state_dict(), "epoch": 3, "best": None, "shape": (1, 2)}
    torch.save(state, tmp_path / "m.pt", _use_new_zipfile_serialization=is_zip)
    with stock.enable_write():
        stock.model["m"] = read_model_file(tmp_path / "m.pt").state
    loaded = stock.model["m"].load()
    assert type(loaded["model"]) is OrderedDict
    assert list(loaded["model"]) == list(tied)
    assert all(torch.equal(loaded["model"][name], tensor) for name, tensor in tied.items())
    assert loaded["model"]["head"].data_ptr() == loaded["model"]["0.weight"].data_ptr()
    assert loaded["optimizer"]["state"].keys() == optimiser.state_dict()["state"].keys()
    assert (loaded["epoch"], loaded["best"], loaded["shape"]) == (3, None, (1, 2))
    net.load_state_dict({name: tensor for name, tensor in loaded["model"].items() if name != "head"})


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_checkpoint_that_asks_for_code_is_refused_unexecuted(is_zip: bool, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"w": torch.ones(1), "x": Hostile(mark)}, tmp_path / "m.pt", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(InvalidInputError, match=r"found posix\.system, which is code; nothing was executed") as caught:
        read_model_file(tmp_path / "m.pt")
    assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_pickle_that_asks_for_code_is_refused_unexecuted(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    (tmp_path / "m.bin").write_bytes(pickle.dumps(Hostile(mark), protocol))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((InvalidInputError, CorruptionError)):
            read_model_file(tmp_path / "m.bin")
    assert not mark.exists()


@pytest.mark.parametrize("ending", [".pt", ".PTH", ".bin", ".ckpt", ".pth.tar"])
def test_a_model_is_called_as_its_file_without_the_ending(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.v1{ending}"
    torch.save({"w": torch.ones(1)}, path)
    assert name_model(path) == "net.v1"
    assert read_model_file(path).state == {"w": torch.ones(1)}


def test_a_whole_module_is_refused_with_what_to_save_instead(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "m.pth")
    with pytest.raises(InvalidInputError, match=r"Linear, which is code.*only its `state_dict\(\)`"):
        read_model_file(tmp_path / "m.pth")


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_program_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(1, 1)).save(tmp_path / "m.pt")
    with pytest.raises(InvalidInputError, match="TorchScript program"):
        read_model_file(tmp_path / "m.pt")


def test_damaged_files_are_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(1000)}, path)
    whole = path.read_bytes()
    for content in (b"", b"junk" * 100, whole[:2000], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(CorruptionError, match=r"m\.pt: not a complete PyTorch checkpoint"):
            read_model_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "x")
    with pytest.raises(CorruptionError, match="not a complete"):
        read_model_file(path)


def test_what_is_no_state_is_refused_by_its_path_and_nothing_is_saved(stock: StockRoom, tmp_path: Path) -> None:
    torch.save({"ok": torch.ones(1), "layout": {"sparse": torch.ones(2, 2).to_sparse()}}, tmp_path / "m.pt")
    found = read_model_file(tmp_path / "m.pt")
    with pytest.raises(InvalidInputError, match="'layout/sparse'"), stock.enable_write():
        stock.model["m"] = found.state
    assert list(stock.model) == []
    assert stock.status().clean


def test_an_older_torch_that_could_be_made_to_run_code_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "m.pt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(InvalidInputError, match=r"PyTorch 2\.6 or later, found 2\.5\.1"):
        read_model_file(tmp_path / "m.pt")
