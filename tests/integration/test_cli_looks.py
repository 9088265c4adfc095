"""`du`, `config`, `completion`, pictures on a terminal: as processes of their own."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.kit.programs import STOCK, read_json, run_stock

from stockroom import StockRoom


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, texts, curves and two models alike; a tag and a branch of its own."""
    path = tmp_path_factory.mktemp("looks") / "repo"
    random = np.random.default_rng(2)
    with StockRoom.init(path, name="Ada", email="ada@example.org") as stock:
        with stock.enable_write("Pictures"):
            stock.data["image"] = random.integers(0, 256, (3, 6, 4, 3), dtype=np.uint8)
            stock.data["caption"] = ["a cat", "a dog", "a \x1b[31mred bird"]
            stock.data["wave"] = np.sin(np.linspace(0, 9, 100))[None]
            stock.model["net"] = {"w": random.random(5000)}
        stock.create_tag("v1")
        stock.create_branch("dev")
        with stock.enable_write("The same model again"):
            stock.model["twin"] = stock.model["net"]
            stock.data["extra"] = random.integers(0, 256, (2, 500), dtype=np.uint8)
    return path


def ask_on_terminal(path: Path, *words: str, **environment: str) -> str:
    """What `stock WORDS` writes on a terminal of 60 characters and 40 lines."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    mine, its = pty.openpty()
    with subprocess.Popen(
        [*STOCK, *words],
        cwd=path,
        env=kept | {"COLUMNS": "60", "LINES": "40", "TERM": "xterm"} | environment,
        stdin=its,
        stdout=its,
        stderr=its,
    ) as process:
        os.close(its)
        written = b""
        while part := _read_terminal(mine):
            written += part
    os.close(mine)
    assert process.returncode == 0
    return written.decode().replace("\r\n", "\n")


def _read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # its last reader is gone
        return b""


def test_du_says_what_things_and_branches_cost(repository: Path) -> None:
    document = read_json(repository, "du")
    items = {item["path"]: item for item in document["items"]}
    assert set(items) == {"data/caption", "data/extra", "data/image", "data/wave", "model/net", "model/twin"}
    assert items["data/extra"]["chunk_nbytes"] == 1000
    assert items["model/net"]["own_nbytes"] == 0  # the twin has it all
    assert document["total"]["saved_by_dedupe_nbytes"] == 40_000
    assert {each["name"]: each["own_commits"] for each in document["branches"]} == {"dev": 0, "main": 1}
    assert document["history"]["commits"] == 2
    text = run_stock(repository, "du", "v1").stdout.splitlines()
    assert text[0].split() == ["raw", "on", "disk", "only", "here"]
    assert [line.split()[0] for line in text[1:6]] == ["data/caption", "data/image", "data/wave", "model/net", "total"]
    assert any(line.startswith("equal samples save") for line in text)
    assert text[-1].split()[:2] == ["main", "1"]


def test_du_says_what_commits_added_newest_first(repository: Path) -> None:
    newest, oldest = read_json(repository, "du", "--commits")["commits"]
    assert (newest["added"]["chunks"], newest["added"]["chunk_nbytes"]) == (2, 1000)
    assert oldest["added"]["chunks"] == 3 + 1 + 1  # the captions stand in the tree
    assert [each["id"] for each in read_json(repository, "du", "--commits", "v1")["commits"]] == [oldest["id"]]
    lines = run_stock(repository, "du", "--commits", "-n", "1").stdout.splitlines()
    assert (len(lines), lines[1].split()[0]) == (2, newest["id"][:12])


def test_config_is_read_set_and_unset(tmp_path: Path) -> None:
    StockRoom.init(tmp_path, name="Ada", email="ada@example.org").close()
    assert run_stock(tmp_path, "config", "user.name").stdout == "Ada\n"
    assert run_stock(tmp_path, "config", "user.name", "Grace Hopper").returncode == 0
    assert run_stock(tmp_path, "config", "fetch.lazy", "off").returncode == 0
    assert run_stock(tmp_path, "config", "--list").stdout.splitlines() == [
        "user.name=Grace Hopper",
        "user.email=ada@example.org",
        "fetch.lazy=false",
    ]
    assert run_stock(tmp_path, "config", "--unset", "fetch.lazy").returncode == 0
    unset = run_stock(tmp_path, "config", "fetch.lazy")
    assert (unset.returncode, unset.stdout, unset.stderr) == (0, "", "fetch.lazy is not set\n")
    unknown = run_stock(tmp_path, "config", "user.nmae", "x")
    assert unknown.returncode == 1
    assert unknown.stderr == "stock: no setting 'user.nmae'; did you mean user.name or user.email?\n"
    assert read_json(tmp_path, "config", "fetch.timeout", "9")["settings"] == {"fetch.timeout": 9.0}


COMPLETE = """
source <(stock completion bash)
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_stock_completion "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(repository: Path, *words: str) -> list[str]:
    """What bash offers for the last of these words, which are cut at colons as bash does."""
    programs = repository.parent / "bin"
    if not programs.exists():
        programs.mkdir()
        (programs / "stock").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stockroom.cli "$@"\n')
        (programs / "stock").chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", COMPLETE, "bash", "stock", *words]
    answer = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    return answer.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("stat",), ["status"]),
        (("exp", "sh"), ["show"]),
        (("log", "--one"), ["--oneline"]),
        (("checkout", "d"), ["dev"]),
        (("diff", "main..d"), ["main..dev"]),
        (("branch", "-d", ""), ["dev", "main"]),
        (("tag", "-d", ""), ["v1"]),
        (("log", "--auth"), ["--author"]),
        (("stash", "po"), ["pop"]),
        (("rm", "data/ca"), ["data/caption"]),
        (("show", "data/ca"), ["data/caption"]),
        (("show", "v1", ":", "data/i"), ["data/image"]),
        (("show", "v"), ["v1:"]),
        (("model", "stats", "n"), ["net"]),
        (("config", "fetch"), ["fetch.lazy", "fetch.timeout"]),
        (("checkout", "nope"), []),
        (("nope", "x"), []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bash_completes(repository: Path, words: tuple[str, ...], expected: list[str]) -> None:
    assert complete(repository, *words) == expected


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_names_are_completed_in_another_folder_and_outside_of_one_there_are_none(
    repository: Path, tmp_path: Path
) -> None:
    assert complete(repository, "-C", str(repository), "checkout", "d") == ["dev"]
    assert complete(repository, "-C", str(tmp_path), "checkout", "d") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_scripts_for_both_names(tmp_path: Path, shell: str) -> None:
    script = run_stock(tmp_path, "completion", shell).stdout
    assert f"_STOCK_COMPLETE=complete_{shell}" in script
    assert {"stock", "stockroom"} <= set(script.split())


def test_a_picture_is_drawn_on_a_terminal_that_wants_colours(repository: Path) -> None:
    written = ask_on_terminal(repository, "show", "data/image/1")
    cells = written.count("▀")
    assert cells == 3 * 4
    with StockRoom(repository) as stock:
        red, green, blue = stock.data["image"][1][0, 0].tolist()
    assert f"\x1b[38;2;{red};{green};{blue}m" in written


@pytest.mark.parametrize(
    ("words", "environment"),
    [((), {"NO_COLOR": "1"}), (("--no-color",), {}), ((), {"TERM": "dumb"}), (("--json",), {})],
    ids=str,
)
def test_nothing_is_drawn_where_colours_are_not_wanted(
    repository: Path, words: tuple[str, ...], environment: dict[str, str]
) -> None:
    assert "\x1b" not in ask_on_terminal(repository, "show", "data/image/1", *words, **environment)


def test_in_a_pipe_nothing_is_drawn_and_curves_are(repository: Path) -> None:
    assert "▀" not in run_stock(repository, "show", "data/image/1").stdout
    assert "curve: ▅" in run_stock(repository, "show", "data/wave/0").stdout


def test_a_preview_has_every_sample_and_no_code_from_outside(repository: Path) -> None:
    lines = ask_on_terminal(repository, "ls", "data/caption", "--preview").splitlines()
    assert lines == ["0  a cat", "1  a dog", "2  a \\x1b[31mred bird"]
    assert ask_on_terminal(repository, "ls", "data/image", "--preview", "-n", "2").count("▀") == 2 * 3 * 4
    samples = read_json(repository, "ls", "data/image", "--preview")["samples"]
    assert samples[0] == {"key": 0, "look": "uint8 6x4x3"}
    assert run_stock(repository, "ls", "data/caption", "-n", "2").stdout == "0\n1\n"


def test_open_writes_a_png_file_and_says_where(repository: Path, tmp_path: Path) -> None:
    quiet = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "TMPDIR": str(tmp_path)}
    answer = run_stock(repository, "show", "data/image/1", "--open", **quiet)
    (line,) = [line for line in answer.stdout.splitlines() if line.startswith("  png: ")]
    path = Path(line.removeprefix("  png: "))
    assert path.parent == tmp_path
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    target = tmp_path / "mine.png"
    assert read_json(repository, "show", "data/image/1", "--png", str(target))["png"] == str(target)
    assert target.read_bytes() == path.read_bytes()
    refused = run_stock(repository, "show", "model/net", "--open")
    assert (refused.returncode, refused.stdout) == (1, "")
