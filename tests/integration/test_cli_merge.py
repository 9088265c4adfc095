"""Merging on the command line, each verb in a real process, on a clone of metadata that no data is brought to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.forks import commit

from stockroom import StockRoom

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 3, 32, 32), dtype=np.uint8)
NEW_IMAGES = np.random.default_rng(1).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)


def start(writer: StockRoom) -> None:
    writer.data["image"] = IMAGES
    writer.data["label"] = np.arange(50) % 10
    writer.data["caption"] = {"a": "eins", "b": "zwei"}
    writer.data["raw"] = [b"one", b"two"]
    writer.experiment["lr"] = 0.1
    writer.experiment.log({"loss": 1.0}, 0)
    writer.model["net"] = {"body": torch.zeros(3000), "head": torch.zeros(3000)}


def change_ours(writer: StockRoom) -> None:
    writer.data["image"][1] = NEW_IMAGES[0]
    writer.data["image"][2] = NEW_IMAGES[1]
    writer.data["label"][1] = 77
    writer.data["caption"]["a"] = "one"
    writer.data["raw"][0] = b"1"
    writer.data["label"].attrs = {"unit": "m"}
    writer.experiment["lr"] = 0.2
    writer.experiment.log({"loss": 0.5}, 1)
    writer.model["net"] = {"body": torch.ones(3000), "head": torch.zeros(3000)}


def change_theirs(writer: StockRoom) -> None:
    writer.data["image"][1] = NEW_IMAGES[2]
    writer.data["image"][60] = NEW_IMAGES[3]
    writer.data["label"][1] = 88
    writer.data["label"][2] = 99
    writer.data["caption"]["a"] = "un"
    writer.data["raw"][0] = b"i"
    writer.data["label"].attrs = {"unit": "km"}
    writer.experiment["lr"] = 0.3
    writer.experiment.log({"loss": 0.25}, 1)
    writer.model["net"] = {"body": torch.full((3000,), 3.0), "head": torch.ones(3000)}


CONFLICTS = [
    ("data/caption", "a"),
    ("data/image", 1),
    ("data/label", 1),
    ("data/label", "attrs unit"),
    ("data/raw", 0),
    ("experiment/lr", None),
    ("metric/loss", 1),
    ("model/net", "body"),
]


def stock(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockroom.cli", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def succeed(*words: object, cwd: Path) -> str:
    done = stock(*words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_json(*words: object, cwd: Path, code: int = 0) -> dict[str, Any]:
    """The one document of a command, which says nothing else."""
    done = stock(*words, "--json", cwd=cwd)
    assert done.returncode == code, done.stderr
    assert done.stderr == ""
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["version"] == 1
    return document


def measure_present(path: Path) -> int:
    with StockRoom(path) as opened:
        return opened.measure_presence().present_nbytes


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    start---ours      main
         \\
          theirs      dev
    """
    folder = tmp_path_factory.mktemp("source")
    with StockRoom.init(folder / "source", name="Ada", email="ada@example.org") as source:
        commit(source, start, "Start")
        source.checkout("dev", create=True)
        commit(source, change_theirs, "Theirs")
        source.checkout("main")
        commit(source, change_ours, "Ours")
        source.add_remote("origin", str(folder / "remote"))
        source.push()
        source.push(ref="dev")
    return folder / "remote"


@pytest.fixture
def clone(remote: Path, tmp_path: Path) -> Path:
    """Metadata of it, with nothing of its data."""
    StockRoom.clone(str(remote), tmp_path / "clone", metadata_only=True).close()
    assert measure_present(tmp_path / "clone") == 0
    return tmp_path / "clone"


def test_conflicts_are_a_table_and_nothing_changes(clone: Path) -> None:
    head = (clone / "head.stock").read_bytes()
    reflog = succeed("reflog", cwd=clone)
    done = stock("merge", "origin/dev", cwd=clone)
    assert done.returncode == 14
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["path", "key", "kind", "ours", "theirs"]
    assert [line.split()[0] for line in lines[1:]] == [path for path, _ in CONFLICTS]
    shown = {tuple(line.split()[:2]): line.split()[-2:] for line in lines[1:]}
    assert shown["data/label", "1"] == ["77", "88"]  # what is small stands there itself
    assert shown["data/caption", "a"] == ["'one'", "'un'"]
    with StockRoom(clone) as ours, StockRoom(clone, ref="origin/dev") as theirs:
        digests = [side.data["image"].digest(1)[:12] for side in (ours, theirs)]
    assert shown["data/image", "1"] == digests
    assert len(done.stderr.splitlines()) == 1
    assert "8 conflicts" in done.stderr
    assert (clone / "head.stock").read_bytes() == head
    assert succeed("reflog", cwd=clone) == reflog
    assert "Nothing staged" in succeed("status", cwd=clone)
    assert measure_present(clone) == 0


def test_conflicts_in_json_are_one_document(clone: Path) -> None:
    document = read_json("merge", "origin/dev", cwd=clone, code=14)
    assert document["outcome"] == "conflict"
    assert [(one["path"], one["key"]) for one in document["conflicts"]] == CONFLICTS
    image = next(one for one in document["conflicts"] if one["path"] == "data/image")
    with StockRoom(clone) as ours, StockRoom(clone, ref="origin/dev") as theirs:
        assert image["ours"] == ours.data["image"].digest(1)
        assert image["theirs"] == theirs.data["image"].digest(1)
    assert measure_present(clone) == 0


def test_every_conflict_resolved_in_its_own_way_without_any_data(clone: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "label.npy", np.int64(5))
    (tmp_path / "caption.txt").write_text("ett")
    (tmp_path / "raw.bin").write_bytes(b"\0I")
    (tmp_path / "lr.json").write_text("0.25")
    staged = stock("merge", "origin/dev", "--no-commit", "-m", "By hand", cwd=clone)
    assert staged.returncode == 14
    assert "with 8 conflicts open" in staged.stderr
    assert "under way, with 8 open conflicts" in succeed("status", cwd=clone)
    assert stock("merge", "--continue", cwd=clone).returncode == 14
    for words in (
        ("data/image:1", "--theirs"),
        ("data/label:1", "--value", tmp_path / "label.npy"),
        ("data/label:attrs unit", "--ours"),
        ("data/caption:a", "--value", tmp_path / "caption.txt"),
        ("data/raw", "--value", tmp_path / "raw.bin"),
        ("experiment/lr", "--value", tmp_path / "lr.json"),
        ("metric/loss:1", "--value", tmp_path / "lr.json"),
        ("model/net:body", "--theirs"),
    ):
        assert "resolved 1 conflict" in stock("resolve", *words, cwd=clone).stderr
    assert succeed("resolve", cwd=clone) == ""
    assert "`stock merge --continue` commits it" in succeed("merge", cwd=clone)
    commit_id = succeed("merge", "--continue", cwd=clone).strip()
    assert measure_present(clone) == 0
    with StockRoom(clone) as merged:
        assert merged.commit_id == commit_id
        entry = next(merged.log())
        assert entry.message == "By hand"
        assert len(entry.parents) == 2
        assert merged.data["label"].attrs["unit"] == "m"
        assert int(merged.data["label"][1]) == 5
        assert int(merged.data["label"][2]) == 99
        assert merged.data["caption"]["a"] == "ett"
        assert merged.data["raw"][0] == b"\0I"
        assert merged.experiment["lr"] == 0.25
        assert merged.experiment.metrics["loss"][1].tolist() == [1.0, 0.25]
        assert np.array_equal(merged.data["image"][[1, 2, 60]], NEW_IMAGES[[2, 1, 3]])
        assert merged.model["net"]["body"].tolist() == [3.0] * 3000
        assert merged.model["net"]["head"].tolist() == [1.0] * 3000


def test_strategies_and_patterns_need_no_data_either(clone: Path) -> None:
    words = ("-X", "theirs=data/label", "-X", "ours=data", "--strategy", "theirs")
    document = read_json("merge", "origin/dev", *words, cwd=clone)
    assert (document["outcome"], document["conflicts"]) == ("merged", [])
    assert measure_present(clone) == 0
    with StockRoom(clone) as merged:
        assert int(merged.data["label"][1]) == 88
        assert merged.data["caption"]["a"] == "one"
        assert merged.experiment["lr"] == 0.3


def test_average_brings_only_what_it_averages(clone: Path) -> None:
    succeed("merge", "origin/dev", "-X", "average=model/net:*", "-s", "ours", cwd=clone)
    with StockRoom(clone) as merged:
        assert merged.data["image"].present() < 0.5
        assert merged.model["net"]["body"].tolist() == [2.0] * 3000


def test_undo_takes_a_merge_back(clone: Path) -> None:
    before = succeed("log", "--oneline", cwd=clone)
    succeed("merge", "origin/dev", "-s", "ours", cwd=clone)
    assert "took back merge" in stock("undo", cwd=clone).stderr
    assert succeed("log", "--oneline", cwd=clone) == before
    assert "already up to date" not in stock("merge", "origin/dev", "-s", "theirs", cwd=clone).stderr


def test_abort_restores_what_was_there(clone: Path) -> None:
    before = succeed("show", cwd=clone)
    stock("merge", "origin/dev", "--no-commit", cwd=clone)
    succeed("resolve", "data/image:1", "--theirs", cwd=clone)
    document = read_json("merge", "--abort", cwd=clone)
    assert document["aborted"]["kind"] == "merge"
    assert succeed("show", cwd=clone) == before
    assert "Nothing staged" in succeed("status", cwd=clone)
    assert stock("merge", "--abort", cwd=clone).returncode == 1


def test_reset_gives_a_merge_up_too(clone: Path) -> None:
    stock("merge", "origin/dev", "--no-commit", cwd=clone)
    succeed("reset", cwd=clone)
    assert read_json("status", cwd=clone)["merge"] is None


def test_fast_forwards_and_commits_of_two_parents(clone: Path) -> None:
    succeed("branch", "line", "HEAD~1", cwd=clone)
    succeed("checkout", "line", cwd=clone)
    assert stock("merge", "origin/dev", "--no-ff", "--ff-only", cwd=clone).returncode == 2
    assert read_json("merge", "origin/dev", "--ff-only", cwd=clone)["outcome"] == "fast-forward"
    assert "already up to date" in stock("merge", "origin/dev", cwd=clone).stderr
    assert read_json("merge", "origin/dev", cwd=clone)["outcome"] == "up to date"
    assert stock("merge", "main", "--ff-only", cwd=clone).returncode == 14
    succeed("reset", "--hard", "HEAD~1", cwd=clone)
    succeed("merge", "origin/dev", "--no-ff", "-m", "On purpose", "-m", "Two parents", cwd=clone)
    log = succeed("log", "-n", "1", cwd=clone)
    assert "Merge:" in log
    assert "    On purpose\n    \n    Two parents" in log


def test_revert_and_cherry_pick(clone: Path) -> None:
    succeed("revert", "HEAD", cwd=clone)
    with StockRoom(clone) as opened:
        assert next(opened.log()).message.startswith('Revert "Ours"\n\nThis reverts commit ')
        assert opened.experiment["lr"] == 0.1
    picked = read_json("cherry-pick", "origin/dev", cwd=clone)
    assert picked["outcome"] == "merged"
    with StockRoom(clone) as opened:
        entry = next(opened.log())
        assert (entry.message, len(entry.parents)) == ("Theirs", 1)
        assert opened.experiment["lr"] == 0.3
    assert "already up to date" in stock("cherry-pick", "origin/dev", cwd=clone).stderr
    conflict = stock("revert", "HEAD~2", cwd=clone)
    assert conflict.returncode == 14
    assert "data/label" in conflict.stdout
    assert stock("revert", "HEAD~2", "--no-commit", cwd=clone).returncode == 14
    assert "A revert is under way" in succeed("status", cwd=clone)
    succeed("merge", "--abort", cwd=clone)
    assert measure_present(clone) == 0


def test_reset_hard_moves_the_branch_and_undo_brings_it_back(clone: Path) -> None:
    old = read_json("status", cwd=clone)["commit"]
    document = read_json("reset", "--hard", "origin/dev", cwd=clone)
    assert document["branch"] == "main"
    assert document["commit"] != old
    assert stock("reset", "main", cwd=clone).returncode == 2
    succeed("undo", cwd=clone)
    assert read_json("status", cwd=clone)["commit"] == old


def test_bare_merge_and_resolve_when_there_is_nothing(clone: Path) -> None:
    assert stock("merge", cwd=clone).stdout == ""
    assert read_json("merge", cwd=clone)["merge"] is None
    assert stock("resolve", cwd=clone).returncode == 1
    assert stock("resolve", "data/label", "--ours", cwd=clone).returncode == 1
    assert stock("merge", "--continue", cwd=clone).returncode == 1


@pytest.mark.parametrize(
    "words",
    [
        ("merge", "a", "--abort"),
        ("merge", "--abort", "--continue"),
        ("merge", "main", "-X", "theirs"),
        ("merge", "main", "-X", "theirs=a", "-X", "ours=a"),
        ("resolve", "data/label"),
        ("resolve", "data/label", "--ours", "--theirs"),
        ("resolve", "--ours"),
        ("reset", "main"),
    ],
)
def test_what_cannot_be_understood_exits_with_2(clone: Path, words: tuple[str, ...]) -> None:
    done = stock(*words, cwd=clone)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_values_that_do_not_fit_change_nothing(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no array")
    stock("merge", "origin/dev", "--no-commit", cwd=clone)
    before = read_json("status", cwd=clone)
    for place, says in (
        ("data/label:1", ".npy"),
        ("experiment/lr", "JSON"),
        ("data/label", "2"),
        ("model/net:body", "--staged"),
        ("data/nope", "not in conflict"),
        ("data/label:9", "not in conflict"),
    ):
        done = stock("resolve", place, "--value", tmp_path / "text", cwd=clone)
        assert (done.returncode, done.stdout) == (1, "")
        assert says in done.stderr
    assert stock("resolve", "data/label:1", "--value", tmp_path / "nowhere", cwd=clone).returncode == 1
    assert stock("resolve", "data/label:1", "--average", cwd=clone).returncode == 1
    assert read_json("status", cwd=clone) == before


def test_log_draws_a_merge(clone: Path) -> None:
    succeed("merge", "origin/dev", "-s", "ours", "-m", "Both", cwd=clone)
    lines = succeed("log", "--oneline", "--graph", cwd=clone).splitlines()
    drawn = [" ".join(word for word in line.split() if len(word) != 12) for line in lines]
    assert drawn in (
        ["* Both", "|\\", "| * Theirs", "* | Ours", "|/", "* Start"],
        ["* Both", "|\\", "* | Ours", "| * Theirs", "|/", "* Start"],
    )
    whole = succeed("log", "--graph", cwd=clone).splitlines()
    assert [line.partition(":")[0].split() for line in whole[1:4]] == [
        ["|\\", "Merge"],
        ["|", "|", "Author"],
        ["|", "|", "Date"],
    ]
