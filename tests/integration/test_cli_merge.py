"""Merging on the command line, each verb in a real process, on a clone of metadata that no data is brought to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.kit.forks import commit
from tests.kit.programs import ask, read_json, run_stock

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


def measure_present(path: Path) -> int:
    with StockRoom(path) as opened:
        return opened.measure_presence().present_nbytes


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    r"""
    start---ours      main
         \
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
    reflog = ask(clone, "reflog")
    done = run_stock(clone, "merge", "origin/dev")
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
    assert ask(clone, "reflog") == reflog
    assert "Nothing staged" in ask(clone, "status")
    assert measure_present(clone) == 0


def test_conflicts_in_json_are_one_document(clone: Path) -> None:
    document = read_json(clone, "merge", "origin/dev", code=14)
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
    staged = run_stock(clone, "merge", "origin/dev", "--no-commit", "-m", "By hand")
    assert staged.returncode == 14
    assert "with 8 conflicts open" in staged.stderr
    assert "in progress, with 8 open conflicts" in ask(clone, "status")
    assert run_stock(clone, "merge", "--continue").returncode == 14
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
        assert "resolved 1 conflict" in run_stock(clone, "resolve", *words).stderr
    assert ask(clone, "resolve") == ""
    assert "`stock merge --continue` commits it" in ask(clone, "merge")
    commit_id = ask(clone, "merge", "--continue").strip()
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
    document = read_json(clone, "merge", "origin/dev", *words)
    assert (document["outcome"], document["conflicts"]) == ("merged", [])
    assert measure_present(clone) == 0
    with StockRoom(clone) as merged:
        assert int(merged.data["label"][1]) == 88
        assert merged.data["caption"]["a"] == "one"
        assert merged.experiment["lr"] == 0.3


def test_average_brings_only_what_it_averages(clone: Path) -> None:
    ask(clone, "merge", "origin/dev", "-X", "average=model/net:*", "-s", "ours")
    with StockRoom(clone) as merged:
        assert merged.data["image"].present() < 0.5
        assert merged.model["net"]["body"].tolist() == [2.0] * 3000


def test_undo_takes_a_merge_back(clone: Path) -> None:
    r"""
    base---Ours---merge     main; undone to Ours
        \        /
         Theirs--           origin/dev
    """
    before = ask(clone, "log", "--oneline")
    ask(clone, "merge", "origin/dev", "-s", "ours")
    assert "undid merge" in run_stock(clone, "undo").stderr
    assert ask(clone, "log", "--oneline") == before
    assert "already up to date" not in run_stock(clone, "merge", "origin/dev", "-s", "theirs").stderr


def test_abort_restores_what_was_there(clone: Path) -> None:
    before = ask(clone, "show")
    run_stock(clone, "merge", "origin/dev", "--no-commit")
    ask(clone, "resolve", "data/image:1", "--theirs")
    document = read_json(clone, "merge", "--abort")
    assert document["aborted"]["kind"] == "merge"
    assert ask(clone, "show") == before
    assert "Nothing staged" in ask(clone, "status")
    assert run_stock(clone, "merge", "--abort").returncode == 1


def test_reset_gives_a_merge_up_too(clone: Path) -> None:
    run_stock(clone, "merge", "origin/dev", "--no-commit")
    ask(clone, "reset")
    assert read_json(clone, "status")["merge"] is None


def test_fast_forwards_and_commits_of_two_parents(clone: Path) -> None:
    ask(clone, "branch", "line", "HEAD~1")
    ask(clone, "checkout", "line")
    assert run_stock(clone, "merge", "origin/dev", "--no-ff", "--ff-only").returncode == 2
    assert read_json(clone, "merge", "origin/dev", "--ff-only")["outcome"] == "fast-forward"
    assert "already up to date" in run_stock(clone, "merge", "origin/dev").stderr
    assert read_json(clone, "merge", "origin/dev")["outcome"] == "up to date"
    assert run_stock(clone, "merge", "main", "--ff-only").returncode == 14
    ask(clone, "reset", "--hard", "HEAD~1")
    ask(clone, "merge", "origin/dev", "--no-ff", "-m", "On purpose", "-m", "Two parents")
    log = ask(clone, "log", "-n", "1")
    assert "Merge:" in log
    assert "    On purpose\n    \n    Two parents" in log


def test_revert_and_cherry_pick(clone: Path) -> None:
    ask(clone, "revert", "HEAD")
    with StockRoom(clone) as opened:
        assert next(opened.log()).message.startswith('Revert "Ours"\n\nThis reverts commit ')
        assert opened.experiment["lr"] == 0.1
    picked = read_json(clone, "cherry-pick", "origin/dev")
    assert picked["outcome"] == "merged"
    with StockRoom(clone) as opened:
        entry = next(opened.log())
        assert (entry.message, len(entry.parents)) == ("Theirs", 1)
        assert opened.experiment["lr"] == 0.3
    assert "already up to date" in run_stock(clone, "cherry-pick", "origin/dev").stderr
    conflict = run_stock(clone, "revert", "HEAD~2")
    assert conflict.returncode == 14
    assert "data/label" in conflict.stdout
    assert run_stock(clone, "revert", "HEAD~2", "--no-commit").returncode == 14
    assert "A revert is in progress" in ask(clone, "status")
    ask(clone, "merge", "--abort")
    assert measure_present(clone) == 0


def test_reset_hard_moves_the_branch_and_undo_brings_it_back(clone: Path) -> None:
    r"""
    base---Ours       main; after the reset at Theirs, after undo here again
        \
         Theirs       origin/dev
    """
    old = read_json(clone, "status")["commit"]
    document = read_json(clone, "reset", "--hard", "origin/dev")
    assert document["branch"] == "main"
    assert document["commit"] != old
    assert run_stock(clone, "reset", "HEAD~1").returncode == 2
    ask(clone, "undo")
    assert read_json(clone, "status")["commit"] == old


def test_bare_merge_and_resolve_when_there_is_nothing(clone: Path) -> None:
    assert run_stock(clone, "merge").stdout == ""
    assert read_json(clone, "merge")["merge"] is None
    assert run_stock(clone, "resolve").returncode == 1
    assert run_stock(clone, "resolve", "data/label", "--ours").returncode == 1
    assert run_stock(clone, "merge", "--continue").returncode == 1


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
        ("reset", "HEAD~1"),
        ("reset", "--hard", "--soft"),
        ("revert", "HEAD", "-m", "a message"),
    ],
)
def test_what_cannot_be_understood_exits_with_2(clone: Path, words: tuple[str, ...]) -> None:
    done = run_stock(clone, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_values_that_do_not_fit_change_nothing(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no array")
    run_stock(clone, "merge", "origin/dev", "--no-commit")
    before = read_json(clone, "status")
    for place, says in (
        ("data/label:1", ".npy"),
        ("experiment/lr", "JSON"),
        ("data/label", "2"),
        ("model/net:body", "--staged"),
        ("data/nope", "no open conflict"),
        ("data/label:9", "no open conflict"),
    ):
        done = run_stock(clone, "resolve", place, "--value", tmp_path / "text")
        assert (done.returncode, done.stdout) == (1, "")
        assert says in done.stderr
    assert run_stock(clone, "resolve", "data/label:1", "--value", tmp_path / "nowhere").returncode == 1
    assert run_stock(clone, "resolve", "data/label:1", "--average").returncode == 1
    assert read_json(clone, "status") == before


def test_log_draws_a_merge(clone: Path) -> None:
    ask(clone, "merge", "origin/dev", "-s", "ours", "-m", "Both")
    lines = ask(clone, "log", "--oneline", "--graph").splitlines()
    drawn = [" ".join(word for word in line.split() if len(word) != 12) for line in lines]
    assert drawn in (
        ["* Both", "|\\", "| * Theirs", "* | Ours", "|/", "* Start"],
        ["* Both", "|\\", "* | Ours", "| * Theirs", "|/", "* Start"],
    )
    whole = ask(clone, "log", "--graph").splitlines()
    assert [line.partition(":")[0].split() for line in whole[1:4]] == [
        ["|\\", "Merge"],
        ["|", "|", "Author"],
        ["|", "|", "Date"],
    ]
