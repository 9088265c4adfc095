"""Names, keys, captions, messages and metadata of strangers: escaped in terminals, pages, tables and pictures."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.kit.programs import run_stock

from stockroom import StockRoom
from stockroom.cli import main
from stockroom.cli.completion import complete_refs
from stockroom.cli.render.progress import Heartbeat

TEXT = "x\nFORGED\x1b[31m\u202e\x07\x9b<script>alert(1)</script>&\"'|`[a](b)\u2066y"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
BRANCH = "b\u202e<i>'$(touch-it)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose every text is `TEXT`, as far as names may be that."""
    folder = tmp_path_factory.mktemp("hostile") / "repository"
    with StockRoom.init(folder, name="Ada", email="ada@example.org") as stock:
        with stock.enable_write("First"):
            stock.data["plain"] = np.arange(3)
        with stock.enable_write(f"sub\x1b[1mject\u202e\n\nbody\n{TEXT}"):
            stock.data["caption"] = {TEXT: TEXT, "=1+1": "=1+1"}
            stock.data["a\u202e<b>c"] = np.arange(5)
            stock.data.create("with-attrs", dtype="uint8", shape=(), attrs={TEXT: TEXT})
            stock.model.save("net", {TEXT: np.arange(3), "ok": {TEXT: 1.5}}, **{"note": TEXT, TEXT: 1})
            stock.experiment["note"] = {"k": TEXT, "f": "=1+1", "<i>": "<b>"}
            stock.experiment["<img src=x onerror=alert(1)>"] = TEXT
            stock.experiment.log({"<b>&acc": 0.5}, 1)
            stock.experiment.log({"<b>&acc": 0.7}, 2)
            stock.experiment.artifact("<i>.txt", TEXT.encode())
        stock.create_branch(BRANCH)
    return folder


LOOKS = [
    ["status"], ["log"], ["log", "--oneline"], ["log", "--graph"], ["show"], ["show", f"data/caption/{TEXT}"], ["ls"],
    ["ls", "data/caption"], ["ls", "--preview", "data/caption"], ["ls", "model/net"], ["show", "data/with-attrs"],
    ["show", "model/net"], ["show", f"model/net/{TEXT}"], ["model", "show", "net"], ["model", "ls"],
    ["model", "stats", "net"], ["model", "diff", "HEAD", "HEAD", "net"], ["exp", "show"], ["exp", "ls"],
    ["exp", "show", "--md"], ["exp", "diff", "HEAD~1"], ["exp", "plot", "<b>&acc", "HEAD", BRANCH], ["branch"],
    ["branch", "-a"], ["reflog"], ["du"], ["diff", "HEAD~1"], ["show", "artifact/<i>.txt"], ["show", "experiment/note"],
    ["cat", "experiment/note"], ["show", f"data/none{TEXT}"], ["-v", "show", f"data/none{TEXT}"], ["show", TEXT],
    ["-v", "log", TEXT], [f"verb{TEXT}"], ["checkout", TEXT], ["--json", "ls", "data/caption"], ["--json", "log"],
    ["fsck"], ["clone", TEXT, "-v"], ["-C", TEXT, "status"], ["import", "csv", f"{TEXT}.csv", "-v"], ["remote"],
]  # fmt: skip


@pytest.mark.parametrize("words", LOOKS, ids=lambda words: " ".join(words)[:24].encode("ascii", "replace").decode())
def test_no_character_that_a_terminal_obeys_reaches_it_and_no_line_is_forged(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    main(words)
    printed = capsys.readouterr()
    for text in (printed.out, printed.err):
        assert OBEYED.findall(text) == []
        lines = text.split("\n") if "-v" not in words else []  # the lines of a traceback are those of its message
        assert [line for line in lines if line.startswith("FORGED")] == []


@pytest.mark.parametrize("verb", ["show", "ls", "log"])
def test_the_program_itself_escapes_too(folder: Path, verb: str) -> None:
    done = run_stock(folder, verb)
    assert done.returncode == 0
    assert OBEYED.findall(done.stdout + done.stderr) == []


def test_formulas_in_csv_are_quoted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-C", str(folder), "exp", "show", "HEAD", "--csv"]) == 0
    headings, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert row[headings.index("note.f")] == "'=1+1"
    assert not any(cell.startswith(("=", "@")) for cell in headings + row)


class Tags(HTMLParser):
    """The tags of a page, with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_no_markup_of_a_stranger_is_in_a_page_of_a_notebook(folder: Path) -> None:
    with StockRoom(folder) as stock:
        shown = [stock, stock.data, stock.model, stock.experiment, stock.experiment.table(), *stock.data.values()]
        shown += [*stock.log(), stock.changes(), stock.diff("HEAD~1", "HEAD")]
        for each in shown:
            page = each._repr_html_()
            found = Tags(page)
            assert found.tags <= {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td", "img"}, (each, page)
            assert found.attributes <= {"style", "src", "alt"}
            assert OBEYED.findall(page) == []
            assert OBEYED.findall(repr(each)) == []


@pytest.mark.parametrize("suffix", ["svg", "html", "png"])
def test_a_plot_holds_no_markup_of_a_stranger(
    folder: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    target = tmp_path / f"x.{suffix}"
    assert main(["-C", str(folder), "exp", "plot", "<b>&acc", "HEAD", BRANCH, "-o", str(target)]) == 0
    if suffix == "png":
        return
    page = target.read_text()
    assert OBEYED.findall(page) == []
    if suffix == "svg":
        assert not {"script", "foreignObject", "image", "a", "i", "b"} & {
            element.tag.rpartition("}")[2] for element in ET.fromstring(page).iter()
        }
    else:
        assert not {"script", "i", "b", "img"} & Tags(page).tags
        assert "<h1>&lt;b&gt;&amp;acc</h1>" in page


def test_progress_shows_names_on_one_line_and_escaped() -> None:
    assert OBEYED.findall(Heartbeat(f"import {TEXT}").line()) == []
    assert "\n" not in Heartbeat(f"import {TEXT}").line()


def test_a_bar_shows_names_on_one_line_and_escaped() -> None:
    from stockroom.cli.render.progress_bar import BarProgress, make_bar

    bar = make_bar()
    progress = BarProgress(bar, bar.add_task(""))
    progress.update(TEXT, 1)
    assert OBEYED.findall(bar.tasks[0].description) == []
    assert "\n" not in bar.tasks[0].description


def test_names_that_a_shell_would_run_are_not_completed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with StockRoom(folder) as stock:
        for name in (
            "a;id",
            "a&id",
            "a|id",
            "a$(id)",
            "a`id`",
            "a'b",
            'a"b',
            "a>b",
            "a(b)",
            "a#b",
            "a!b",
            "plain/v1.0-x",
        ):
            stock.create_branch(name)
    context = type("Context", (), {"params": {}, "parent": None})()
    assert complete_refs(context, "") == ["HEAD", "main", "plain/v1.0-x"]
