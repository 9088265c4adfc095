"""Every command in a fresh, a dirty, a read-only and no repository, with and without --json: code, streams, JSON."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from stockroom import StockRoom
from stockroom.cli import main
from stockroom.cli.app import ALIASES, GROUPS, VERBS

NO_REPOSITORY = 10

# command -> exit codes in (a repository without commits, one with staged changes, a read-only one)
EXPECTED: dict[tuple[str, ...], tuple[int, int, int]] = {
    ("status",): (0, 0, 0),
    ("status", "-s"): (0, 0, 0),
    ("log",): (0, 0, 0),
    ("log", "--oneline", "-n", "1"): (0, 0, 0),
    ("log", "nope"): (1, 1, 1),
    ("log", "-1", "-p", "--all", "--author", "x", "data"): (0, 0, 0),
    ("log", "--since", "soon"): (2, 2, 2),
    ("blame", "data/caption"): (1, 0, 0),
    ("blame", "nope"): (1, 1, 1),
    ("show",): (1, 0, 0),
    ("show", ":data"): (0, 0, 0),
    ("show", ":data/caption"): (1, 0, 0),
    ("show", ":data/caption/two"): (1, 0, 0),
    ("show", "model/net"): (1, 0, 0),
    ("show", "model/net/epoch"): (1, 0, 0),
    ("show", "experiment/lr"): (1, 0, 0),
    ("show", "metric/loss"): (1, 0, 0),
    ("show", "artifact/nope"): (1, 1, 1),
    ("ls",): (0, 0, 0),
    ("ls", "data/caption"): (1, 0, 0),
    ("ls", "nope:data"): (1, 1, 1),
    ("ls", "model"): (0, 0, 0),
    ("ls", "model/net"): (1, 0, 0),
    ("ls", "experiment"): (0, 0, 0),
    ("ls", "nowhere"): (1, 1, 1),
    ("cat", "data/caption/two"): (1, 0, 0),
    ("cat", "data/caption/nope"): (1, 1, 1),
    ("cat", "model/net/epoch"): (1, 0, 0),
    ("cat", "experiment/lr"): (1, 0, 0),
    ("cat", "metric/loss"): (1, 0, 0),
    ("diff",): (0, 0, 0),
    ("diff", "--exit-code"): (0, 1, 1),
    ("diff", "--stat"): (0, 0, 0),
    ("diff", "HEAD", "nope"): (1, 1, 1),
    ("branch",): (0, 0, 0),
    ("branch", "dev"): (1, 0, 1),
    ("branch", "-d", "nope"): (1, 1, 1),
    ("tag",): (0, 0, 0),
    ("tag", "v1"): (1, 0, 1),
    ("tag", "-d", "nope"): (1, 1, 1),
    ("checkout", "nope"): (1, 1, 1),
    ("checkout", "main"): (0, 0, 1),
    ("checkout", "-"): (1, 1, 1),
    ("merge",): (0, 0, 0),
    ("merge", "nope"): (1, 1, 1),
    ("merge", "HEAD"): (1, 0, 1),
    ("merge", "--continue"): (1, 1, 1),
    ("merge", "--abort"): (1, 1, 1),
    ("resolve",): (1, 1, 1),
    ("resolve", "data/caption", "--ours"): (1, 1, 1),
    ("revert", "HEAD"): (1, 14, 1),
    ("cherry-pick", "HEAD"): (1, 14, 1),
    ("reset", "--hard"): (0, 0, 1),
    ("reset", "--hard", "HEAD"): (1, 0, 1),
    ("reflog",): (0, 0, 0),
    ("ls", "data/caption", "--preview"): (1, 0, 0),
    ("ls", "--preview"): (2, 2, 2),
    ("show", ":data/caption/two", "--open"): (1, 1, 1),
    ("du",): (0, 0, 0),
    ("du", "--commits", "-n", "1"): (0, 0, 0),
    ("du", "-n", "1"): (2, 2, 2),
    ("du", "nope"): (1, 1, 1),
    ("config",): (0, 0, 0),
    ("config", "user.nam"): (1, 1, 1),
    ("config", "--unset"): (2, 2, 2),
    ("config", "fetch.timeout", "30"): (0, 0, 1),
    ("completion", "bash"): (0, 0, 0),
    ("completion", "nope"): (2, 2, 2),
    ("fsck",): (0, 0, 0),
    ("fsck", "--connectivity-only"): (0, 0, 0),
    ("fsck", "--repair"): (0, 0, 1),
    ("gc", "--dry-run"): (0, 0, 0),
    ("gc", "--grace", "3d", "--repack"): (0, 0, 1),
    ("gc", "--grace", "soon"): (1, 1, 1),
    ("gc", "--remote"): (1, 1, 1),
    ("gc", "origin"): (1, 1, 1),
    ("commit", "-m", "x"): (1, 0, 1),
    ("reset",): (0, 0, 1),
    ("reset", "data/nope"): (1, 1, 1),
    ("rm", "nope"): (1, 1, 1),
    ("mv", "nope", "data/other"): (1, 1, 1),
    ("stash", "list"): (0, 0, 0),
    ("stash", "show"): (1, 1, 1),
    ("stash", "drop"): (1, 1, 1),
    ("stash", "pop"): (1, 1, 1),
    ("stash", "apply"): (1, 1, 1),
    ("stash", "clear"): (0, 0, 0),
    ("stash", "push"): (1, 0, 1),
    ("undo",): (1, 14, 1),
    ("redo",): (1, 1, 1),
    ("status", "-s", "-b"): (0, 0, 0),
    ("import", "numpy", "nope.npy"): (1, 1, 1),
    ("import", "nope"): (1, 1, 1),
    ("import", "numpy", "{wine}"): (0, 0, 1),
    ("init",): (0, 0, 0),
    ("remote",): (0, 0, 0),
    ("remote", "add", "origin", "/nowhere/at/all"): (0, 0, 1),
    ("remote", "remove", "nope"): (1, 1, 1),
    ("fetch", "nope"): (1, 1, 1),
    ("pull", "nope"): (1, 1, 1),
    ("push", "nope"): (1, 1, 1),
    ("prefetch", "--dry-run"): (0, 0, 0),
    ("prefetch", "data/caption", "--keys", "0:1"): (1, 0, 0),
    ("drop", "--all"): (0, 0, 0),
    ("drop", "--to-size", "1GiB", "--dry-run"): (0, 0, 0),
    ("export", "data/caption", "--to", "{folder}/caption.npy"): (1, 1, 1),
    ("export", "data/caption", "--to", "{folder}/captions", "--force"): (1, 0, 0),
    ("export", "data/caption", "--to", "{folder}/caption.parquet", "--keys", "0:1", "--force"): (1, 0, 0),
    ("clone", "/nowhere/at/all", "{folder}/clone"): (13, 13, 13),
    ("exp", "show"): (0, 0, 0),
    ("exp", "show", "--all", "--only-changed"): (0, 0, 0),
    ("exp", "show", "--filter", "lr < 1 and loss > 0"): (1, 0, 0),
    ("experiment", "show", "nope"): (1, 1, 1),
    ("exp", "plot", "loss"): (1, 0, 0),
    ("exp", "plot", "nope"): (1, 1, 1),
    ("exp", "diff", "HEAD"): (1, 0, 0),
    ("exp", "ls"): (0, 0, 0),
    ("exp", "export", "lr", "--to", "{folder}/lr", "--force"): (1, 0, 0),
    ("exp", "export", "nope", "--to", "{folder}/nope"): (1, 1, 1),
    ("model", "ls"): (0, 0, 0),
    ("model", "show", "net"): (1, 0, 0),
    ("model", "show", "net/w"): (1, 0, 0),
    ("model", "show", "nope"): (1, 1, 1),
    ("model", "diff", "net"): (1, 0, 0),
    ("model", "diff", "net", "net"): (1, 0, 0),
    ("model", "diff", "HEAD", "nope"): (1, 1, 1),
    ("model", "stats", "net", "w", "--bins", "3"): (1, 0, 0),
    ("model", "stats", "nope"): (1, 1, 1),
    ("model", "export", "net", "--to", "{folder}/out.safetensors", "--force"): (1, 0, 0),
    ("model", "export", "nope", "--to", "{folder}/nope.safetensors"): (1, 1, 1),
    ("model", "import", "nope.npz"): (1, 1, 1),
    ("git", "status"): (0, 0, 0),
    ("git", "install", "--dry-run"): (2, 2, 2),
    ("git", "uninstall"): (2, 2, 2),
    ("git", "merge-driver", "nope", "nope", "nope", "7", "head.stock"): (1, 1, 1),
    ("git", "hook", "pre-push", "origin", "url"): (2, 2, 2),
    ("model", "import", "{folder}/net.safetensors"): (0, 0, 1),
    ("model", "import", "{folder}/net.safetensors", "--no-commit"): (0, 0, 1),
}
COMMANDS = list(EXPECTED)


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("material") / "wine.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    save_file({"w": np.arange(3.0)}, path.with_name("net.safetensors"))
    return path


@pytest.fixture
def state(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the working directory what the name says."""
    monkeypatch.chdir(tmp_path)
    if request.param != "none":
        StockRoom.init(tmp_path).close()
    if request.param == "dirty":
        fill(tmp_path)
    return str(request.param)


def fill(root: Path, *, has_packs: bool = True) -> None:
    with StockRoom(root, enable_write=True) as writer:
        writer.data["caption"] = {"one": "eins", "two": "zwei"}
        if has_packs:
            writer.data["image"] = np.arange(2048, dtype="u1").reshape(2, 32, 32)
        writer.experiment["lr"] = 0.1
        writer.experiment.log({"loss": 0.5}, 0)
        writer.model["net"] = {"w": np.arange(3.0), "epoch": 2}
        writer.commit("first")
        writer.data["caption"]["two"] = "deux"


def check_streams(command: tuple[str, ...], code: int, out: str, err: str, *, as_json: bool) -> None:
    assert "Traceback" not in err
    answered = code == 0 or (command == ("diff", "--exit-code") and code == 1)
    if not answered:
        assert out == ""
        assert len(err.splitlines()) == 1
    if as_json and answered:
        document = json.loads(out)
        assert (document["version"], document["command"]) == (1, find_verb(command))
        assert err == ""
    elif as_json:
        error = json.loads(err)["error"]
        assert error["exit_code"] == code
        assert error["message"]
    elif not answered:
        assert err.startswith("stock: ")


def find_verb(command: tuple[str, ...]) -> str:
    """The verb as it is listed, with the one that it stands under."""
    first = ALIASES.get(command[0], command[0])
    return f"{first} {command[1]}" if first in GROUPS else first


def test_every_verb_is_in_the_table() -> None:
    below = {f"{name} {verb}" for name, group in GROUPS.items() for verb in group.verbs}
    assert set(map(find_verb, COMMANDS)) == set(VERBS) | below


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("state", ["none", "fresh", "dirty"], indirect=True)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_code_and_streams_are_as_documented(
    command: tuple[str, ...], state: str, as_json: bool, wine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(wine=wine, folder=wine.parent) for word in command]
    code = main([*words, "--json"] if as_json else words)
    out, err = capsys.readouterr()
    fresh, dirty, _ = EXPECTED[command]
    outside = 0 if command[0] == "init" else NO_REPOSITORY
    if command == ("import", "nope") or command[:2] == ("git", "merge-driver"):
        outside = 1  # what cannot be imported anywhere is said first
    if command[:2] == ("git", "hook"):
        outside = 2  # it needs a work tree of git
    if command[0] in ("completion", "clone") or command in (
        ("du", "-n", "1"),
        ("config", "--unset"),
        ("log", "--since", "soon"),
    ):
        outside = fresh  # said before any repository is looked for, or a clone, which needs none
    assert (code, err) == ({"none": outside, "fresh": fresh, "dirty": dirty}[state], err)
    check_streams(command, code, out, err, as_json=as_json)


DRIVER = """
import contextlib, io, json, sys
from stockroom.cli import main

def call(words):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return [code, *texts]

print(json.dumps([call(words) for words in json.loads(sys.argv[1])]))
"""


@pytest.fixture(params=[True, False], ids=["packs", "no packs"])
def read_only(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A repository with staged changes, in which nothing may be written."""
    StockRoom.init(tmp_path).close()
    fill(tmp_path, has_packs=request.param)
    paths = [tmp_path, *tmp_path.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    yield tmp_path
    for path, mode in modes.items():
        path.chmod(mode)


def give_up_writing_anywhere() -> None:
    """Root writes where modes forbid it, unless it gives up CAP_DAC_OVERRIDE for what it starts."""
    if os.geteuid() == 0:
        pr_capbset_drop, cap_dac_override = 24, 1
        if ctypes.CDLL(None, use_errno=True).prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0) != 0:
            os._exit(77)


def call_without_rights(commands: list[list[str]], root: Path) -> list[tuple[int, str, str]]:
    """Code, stdout and stderr of each command, all run in one process that may not write in `root`."""
    answer = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(commands)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        preexec_fn=give_up_writing_anywhere,
    )
    if answer.returncode == 77:
        pytest.skip("root cannot give up its right to write here")
    assert answer.returncode == 0, answer.stderr
    return [(code, out, err) for code, out, err in json.loads(answer.stdout)]


def test_reading_works_and_writing_is_refused_where_nothing_may_be_written(read_only: Path, wine: Path) -> None:
    words = [[word.format(wine=wine, folder=wine.parent) for word in command] for command in COMMANDS]
    texts = call_without_rights(words, read_only)
    documents = call_without_rights([[*command, "--json"] for command in words], read_only)
    expected = {" ".join(command): codes[2] for command, codes in EXPECTED.items()}
    assert dict(zip(expected, (code for code, _, _ in texts), strict=True)) == expected
    assert dict(zip(expected, (code for code, _, _ in documents), strict=True)) == expected
    for command, text, document in zip(COMMANDS, texts, documents, strict=True):
        check_streams(command, *text, as_json=False)
        check_streams(command, *document, as_json=True)
