"""The command line as the shell sees it: real processes, pipes, signals, and what start-up imports."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.kit.programs import STOCK, run_stock

from stockroom import LockedError, StockRoom


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with one commit: a column of 20,000 int labels."""
    StockRoom.init(tmp_path, name="Ada", email="ada@example.org").close()
    with StockRoom(tmp_path, enable_write=True) as writer:
        writer.data["label"] = np.arange(20_000)
        writer.commit("first")
    return tmp_path


def test_what_one_process_stages_another_shows_commits_and_resets(repo: Path) -> None:
    StockRoom(repo).create_branch("other")
    write = "from stockroom import StockRoom; s = StockRoom(enable_write=True); s.data['label'][{}] = -1; s.close()"
    subprocess.run([sys.executable, "-c", write.format(0)], cwd=repo, check=True)
    status = json.loads(run_stock(repo, "status", "--json").stdout)
    assert status["changes"]["data/label"]["changed"] == 1
    refused = run_stock(repo, "checkout", "other")
    assert (refused.returncode, refused.stdout) == (14, "")
    assert "commit" in refused.stderr
    assert "reset" in refused.stderr
    committed = run_stock(repo, "commit", "-m", "relabelled")
    assert committed.returncode == 0
    assert run_stock(repo, "commit", "-m", "again").returncode == 1
    assert StockRoom(repo).commit_id == committed.stdout.strip()
    assert int(StockRoom(repo).data["label"][0]) == -1
    subprocess.run([sys.executable, "-c", write.format(1)], cwd=repo, check=True)
    assert run_stock(repo, "reset").returncode == 0
    assert "Nothing staged" in run_stock(repo, "status").stdout


def test_a_second_writer_is_told_who_holds_the_stage(repo: Path) -> None:
    with StockRoom(repo, enable_write=True):
        answer = run_stock(repo, "commit", "-m", "x", "--timeout", "0", "--json")
    assert (answer.returncode, answer.stdout) == (11, "")
    error = json.loads(answer.stderr)["error"]
    assert (error["type"], error["pid"]) == ("LockedError", os.getpid())


def test_a_writer_in_a_notebook_is_to_be_closed_and_not_ended(repo: Path) -> None:
    hold = (
        "import sys, types; sys.modules['ipykernel'] = types.ModuleType('ipykernel')\n"
        "from stockroom import StockRoom; stock = StockRoom(enable_write=True); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], cwd=repo, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as notebook:
        assert notebook.stdout is not None
        notebook.stdout.readline()
        answer = run_stock(repo, "commit", "-m", "x", "--timeout", "0")
        notebook.communicate("\n")
    assert answer.returncode == 11
    assert f"a notebook (process {notebook.pid} on " in answer.stderr
    assert "close its handle there with `stock.close()`" in answer.stderr


def test_another_handle_of_the_same_process_is_named_as_such(repo: Path) -> None:
    with StockRoom(repo, enable_write=True), pytest.raises(LockedError, match="this process itself") as caught:
        StockRoom(repo, enable_write=True, timeout_s=0)
    assert caught.value.pid == os.getpid()


@pytest.mark.parametrize("command", ["log", "log --json", "cat data/label/0", "ls"])
def test_closed_output_is_an_error_in_one_line(repo: Path, command: str) -> None:
    program = " ".join(map(shlex.quote, STOCK))
    answer = subprocess.run(f"{program} {command} >&-", shell=True, cwd=repo, stderr=subprocess.PIPE, text=True)
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "cannot write to standard output: Bad file descriptor" in answer.stderr


def test_output_to_a_full_disk_is_an_error_that_names_the_output(repo: Path) -> None:
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run([*STOCK, "log"], cwd=repo, stdout=full, stderr=subprocess.PIPE, text=True)
    assert answer.returncode == 1
    assert answer.stderr == "stock: cannot write to standard output: No space left on device; nothing else failed\n"


def test_a_folder_of_any_name_can_be_a_repository(tmp_path: Path) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    assert subprocess.run([*STOCK, "init", folder], cwd=tmp_path).returncode == 0
    with StockRoom(folder) as stock, stock.enable_write("first"):
        stock.data["label"] = np.arange(20)
    assert run_stock(Path(folder), "fsck").returncode == 0
    assert run_stock(Path(folder), "ls", "data/label").stdout.splitlines() == list(map(str, range(20)))


def test_a_reader_that_has_seen_enough_ends_the_listing_quietly(repo: Path) -> None:
    with subprocess.Popen(
        [*STOCK, "ls", "data/label"], cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


def test_an_interrupt_ends_with_130_and_one_line(repo: Path) -> None:
    fifo = repo / "message"
    os.mkfifo(fifo)
    command = [*STOCK, "commit", "-F", str(fifo)]
    with (
        subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        fifo.open("w"),  # opening waits until the process reads
    ):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "stock: interrupted\n")


def test_help_and_version_import_neither_numpy_nor_the_library(tmp_path: Path) -> None:
    probe = (
        "import sys; from stockroom.cli import main; main(['--version']); main(['--help']); main(['nope']);"
        "print(sorted(set(sys.modules) & {'numpy', 'lmdb', 'rich', 'stockroom.shelves'}), file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stderr.splitlines()[-1] == "[]"


WRITING = {
    "stockroom.store.tensor_writer",
    "stockroom.shelves.model.state_writer",
    "stockroom.repository.writing.stage_workspace",
}
MERGING = {"stockroom.content.merge.content", "stockroom.repository.merging.commands", "stockroom.trees.merge"}
TRANSFER = {"stockroom.remotes.agent.fetcher", "stockroom.remotes.push", "secrets"}
ELSEWHERE = {"rich", "zarr", "torch", "asyncio", "http"}


@pytest.mark.parametrize("verb", ["status", "log", "ls", "branch", "diff"])
def test_commands_that_read_load_nothing_that_they_do_not_need(repo: Path, verb: str) -> None:
    needless = WRITING | MERGING | TRANSFER | ELSEWHERE
    probe = (
        f"import sys; from stockroom.cli import main; code = main([{verb!r}]);"
        f"print(sorted(set(sys.modules) & {needless!r}), file=sys.stderr);"
        "sys.exit(code)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", probe], cwd=repo, capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stderr.splitlines()[-1] == "[]"


def test_output_in_an_encoding_that_lacks_a_character_still_comes(repo: Path) -> None:
    with StockRoom(repo, enable_write=True) as writer:
        writer.data["caption"] = {"ключ": "значение"}
        writer.commit("имя")
    answer = subprocess.run(
        [*STOCK, "log", "--oneline"],
        cwd=repo,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0
    assert b"\\u0438\\u043c\\u044f" in answer.stdout
