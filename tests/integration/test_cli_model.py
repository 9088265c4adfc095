"""`stock model ...`, and the verbs that know every shelf, as real processes on a repository with models in it."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from tests.kit.hostile import Hostile
from tests.kit.programs import STOCK, ask, read_json, refuse, run_stock

from stockroom import StockRoom

ODD = "a/b ~ü"


def make_states() -> tuple[dict[str, Any], dict[str, Any]]:
    """A checkpoint with an optimiser before and after two steps, of which one layer is frozen."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 4))
    net[0].requires_grad_(False)
    optimiser = torch.optim.Adam(net[1].parameters())

    def copy_state(epoch: int) -> dict[str, Any]:
        model = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        model["half"] = torch.arange(6).reshape(2, 3).to(torch.bfloat16)
        model["tiny"] = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float8_e4m3fn)
        model["tied"] = model["half"]
        return {"model": model, "optimizer": optimiser.state_dict(), "epoch": epoch, "best": None, ODD: torch.ones(2)}

    before = copy_state(0)
    for _ in range(2):
        net(torch.randn(8, 64)).square().sum().backward()
        optimiser.step()
    return before, copy_state(2)


@pytest.fixture(scope="module")
def states() -> tuple[dict[str, Any], dict[str, Any]]:
    return make_states()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, states: tuple[dict[str, Any], dict[str, Any]]) -> Path:
    """Two commits: run1 before, with data and an experiment; then run1 after, another rate, one more point, a copy."""
    root = tmp_path_factory.mktemp("models")
    before, after = states
    with StockRoom.init(root, name="Ada", email="ada@example.org") as stock:
        with stock.enable_write("first"):
            stock.data["label"] = np.arange(10)
            stock.model.save("run1", before, acc=0.1)
            stock.experiment.update({"lr": 0.1, "opt": {"name": "adam", "betas": (0.9, 0.99)}, "w": torch.ones(3)})
            stock.experiment.log({"loss": 2.5}, step=0)
            stock.experiment.artifact("plots/roc.txt", b"curve\n")
        with stock.enable_write():
            stock.model.save("run1", after, acc=0.2)
            stock.model["plain"] = {"w": np.array([1.0, np.nan, 3.0, 0.0]), "note": "x" * 3}
            stock.experiment["lr"] = 0.01
            stock.experiment.log({"loss": float("nan")}, step=1)
    return root


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A repository with nothing in it."""
    StockRoom.init(tmp_path / "fresh", name="Ada", email="ada@example.org").close()
    return tmp_path / "fresh"


# -- ls and show


def test_models_are_listed_with_leaves_size_and_metadata(root: Path) -> None:
    plain, run1 = read_json(root, "model", "ls")["models"]
    assert (plain["name"], plain["leaves"], plain["metadata"]) == ("plain", 2, {})
    assert (run1["name"], run1["metadata"]) == ("run1", {"acc": 0.2})
    assert run1["nbytes"] == StockRoom(root).model["run1"].nbytes
    assert [entry["name"] for entry in read_json(root, "model", "ls", "HEAD~1")["models"]] == ["run1"]
    assert ask(root, "model", "ls").splitlines()[1].split()[:3] == ["run1", str(run1["leaves"]), "leaves"]


def test_leaves_are_shown_with_what_the_commit_changed(root: Path) -> None:
    shown = read_json(root, "model", "show", "run1")
    by_path = {leaf["path"]: leaf for leaf in shown["leaves"]}
    known = {leaf.path: leaf for leaf in StockRoom(root).model["run1"].leaves()}
    assert {path: leaf["digest"] for path, leaf in by_path.items()} == {
        path: leaf.digest for path, leaf in known.items()
    }
    assert by_path["model/0.weight"]["change"] is None
    assert by_path["model/1.weight"]["change"] == by_path["epoch"]["change"] == "changed"
    assert by_path["optimizer/state/0/exp_avg"]["change"] == "new"
    assert by_path["model/tied"]["tied_to"] == "model/half"
    assert (by_path["model/half"]["dtype"], by_path["model/tiny"]["dtype"]) == ("bfloat16", "float8_e4m3fn")
    lines = {line.split()[0]: line for line in ask(root, "model", "show", "run1/model").splitlines()[2:]}
    assert lines["1.weight"].endswith("changed")
    assert lines["0.weight"].endswith(known["model/0.weight"].digest[:12])


def test_in_a_first_commit_every_leaf_is_new(root: Path) -> None:
    shown = read_json(root, "model", "show", "HEAD~1:run1")
    assert {leaf["change"] for leaf in shown["leaves"]} == {"new"}
    assert shown["metadata"] == {"acc": 0.1}


def test_one_leaf_is_shown_with_its_values(root: Path) -> None:
    shown = read_json(root, "model", "show", "plain/w")
    assert (shown["path"], shown["shape"]) == ("model/plain/w", [4])
    assert (shown["summary"]["max"], shown["summary"]["nan"], shown["summary"]["zeros"]) == (3.0, 1, 1)
    assert read_json(root, "show", "HEAD~1:model/run1/epoch")["summary"] == {"value": 0}
    assert read_json(root, "show", f"model/run1/{'a~1b ~0ü'}")["summary"]["mean"] == 1.0


@pytest.mark.parametrize("verb", ["show", "diff", "stats"])
def test_a_model_that_is_not_there_is_named_on_one_line(verb: str, root: Path) -> None:
    assert "no model 'run' in this commit; did you mean run1?" in refuse(root, "model", verb, "run")
    assert "has nothing under 'modle'" in refuse(root, "model", verb, "run1/modle")
    assert "no such branch, tag or commit" in refuse(root, "model", verb, "nope:run1")


# -- diff


def test_a_diff_says_which_tensors_moved_and_how_far(root: Path, states: tuple[dict[str, Any], dict[str, Any]]) -> None:
    before, after = (state["model"]["1.weight"].double() for state in states)
    changes = {entry["path"]: entry for entry in read_json(root, "model", "diff", "HEAD~1:run1", "run1")["changes"]}
    assert "model/0.weight" not in changes
    found = changes["model/1.weight"]["difference"]
    norm = float((after - before).norm())
    assert found["norm"] == pytest.approx(norm, rel=1e-12)
    assert found["relative_norm"] == pytest.approx(norm / float(before.norm()), rel=1e-12)
    assert found["max_abs"] == pytest.approx(float((after - before).abs().max()), rel=1e-12)
    assert (changes["epoch"]["kind"], changes["epoch"]["values"]) == ("changed", [0, 2])
    assert changes["optimizer/state/0/exp_avg"]["kind"] == "added"


def test_a_diff_of_one_model_is_against_the_first_parent(root: Path) -> None:
    assert ask(root, "model", "diff", "run1") == ask(root, "model", "diff", "HEAD~1:run1", "HEAD:run1")
    assert {entry["kind"] for entry in read_json(root, "model", "diff", "plain")["changes"]} == {"added"}
    assert {entry["kind"] for entry in read_json(root, "model", "diff", "HEAD~1:run1")["changes"]} == {"added"}


def test_a_diff_of_equal_parts_says_nothing_and_exits_with_zero(root: Path) -> None:
    same = run_stock(
        root, "model", "diff", "--exit-code", "HEAD~1:run1/optimizer/param_groups", "run1/optimizer/param_groups"
    )
    assert (same.returncode, same.stdout) == (0, "")
    assert run_stock(root, "model", "diff", "--exit-code", "run1").returncode == 1


# -- stats


def test_statistics_are_those_of_numpy(root: Path, states: tuple[dict[str, Any], dict[str, Any]]) -> None:
    weights = states[1]["model"]["0.weight"].numpy().astype(np.float64)
    (found,) = read_json(root, "model", "stats", "run1", "model/0.weight", "--bins", "7")["tensors"]
    assert (found["mean"], found["std"]) == (pytest.approx(weights.mean()), pytest.approx(weights.std()))
    assert (found["min"], found["max"], found["nan"]) == (weights.min(), weights.max(), 0)
    counts, edges = np.histogram(weights, 7)
    assert (found["histogram"]["counts"], found["histogram"]["edges"]) == (counts.tolist(), edges.tolist())


def test_statistics_choose_tensors_by_pattern_and_draw_them(root: Path) -> None:
    lines = ask(root, "model", "stats", "run1/model", "1.*", "tiny").splitlines()
    assert [line.split()[0] for line in lines] == ["name", "1.weight", "1.bias", "tiny"]
    assert "█" in lines[1]
    assert "33.3%" in lines[3]
    plain = subprocess.run(
        [*STOCK, "model", "stats", "plain"],
        cwd=root,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert plain.stdout.isascii()
    assert b"@" in plain.stdout


def test_a_pattern_that_names_nothing_is_refused(root: Path) -> None:
    assert "has nothing under 'decoder.*'" in refuse(root, "model", "stats", "run1", "decoder.*")


# -- export


def test_an_exported_model_is_what_safetensors_loads(
    root: Path, tmp_path: Path, states: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    to = tmp_path / "m.safetensors"
    found = read_json(root, "model", "export", "run1", "--to", to)
    loaded = safetensors.torch.load_file(to)
    assert found["tensors"] == len(loaded)
    for name, tensor in states[1]["model"].items():
        assert loaded[f"model.{name}"].dtype == tensor.dtype
        assert torch.equal(loaded[f"model.{name}"].float(), tensor.float())
    assert torch.equal(loaded[ODD], torch.ones(2))
    assert "optimizer.state.0.exp_avg_sq" in loaded


def test_an_older_commit_and_a_part_are_exported_as_they_were(
    root: Path, tmp_path: Path, states: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    to = tmp_path / "m.safetensors"
    assert run_stock(root, "model", "export", "HEAD~1:run1/model", "--to", to).returncode == 0
    loaded = safetensors.torch.load_file(to)
    assert sorted(loaded) == sorted(states[0]["model"])
    assert torch.equal(loaded["1.weight"], states[0]["model"]["1.weight"])


def test_an_export_replaces_a_file_only_when_told_to(root: Path, tmp_path: Path) -> None:
    to = tmp_path / "m.safetensors"
    to.write_bytes(b"mine")
    assert "already exists" in refuse(root, "model", "export", "plain", "--to", to)
    assert to.read_bytes() == b"mine"
    assert run_stock(root, "model", "export", "plain", "--to", to, "--force", "--tensors-only").returncode == 0
    with safetensors.safe_open(to, "np") as opened:
        assert (list(opened.keys()), opened.metadata()) == (["w"], None)
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_an_export_needs_a_name_that_says_what_it_is(root: Path, tmp_path: Path) -> None:
    assert ".safetensors" in refuse(root, "model", "export", "plain", "--to", tmp_path / "m.pt", code=2)
    assert "m.safetensors" in refuse(root, "model", "export", "plain", "--to", tmp_path / "no" / "m.safetensors")


def test_export_of_a_model_names_the_verb_for_it(root: Path, tmp_path: Path) -> None:
    assert "stock model export" in refuse(root, "export", "model/run1", "--to", tmp_path / "x.npy")


# -- import


def test_an_imported_file_is_committed_under_its_name(fresh: Path) -> None:
    tensors = {"w": torch.randn(5, 3).to(torch.bfloat16), "s": torch.tensor([1.0]).to(torch.float8_e5m2)}
    safetensors.torch.save_file(tensors, fresh / "net.safetensors", metadata={"format": "pt"})
    found = read_json(fresh, "model", "import", "net.safetensors")
    with StockRoom(fresh) as stock:
        assert found["commit"] == stock.commit_id
        assert (found["model"], found["leaves"], found["nbytes"]) == ("net", 2, 31)
        loaded = stock.model["net"].load()
        assert all(torch.equal(loaded[name].float(), tensor.float()) for name, tensor in tensors.items())
        assert loaded["w"].dtype == torch.bfloat16
        assert stock.model["net"].metadata == {"format": "pt"}
        assert next(stock.log()).message == "Import model net"


def test_importing_again_changes_nothing(fresh: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(1000)}, fresh / "net.safetensors")
    assert read_json(fresh, "model", "import", "net.safetensors")["commit"]
    again = read_json(fresh, "model", "import", "net.safetensors")
    assert (again["commit"], again["changes"]) == (None, {})


def test_a_checkpoint_is_imported_with_its_optimiser_under_another_name(
    fresh: Path, states: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    torch.save(states[1], fresh / "epoch2.pt")
    answer = run_stock(fresh, "model", "import", "epoch2.pt", "--name", "runs/é 2", "-m", "after two")
    with StockRoom(fresh) as stock:
        assert answer.stdout.strip() == stock.commit_id
        loaded = stock.model["runs/é 2"].load()
        assert next(stock.log()).message == "after two"
    assert loaded["best"] is None
    assert torch.equal(loaded["optimizer"]["state"][1]["exp_avg"], states[1]["optimizer"]["state"][1]["exp_avg"])
    assert torch.equal(loaded[ODD], torch.ones(2))
    assert "1 model" in ask(fresh, "show")


def test_an_import_can_be_left_staged(fresh: Path) -> None:
    torch.save({"w": torch.ones(2)}, fresh / "m.bin")
    assert run_stock(fresh, "model", "import", "m.bin", "--no-commit").returncode == 0
    assert read_json(fresh, "status")["changes"] == {
        "model/m": {"kind": "added", "added": 1, "removed": 0, "changed": 0}
    }
    assert "1 model changed: +1 -0 ~0" in ask(fresh, "status")


@pytest.mark.parametrize("flags", [(), ("--no-commit",)], ids=["commit", "stage"])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_a_hostile_checkpoint_leaves_no_trace(
    is_zip: bool, flags: tuple[str, ...], fresh: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "executed"
    torch.save({"x": Hostile(mark)}, fresh / "evil.pt", _use_new_zipfile_serialization=is_zip)
    line = refuse(fresh, "model", "import", "evil.pt", *flags)
    assert "nothing was executed" in line
    assert not mark.exists()
    assert read_json(fresh, "status")["clean"]
    assert StockRoom(fresh).commit_id is None


def test_notes_too_long_to_keep_can_be_left_out(fresh: Path) -> None:
    notes = {"training": "x" * 70_000}
    safetensors.torch.save_file({"w": torch.ones(1)}, fresh / "net.safetensors", metadata=notes)
    assert "--no-metadata omits them" in refuse(fresh, "model", "import", "net.safetensors")
    assert run_stock(fresh, "model", "import", "net.safetensors", "--no-metadata").returncode == 0
    assert read_json(fresh, "model", "ls")["models"][0]["metadata"] == {}


def test_files_that_are_missing_torn_or_of_another_kind_are_told_apart(fresh: Path) -> None:
    assert "no such file" in refuse(fresh, "model", "import", "gone.safetensors")
    safetensors.torch.save_file({"w": torch.ones(1000)}, fresh / "torn.safetensors")
    (fresh / "torn.safetensors").write_bytes((fresh / "torn.safetensors").read_bytes()[:500])
    assert "torn.safetensors" in refuse(fresh, "model", "import", "torn.safetensors", code=15)
    (fresh / "net.onnx").write_bytes(b"x")
    assert "file ending in" in refuse(fresh, "model", "import", "net.onnx")
    assert StockRoom(fresh).commit_id is None


def test_what_was_exported_comes_back_by_importing(root: Path, fresh: Path) -> None:
    assert run_stock(root, "model", "export", "run1", "--to", fresh / "back.safetensors").returncode == 0
    assert run_stock(fresh, "model", "import", "back.safetensors").returncode == 0
    with StockRoom(root) as old, StockRoom(fresh) as new:
        digests = {leaf.digest for leaf in old.model["run1"].leaves()}
        assert {leaf.digest for leaf in new.model["back"].leaves()} == digests
        assert new.model["back"]["best"] is None
        assert new.model["back"]["optimizer.param_groups.0.lr"] == 0.001
        assert new.model["back"].metadata == {"acc": 0.2, "format": "pt"}


# -- verbs of all shelves


def test_ls_lists_every_shelf_and_each_alone(root: Path) -> None:
    lines = [line.split()[0] for line in ask(root, "ls").splitlines()]
    expected = ["data/label", "model/plain", "model/run1", "experiment/lr", "experiment/opt", "experiment/w"]
    assert lines == [*expected, "metric/loss", "artifact/plots/roc.txt"]
    found = read_json(root, "ls")
    assert [column["name"] for column in found["columns"]] == ["label"]
    assert found["values"][1] == {"name": "opt", "cells": {"opt.name": "adam", "opt.betas": [0.9, 0.99]}}
    assert found["metrics"] == [{"name": "loss", "last": "NaN", "last_step": 1, "count": 2}]
    assert set(read_json(root, "ls", "data")) == {"version", "command", "columns"}
    assert set(read_json(root, "ls", "HEAD~1:artifact")) == {"version", "command", "artifacts"}
    assert ask(root, "ls", "model/run1/optimizer/param_groups").splitlines()[0] == "0/lr"
    assert read_json(root, "ls", "HEAD~1:model/run1")["keys"][0] == "model/0.weight"


def test_show_of_a_commit_says_what_it_ties_together(root: Path) -> None:
    found = read_json(root, "show")
    holds = found["holds"]
    with StockRoom(root) as stock:
        assert holds["columns"] == [{"name": "label", "count": 10, "root": stock.data["label"].root, "change": None}]
    assert [(entry["name"], entry["change"]) for entry in holds["models"]] == [("plain", "added"), ("run1", "changed")]
    assert [(entry["name"], entry["change"]) for entry in holds["values"]] == [
        ("lr", "changed"),
        ("opt", None),
        ("w", None),
    ]
    assert holds["metrics"] == [{"name": "loss", "last": "NaN", "last_step": 1, "count": 2, "change": "changed"}]
    assert holds["artifacts"][0]["change"] is None
    assert found["commit"]["message"] == "Update model and experiment"
    lines = ask(root, "show").splitlines()
    assert " 2 models changed: +8 -0 ~3; 1 value changed: +0 -0 ~1; 1 metric changed: +1 -0 ~0" in lines
    assert any(line.startswith("   data/label  10 samples  root ") for line in lines)
    assert any(line.startswith(" ~ model/run1 ") for line in lines)
    assert any(line.startswith(" + model/plain ") for line in lines)


def test_show_of_a_first_commit_counts_everything_as_added(root: Path) -> None:
    changes = read_json(root, "show", "HEAD~1")["changes"]
    assert {change["kind"] for change in changes.values()} == {"added"}
    assert (changes["data/label"]["added"], changes["metric/loss"]["added"]) == (10, 1)
    assert set(changes) == {
        "artifact/plots/roc.txt",
        "data/label",
        "experiment/lr",
        "experiment/opt",
        "experiment/w",
        "metric/loss",
        "model/run1",
    }


def test_show_describes_values_metrics_and_artifacts(root: Path) -> None:
    assert read_json(root, "show", "HEAD~1:experiment/lr")["cells"] == {"lr": 0.1}
    assert ask(root, "show", "experiment/opt").splitlines()[1:] == ["  name: adam", "  betas: (0.9, 0.99)"]
    metric = read_json(root, "show", "metric/loss")
    assert (metric["count"], metric["last"], metric["min"], metric["max"]) == (2, "NaN", 2.5, 2.5)
    artifact = read_json(root, "show", "artifact/plots/roc.txt")
    assert (artifact["media_type"], artifact["nbytes"]) == ("text/plain", 6)
    assert "no value 'lrr' here; did you mean 'lr'?" in refuse(root, "show", "experiment/lrr")


def test_a_branch_called_like_a_path_is_told_apart(fresh: Path) -> None:
    with StockRoom(fresh) as stock:
        with stock.enable_write("first"):
            stock.data["x"] = [1]
        stock.create_branch("experiment/lr")
    assert "'experiment/lr:' names the branch or tag" in refuse(fresh, "show", "experiment/lr")
    assert "first" in ask(fresh, "show", "experiment/lr:")


def test_cat_prints_leaves_values_metrics_and_artifacts(root: Path) -> None:
    def load(*arguments: str) -> np.ndarray:
        answer = subprocess.run([*STOCK, "cat", *arguments], cwd=root, capture_output=True, check=True)
        array: np.ndarray = np.load(io.BytesIO(answer.stdout), allow_pickle=False)
        return array

    assert load("model/plain/w")[2] == 3.0
    assert load("model/run1/model/half").dtype == np.uint16  # bfloat16, which .npy lacks
    assert load("experiment/w").tolist() == [1, 1, 1]
    assert ask(root, "cat", "model/plain/note") == "xxx"
    assert ask(root, "cat", "HEAD~1:model/run1/epoch") == "0\n"
    assert ask(root, "cat", "model/run1/best") == "null\n"
    assert json.loads(ask(root, "cat", "experiment/opt")) == {"name": "adam", "betas": [0.9, 0.99]}
    assert read_json(root, "cat", "experiment/lr")["value"] == 0.01
    assert ask(root, "cat", "metric/loss") == "step,value\n0,2.5\n1,nan\n"
    assert read_json(root, "cat", "metric/loss")["values"] == [2.5, "NaN"]
    assert ask(root, "cat", "artifact/plots/roc.txt") == "curve\n"
    assert "cat expects model/NAME/LEAF" in refuse(root, "cat", "model/run1", code=2)
    assert "has nothing under 'zz'" in refuse(root, "cat", "model/run1/zz")


def test_diff_names_leaves_and_steps_and_sums_up_by_shelf(root: Path) -> None:
    lines = ask(root, "diff", "HEAD~1..HEAD").splitlines()
    assert "model/run1: changed, +6 -0 ~3" in lines
    assert "  ~ model/1.weight" in lines
    assert lines[lines.index("metric/loss: changed, +1 -0 ~0") + 1] == "  + 1"
    stat = ask(root, "diff", "HEAD~1..HEAD", "--stat")
    assert "2 models changed: +8 -0 ~3; 1 value changed" in stat
    changes = read_json(root, "diff", "HEAD~1..HEAD")["changes"]
    assert "model/1.bias" in changes["model/run1"]["changed_keys"]
    assert changes["experiment/lr"]["changed_keys"] == ["lr"]


def test_a_commit_is_summed_up_by_shelf(fresh: Path) -> None:
    with StockRoom(fresh, enable_write=True) as stock:
        stock.model["m"] = {"w": np.ones(2)}
        stock.experiment.update({"a": 1, "b": 2})
    answer = run_stock(fresh, "commit", "-m", "x")
    assert "x; 1 model changed: +1 -0 ~0; 2 values changed: +2 -0 ~0" in answer.stderr


def test_a_write_block_without_a_message_names_the_shelves_it_changed(fresh: Path) -> None:
    with StockRoom(fresh) as stock:
        with stock.enable_write():
            stock.data["x"] = [1]
        with stock.enable_write():
            stock.model["m"] = {"w": np.ones(2)}
        with stock.enable_write():
            stock.data["x"] = [2]
            stock.model["m"] = {"w": np.zeros(2)}
            stock.experiment.log({"loss": 1.0})
        messages = [commit.message for commit in stock.log()]
    assert messages == ["Update data, model and experiment", "Update model", "Update data"]
