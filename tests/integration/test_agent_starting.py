"""One agent for a clone wherever TMPDIR points, and errors that say which agent is in the way and why."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from tests.kit.programs import end_agents, find_agents, wait_until

from stockroom import RemoteError, StockRoom, errors
from stockroom.remotes.agent import starting

SAMPLES = np.random.default_rng(6).integers(0, 256, (4, 1000), dtype=np.uint8)


def make_clone(tmp_path: Path, path: Path) -> Path:
    with StockRoom.init(tmp_path / "source") as source:
        with source.enable_write("Samples"):
            source.data["x"] = SAMPLES
        source.add_remote("origin", str(tmp_path / "remote"))
        source.push()
    StockRoom.clone(str(tmp_path / "remote"), path, metadata_only=True).close()
    return path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone without samples and without an agent, whose remote is a folder."""
    clone = make_clone(tmp_path, tmp_path / "clone")
    end_agents(clone)
    return clone


def read(clone: Path, sample: int = 0) -> None:
    with StockRoom(clone) as stock:
        assert np.array_equal(stock.data["x"][sample], SAMPLES[sample])


READ_AND_STAY = """
import sys
from stockroom import StockRoom
with StockRoom(sys.argv[1]) as stock:
    stock.data["x"][int(sys.argv[2])]
    print("read", flush=True)
    sys.stdin.read()
"""


def test_jobs_with_a_tmpdir_of_their_own_share_the_agent_of_a_clone_with_a_long_path(tmp_path: Path) -> None:
    parent = tmp_path.joinpath(*["a-folder-with-a-long-name-" * 3] * 4)
    parent.mkdir(parents=True)
    clone = make_clone(tmp_path, parent / "clone")
    assert len(str(clone)) > 300
    with ExitStack() as stack:
        for sample in range(2):
            own = tmp_path / f"tmp{sample}"
            own.mkdir()
            job = subprocess.Popen(
                [sys.executable, "-c", READ_AND_STAY, str(clone), str(sample)],
                env={**os.environ, "TMPDIR": str(own)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.enter_context(job)
            assert job.stdout is not None
            assert job.stdout.readline() == b"read\n"
            assert list(own.iterdir()) == []
        assert len(find_agents(clone)) == 1


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that this process takes for its Python, and starts agents with."""
    path = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(path))
    return path


def test_an_agent_that_cannot_start_is_tried_once_and_its_last_words_are_in_the_error(
    clone: Path, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python.write_text(
        f"#!/bin/sh\necho start >> {tmp_path}/starts\necho first >&2\necho 'no module numpy' >&2\nexit 1\n"
    )
    python.chmod(0o700)
    for count in (1, 2):
        with pytest.raises(RemoteError, match=r"clone did not start; .*log: no module numpy \(.*/agent/log\)"):
            read(clone)
        assert (tmp_path / "starts").read_text() == "start\n" * count
    python.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(RemoteError, match="did not start; it wrote nothing into its log"):
        read(clone)
    monkeypatch.undo()
    read(clone)


def test_a_python_that_is_gone_is_an_error_that_names_it(clone: Path, python: Path) -> None:
    with pytest.raises(RemoteError, match=f"cannot be started by {python}: No such file"):
        read(clone)


def test_an_agent_that_is_stopped_is_named_with_its_start_and_what_to_do(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StockRoom(clone) as stock:
        assert np.array_equal(stock.data["x"][0], SAMPLES[0])
        (agent,) = find_agents(clone)
        message = (
            rf"the fetch agent of .*clone, process {agent} \(Stockroom [0-9.]+, since [0-9T:+-]+\), "
            rf"has not answered for 0.5 s: .*`kill -CONT {agent}`, else `kill -9 {agent}`"
        )
        os.kill(agent, signal.SIGSTOP)
        try:
            state = Path(f"/proc/{agent}/stat")
            assert wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", 20)
            monkeypatch.setattr(starting, "SILENCE_S", 0.5)
            for connection in stock._repository.tensors.fetcher._agent._idle:  # type: ignore[attr-defined]
                connection.socket.settimeout(0.5)
            with pytest.raises(errors.TimeoutError, match=message):
                stock.data["x"][1]  # over the connection it has
            with pytest.raises(errors.TimeoutError, match=message):
                read(clone, 1)  # over a new one
        finally:
            os.kill(agent, signal.SIGCONT)
        monkeypatch.undo()
        assert np.array_equal(stock.data["x"][1], SAMPLES[1])


OLDER = """
import fcntl, os, pathlib, socket, struct, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir(exist_ok=True)
lock = open(folder / "lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
os.chdir(folder)
listener.bind("socket-2")  # an address is limited to about 100 bytes
listener.listen()
print("listens", flush=True)
connection, _ = listener.accept()
body = b"\\x93\\xa7Welcome\\x02\\xce" + struct.pack(">I", os.getpid())
connection.sendall(struct.pack("<I", len(body)) + body)
print("was asked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def older(clone: Path) -> Iterator[subprocess.Popen[str]]:
    """An agent of the protocol before this one; it leaves when its stdin ends."""
    command = [sys.executable, "-c", OLDER, str(clone / ".stockroom/agent")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        yield process


def test_an_older_agent_that_stays_is_named(
    clone: Path, older: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_LEAVING_S", 0.2)
    with pytest.raises(RemoteError, match=rf"is process {older.pid} \(since .*\), of protocol 2 .*does not leave"):
        read(clone)


def test_an_older_agent_that_leaves_is_waited_for(clone: Path, older: subprocess.Popen[str]) -> None:
    reader = threading.Thread(target=read, args=(clone,))
    reader.start()
    assert older.stdout is not None
    assert older.stdin is not None
    assert older.stdout.readline() == "was asked\n"
    older.stdin.close()
    reader.join(60)
    assert not reader.is_alive()
    assert len(find_agents(clone)) == 1
    read(clone, 1)


def test_a_process_that_holds_the_lock_and_does_not_listen_is_named(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "_STARTING_S", 0.2)
    (clone / ".stockroom/agent").mkdir(exist_ok=True)
    command = ["flock", str(clone / ".stockroom/agent/lock"), "sh", "-c", "echo holds; read line"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holds\n"
        with pytest.raises(
            errors.TimeoutError, match=rf"does not listen: process {holder.pid} \(since .* holds its lock"
        ):
            read(clone)
        assert holder.stdin is not None
        holder.stdin.close()
    monkeypatch.undo()
    read(clone)


def test_an_agent_that_was_killed_is_not_taken_for_the_one_after_it(clone: Path) -> None:
    with StockRoom(clone) as stock:
        stock.data["x"][0]
        (killed,) = find_agents(clone)
        os.kill(killed, signal.SIGKILL)
        assert wait_until(lambda: find_agents(clone) == [], 20)
        assert np.array_equal(stock.data["x"][1], SAMPLES[1])
        (agent,) = find_agents(clone)
        assert re.search(rf'"pid":{agent},', (clone / ".stockroom/agent/lock").read_text())
