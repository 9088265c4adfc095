"""`stock exp`: experiments compared, drawn, listed and exported, by real processes."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from tests.kit.programs import ask, read_json, refuse, run_stock

from stockroom import StockRoom
from stockroom.content.nodes import ScalarLeaf
from stockroom.shelves.model.flatten import LeafBytes
from stockroom.shelves.model.state_writer import write_leaves

LARGE = np.random.default_rng(2).bytes(20 << 20)


@pytest.fixture(autouse=True)
def terminal_of_100_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs on main, tagged run0 to run2, and one more on the branch other. Read only.

    run0 - run1 - run2 (main)
               \\- other
    """
    path = tmp_path_factory.mktemp("runs")
    with StockRoom.init(path, name="Ada", email="ada@example.org") as stock:
        for number, lr in enumerate([0.1, 0.01, 0.001]):
            if number == 2:
                with stock.enable_write():
                    stock.checkout("other", create=True)
                with stock.enable_write("Other run"):
                    stock.experiment["optimizer"] = {"name": "adam", "lr": 0.5}
                stock.checkout("main")
            with stock.enable_write(f"Run {number} | of 3\n\nbody"):
                stock.experiment.update(optimizer={"name": "sgd", "lr": lr}, seed=1, notes='a, "b"\nc')
                stock.experiment["w"] = np.full((3, 4), number, np.float32)
                for step in range(200):
                    value = math.nan if step == 50 else math.inf if step == 51 else math.exp(-step * lr)
                    stock.experiment.log({"val/loss": value, "acc": number + step / 1000}, step)
                stock.experiment.artifact("plots/curve.txt", f"run {number}".encode())
            stock.create_tag(f"run{number}")
    return path


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    StockRoom.init(tmp_path / "repo", name="Ada", email="ada@example.org").close()
    return tmp_path / "repo"


# -- show


def test_show_lists_the_history_of_head_newest_first(runs: Path) -> None:
    heading, *lines = ask(runs, "exp", "show").splitlines()
    assert heading.split() == [
        *("commit", "refs", "date", "subject", "notes", "optimizer.lr", "optimizer.name", "seed", "w"),
        *("acc", "val/loss"),
    ]
    assert [line.split("Run ")[1][0] for line in lines] == ["2", "1", "0"]
    assert "float32 (3, 4)" in lines[0]
    assert "main, run2" in lines[0]
    assert ask(runs, "experiment", "show").splitlines() == [heading, *lines]


def test_show_takes_refs_all_and_a_number(runs: Path) -> None:
    named = read_json(runs, "exp", "show", "run1", "other", "run1")["rows"]
    assert [row["ref"] for row in named] == ["run1", "other", "run1"]
    every = read_json(runs, "exp", "show", "--all")["rows"]
    assert sorted(map(tuple, (row["refs"] for row in every))) == [
        *(("main", "run2"), ("other",), ("run0",), ("run1",)),
    ]
    assert every[0]["refs"] == ["main", "run2"]
    assert len(read_json(runs, "exp", "show", "-n", 2)["rows"]) == 2
    assert len(read_json(runs, "exp", "show", "-n", 0)["rows"]) == 0
    assert len(read_json(runs, "exp", "show", "--all", "--sort", "acc", "-n", 1)["rows"]) == 1


def test_show_filters_sorts_and_leaves_only_what_changed(runs: Path) -> None:
    chosen = read_json(
        runs, *("exp", "show", "--all", "--filter", "optimizer.lr < 0.2 and acc > 1", "--sort", "optimizer.lr")
    )["rows"]
    assert [row["values"]["optimizer.lr"] for row in chosen] == [0.001, 0.01]
    turned = read_json(runs, "exp", "show", "--sort", "acc", "--reverse", "--only-changed")
    assert turned["columns"] == {"values": ["optimizer.lr", "w"], "metrics": ["acc", "val/loss"]}
    assert [row["metrics"]["acc"]["last"] for row in turned["rows"]] == [2.199, 1.199, 0.199]
    assert all(set(row["values"]) == {"optimizer.lr", "w"} for row in turned["rows"])


def test_show_picks_last_least_greatest_or_best_of_a_metric(runs: Path) -> None:
    found = {
        choice: read_json(runs, "exp", "show", "run0", "--metrics", choice)["rows"][0]["metrics"]
        for choice in ("last", "min", "max", "best")
    }
    assert found["last"]["acc"] == {"last": 0.199, "last_step": 199, "count": 200}
    assert (found["min"]["acc"]["min"], found["max"]["acc"]["max"], found["best"]["acc"]["best"]) == (0, 0.199, 0.199)
    assert found["max"]["val/loss"]["max"] == "Infinity"
    assert found["best"]["val/loss"]["best"] == found["min"]["val/loss"]["min"] == pytest.approx(math.exp(-19.9))
    assert "val/loss (best)" in ask(runs, "exp", "show", "--metrics", "best").splitlines()[0]


def test_show_writes_csv_that_reads_back(runs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(ask(runs, "exp", "show", "--csv"), newline="")))
    assert [row["subject"] for row in rows] == ["Run 2 | of 3", "Run 1 | of 3", "Run 0 | of 3"]
    assert rows[0]["notes"] == 'a, "b"\nc'
    assert [float(row["optimizer.lr"]) for row in rows] == [0.001, 0.01, 0.1]
    assert rows[0]["refs"] == "main run2"
    assert len(rows[0]["commit"]) == 64
    assert float(rows[2]["val/loss"]) == math.exp(-199 * 0.1)


def test_show_writes_a_table_in_markdown(runs: Path) -> None:
    heading, rule, *rows = ask(runs, "exp", "show", "--md").splitlines()
    cells = [line.replace("\\|", "").count("|") for line in (heading, rule, *rows)]
    assert set(cells) == {12}
    assert rows[0].startswith("| ")
    assert "Run 2 \\| of 3" in rows[0]
    assert set(rule) == set("|- ")


def test_show_says_what_it_cannot_do(runs: Path) -> None:
    assert "--csv, --md and --json" in refuse(runs, "exp", "show", "--csv", "--md", code=2)
    assert "last, min, max, best" in refuse(runs, "exp", "show", "--metrics", "mean", code=2)
    assert "leave one out" in refuse(runs, "exp", "show", "run1", "--all", code=2)
    assert "name what to sort by" in refuse(runs, "exp", "show", "--reverse", code=2)
    assert "did you mean 'acc'" in refuse(runs, "exp", "show", "--filter", "ac > 1")
    assert "condition" in refuse(runs, "exp", "show", "--filter", "__import__('os')")
    assert "nope" in refuse(runs, "exp", "show", "nope")


def test_control_characters_of_a_value_never_reach_the_terminal(repo: Path) -> None:
    with StockRoom(repo) as stock, stock.enable_write():
        stock.experiment["evil"] = "\x1b[31mred"
        stock.experiment["nested"] = {"\x1b]0;title\x07": 1}
    for words in (["show"], ["show", "--csv"], ["show", "--md"], ["ls"], ["show", "--json"], ["ls", "--json"]):
        out = ask(repo, "exp", *words)
        assert "\x1b" not in out
        assert "\x07" not in out


def test_global_options_stand_anywhere(runs: Path, tmp_path: Path) -> None:
    for words in (
        ["-C", runs, "--json", "exp", "show"],
        ["exp", "-C", runs, "--json", "show"],
        ["exp", "show", "-C", runs, "--json"],
    ):
        assert json.loads(ask(tmp_path, *words))["command"] == "exp show"


# -- plot


def test_a_curve_is_drawn_as_wide_as_the_terminal_lets_it(runs: Path) -> None:
    for columns in (80, 120, 400):
        (line,) = ask(runs, "exp", "plot", "val/loss", "run1", COLUMNS=str(columns)).splitlines()
        assert len(line) <= columns
        assert line.startswith("run1  █")
        assert "min 0.1367" in line
        assert "max inf" in line
        assert line.endswith("last 0.1367 at step 199")
    lines = ask(runs, "exp", "plot", "acc", "run0", "run2").splitlines()
    bars = [set(line) & set("▁▂▃▄▅▆▇█") for line in lines]
    assert bars == [{"▁"}, {"█"}]  # of one scale


def test_a_gap_in_a_curve_is_a_gap_in_its_line(repo: Path) -> None:
    with StockRoom(repo) as stock, stock.enable_write():
        for step, value in enumerate([0, 1, math.nan, -math.inf, 1e308, -1e308]):
            stock.experiment.log({"x": value, "none": math.nan, "same": 7}, step)
    line = ask(repo, "exp", "plot", "x").rstrip("\n")
    assert line == "HEAD  ▅▅  █▁  min -inf  max 1e+308  last -1e+308 at step 5"
    assert "min nan  max nan" in ask(repo, "exp", "plot", "none")
    assert "▁▁▁▁▁▁  min 7  max 7  last 7" in ask(repo, "exp", "plot", "same")


def test_a_curve_in_json_has_every_point(runs: Path) -> None:
    document = read_json(runs, "exp", "plot", "val/loss", "run0", "HEAD")
    first = document["series"][0]
    assert (document["metric"], document["path"], first["ref"]) == ("val/loss", None, "run0")
    assert first["steps"] == list(range(200))
    assert first["values"][50:52] == ["NaN", "Infinity"]
    assert first["values"][2] == math.exp(-0.2)
    assert len(document["series"]) == 2


@pytest.mark.parametrize("suffix", ["png", "svg", "html"])
def test_a_curve_is_drawn_to_a_file(runs: Path, tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / f"curve.{suffix}"
    done = run_stock(runs, "exp", "plot", "val/loss", "run0", "other", "-o", target)
    assert (done.returncode, done.stdout) == (0, "")
    assert "drew val/loss" in done.stderr
    data = target.read_bytes()
    if suffix == "png":
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
    elif suffix == "svg":
        assert ET.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg"
    else:
        page = data.decode()
        assert page.startswith("<!DOCTYPE html>")
        assert "<title>val/loss</title>" in page
        assert "</svg>" in page
        assert "<script" not in page
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert read_json(runs, "exp", "plot", "acc", "-o", target)["path"] == str(target)


def test_without_matplotlib_it_is_said_how_to_get_it(runs: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['matplotlib'] = None; from stockroom.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["exp", "plot", "acc", "-o", str(tmp_path / "x.png")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=runs, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'stockroom-vcs[plot]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_plot_says_what_it_cannot_do(runs: Path, tmp_path: Path) -> None:
    assert "no metric 'los' in HEAD" in refuse(runs, "exp", "plot", "los")
    assert ".png, .svg, .html" in refuse(runs, "exp", "plot", "acc", "-o", tmp_path / "x.gif", code=2)


# -- diff and ls


def test_diff_shows_values_and_metrics_that_differ_aligned(runs: Path) -> None:
    heading, *lines = ask(runs, "exp", "diff", "run0", "run1").splitlines()
    assert heading.split()[::2] == ["run0", "run1"]
    assert [line.split()[0] for line in lines] == ["optimizer.lr", "w", "acc", "val/loss"]
    assert lines[0].split() == ["optimizer.lr", "0.1", "0.01"]
    assert lines[2].split("  ")[-1].strip() == "1.199 at step 199"
    places = {line.index("0.1") for line in lines[:1]} | {heading.index("run0")}
    assert len(places) == 1
    assert ask(runs, "exp", "diff", "run0..run1").splitlines()[1:] == lines
    assert ask(runs, "exp", "diff", "HEAD") == ""


def test_diff_in_json_tells_what_is_missing_from_what_is_null(repo: Path) -> None:
    with StockRoom(repo) as stock:
        for value in (1, None):
            with stock.enable_write():
                stock.experiment["x"] = value
                stock.experiment.log({f"m{value}": 1.0}, 0)
    document = read_json(repo, "exp", "diff", "HEAD~1")
    assert document["values"] == {"x": {"a": 1, "b": None}}
    assert document["metrics"] == {"mNone": {"b": {"last": 1.0, "last_step": 0, "count": 1}}}


def test_ls_lists_values_metrics_and_artifacts(runs: Path) -> None:
    lines = ask(runs, "exp", "ls", "run1").splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["values", "metrics", "artifacts"]
    assert "  optimizer.lr    0.01" in lines
    assert "  acc       200 points, last 1.199 at step 199" in lines
    assert "  plots/curve.txt  5 B, text/plain" in lines
    document = read_json(runs, "exp", "ls", "other")
    assert document["values"]["optimizer.name"] == "adam"
    assert document["artifacts"]["plots/curve.txt"]["nbytes"] == 5
    assert document["metrics"]["acc"]["count"] == 200


# -- export


def test_export_writes_artifacts_values_and_metrics(repo: Path, tmp_path: Path) -> None:
    with StockRoom(repo) as stock, stock.enable_write():
        stock.experiment.update(lr=0.1, none=None, data=b"\0", array=np.ones((1, 2), np.int8), big={"x": math.nan})
        stock.experiment.artifact("model/large.bin", LARGE)
        for step in (3, 1):
            stock.experiment.log({"val/loss": step / 3, "acc": math.inf}, step)
    done = run_stock(repo, "exp", "export", "--to", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "")
    out = tmp_path / "out"
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        *("metrics/acc.csv", "metrics/val/loss.csv", "model/large.bin", "values.json"),
    ]
    assert (out / "model/large.bin").read_bytes() == LARGE
    assert json.loads((out / "values.json").read_text(), parse_constant=pytest.fail) == {
        "lr": 0.1,
        "none": None,
        "data": {"base64": "AA=="},
        "array": {"dtype": "int8", "shape": [1, 2], "values": [[1, 1]]},
        "big": {"x": "NaN"},
    }
    assert (out / "metrics/val/loss.csv").read_text() == f"step,value\n1,{1 / 3!r}\n3,1.0\n"
    assert (out / "metrics/acc.csv").read_text() == "step,value\n1,inf\n3,inf\n"


def test_export_replaces_nothing_unless_it_is_forced(runs: Path, tmp_path: Path) -> None:
    ask(runs, "exp", "export", "run0", "--to", tmp_path)
    assert "exists already" in refuse(runs, "exp", "export", "run1", "--to", tmp_path)
    assert (tmp_path / "plots/curve.txt").read_text() == "run 0"
    ask(runs, "exp", "export", "run1", "--to", tmp_path, "--force")
    assert (tmp_path / "plots/curve.txt").read_text() == "run 1"


def test_export_takes_names_after_a_commit_or_of_head(runs: Path, tmp_path: Path) -> None:
    document = read_json(runs, "exp", "export", "run0", "seed", "acc", "--to", tmp_path / "a")
    assert document["files"] == ["values.json", "metrics/acc.csv"]
    assert json.loads((tmp_path / "a/values.json").read_text()) == {"seed": 1}
    ask(runs, "experiment", "export", "plots/curve.txt", "--to", tmp_path / "b")
    assert (tmp_path / "b/plots/curve.txt").read_text() == "run 2"
    assert "'nope'" in refuse(runs, "exp", "export", "run0", "nope", "--to", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_export_without_a_folder_makes_one_of_the_commit(repo: Path) -> None:
    with StockRoom(repo) as stock:
        with stock.enable_write():
            stock.experiment.artifact("a.txt", b"x")
        folder = repo / f"experiment-{stock.commit_id[:12]}"  # type: ignore[index]
    ask(repo, "exp", "export")
    assert (folder / "a.txt").read_bytes() == b"x"


def test_a_word_that_is_a_commit_and_a_name_has_to_be_told_apart(runs: Path, repo: Path, tmp_path: Path) -> None:
    with StockRoom(repo) as stock:
        with stock.enable_write():
            stock.experiment["v1"] = 1
        stock.create_tag("v1")
    assert "write HEAD v1" in refuse(repo, "exp", "export", "v1", "--to", tmp_path / "out")
    ask(repo, "exp", "export", "HEAD", "v1", "--to", tmp_path / "out")
    assert json.loads((tmp_path / "out/values.json").read_text()) == {"v1": 1}


@pytest.mark.parametrize("name", ["../stolen", "/{tmp}/stolen", "a/../../stolen", ".git/config", "..", "a//b", "x\x1b"])
def test_an_artifact_of_a_foreign_repository_is_never_written_elsewhere(repo: Path, tmp_path: Path, name: str) -> None:
    name = name.format(tmp=tmp_path)
    with StockRoom(repo) as stock, stock.enable_write():
        workspace = stock._pin.writer()
        source = LeafBytes("", "uint8", (1,), 1, [np.zeros(1, np.uint8)])
        record = write_leaves(workspace, ScalarLeaf("bytes"), [source], {"media_type": "text/plain"})
        workspace.put_states({f"artifact/{name}": record, "artifact/good": record})
    before = {path for path in tmp_path.rglob("*") if ".stockroom" not in path.parts}
    refuse(repo, "exp", "export", "--to", tmp_path / "out")
    assert {path for path in tmp_path.rglob("*") if ".stockroom" not in path.parts} - before <= {tmp_path / "out"}


def test_two_files_of_one_name_are_refused(repo: Path, tmp_path: Path) -> None:
    with StockRoom(repo) as stock, stock.enable_write():
        stock.experiment.artifact("values.json", b"{}")
        stock.experiment["lr"] = 0.1
    assert "by name" in refuse(repo, "exp", "export", "--to", tmp_path / "out")
    ask(repo, "exp", "export", "values.json", "--to", tmp_path / "out")
    assert (tmp_path / "out/values.json").read_bytes() == b"{}"


# -- a fresh repository, and none


def test_a_repository_without_commits_has_nothing_to_show(repo: Path) -> None:
    assert ask(repo, "exp", "show").split() == ["commit", "refs", "date", "subject"]
    nothing = {"columns": {"values": [], "metrics": []}, "rows": []}
    assert read_json(repo, "exp", "show") == {"version": 1, "command": "exp show", **nothing}
    assert ask(repo, "exp", "ls") == ""
    assert "no commit yet" in refuse(repo, "exp", "export")
    assert [path.name for path in repo.iterdir() if path.name.startswith("experiment")] == []


@pytest.mark.parametrize("words", [["show"], ["ls"], ["plot", "x"], ["diff", "a"], ["export"]])
def test_where_there_is_no_repository_it_is_said(tmp_path: Path, words: list[str]) -> None:
    assert "stock init" in refuse(tmp_path, "exp", *words, code=10)
