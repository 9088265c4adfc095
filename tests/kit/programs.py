"""`stock` as a real program in a folder, its answers as text or JSON; and the fetch agents that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.kit.fork_server import ForkServer

STOCK = [sys.executable, "-m", "stockroom.cli"]
TIMEOUT_S = 120


@cache
def _start_fork_server() -> ForkServer:
    return ForkServer()


def run_stock(
    folder: Path, *words: object, env: Mapping[str, str] = os.environ, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run `stock`, whatever its exit code, in the environment `env` with `more` in it."""
    environment = {**env, **more}
    server = _start_fork_server()
    if server.can_run(environment):
        return server.run([*map(str, words)], folder=folder, environment=environment, timeout_s=TIMEOUT_S)
    return subprocess.run(
        [*STOCK, *map(str, words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        errors="surrogateescape",  # `cat` writes bytes
        timeout=TIMEOUT_S,
        check=False,
    )


def ask(folder: Path, *words: object, **more: str) -> str:
    """What `stock` prints on stdout; an assertion fails if it fails."""
    done = run_stock(folder, *words, **more)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def read_json(folder: Path, *words: object, code: int = 0) -> dict[str, Any]:
    """The one document that `stock` prints with `--json`; an assertion fails if it says anything else."""
    done = run_stock(folder, *words, "--json")
    assert (done.returncode, done.stderr) == (code, ""), done.stdout
    document: dict[str, Any] = json.loads(done.stdout, parse_constant=pytest.fail)
    verbs = 2 if words[0] in ("model", "exp", "git") else 1
    assert (document["version"], document["command"]) == (1, " ".join(map(str, words[:verbs])))
    return document


def refuse(folder: Path, *words: object, code: int = 1) -> str:
    """The one line on stderr of a command that fails."""
    done = run_stock(folder, *words)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("stock: ")
    return line


def find_agents(clone: Path) -> list[int]:
    """The process ids of a clone's fetch agents."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"stockroom.remotes.agent" in words and str(clone / ".stockroom").encode() in words:
            found.append(int(folder.name))
    return found


def end_agents(clone: Path) -> None:
    """Kill a clone's fetch agents, as that of the cloning."""
    for agent in find_agents(clone):
        os.kill(agent, signal.SIGKILL)
    assert wait_until(lambda: find_agents(clone) == [], 20)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether a condition holds in time."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
