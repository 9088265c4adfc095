"""Whole commands: what a person waits for, from the shell's start of the process to its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from materials import Materials
from row import SECONDS, Row
from stockroom import StockRoom

COMMITS = 25
STAGED = 10
ROUNDS = 11
MOST_S = 0.35
COMMANDS = (["status"], ["log", "-n", "20"], ["ls"])


def whole_commands(materials: Materials) -> Iterator[Row]:
    """`stock status`, `log -n 20` and `ls` as processes of their own, beside a Python that does nothing, and git."""
    path = _make_repository(materials)
    idle = [sys.executable, "-c", "pass"]
    for words in COMMANDS:
        stock = [sys.executable, "-m", "stockroom.cli", *words]
        assert _run(materials, path, stock)
        pair = materials.stopwatch.compare(
            lambda _: _run(materials, path, idle),
            lambda _, stock=stock: _run(materials, path, stock),  # type: ignore[misc]
            rounds=ROUNDS,
        )
        work = f"stock {' '.join(words)}, beside python -c pass"
        limit_s, product_s = pair.limit.median_s, pair.product.median_s
        yield Row(work, SECONDS, product_s, limit=limit_s, at_most=MOST_S, rounds=ROUNDS)
    if shutil.which("git") is not None:
        times = materials.stopwatch.repeat(lambda _: _run(materials, path, ["git", "status"]), rounds=ROUNDS)
        yield Row("git status, for comparison", SECONDS, times.median_s, rounds=ROUNDS)


def _make_repository(materials: Materials) -> Path:
    """The largest history, with some commits more and some samples staged; beside it git, with one small file."""
    history = materials.open_history(materials.sizes.histories[-1])
    path = materials.folder / "commands"
    shutil.copytree(history.path, path)
    with StockRoom(path, enable_write=True) as stock:
        for number in range(COMMITS):
            stock.data["sample"][number] = materials.make_tiny()
            stock.commit(f"Change sample {number}")
        for number in range(STAGED):
            stock.data["sample"][number] = materials.make_tiny()
    if shutil.which("git") is not None:
        (path / "README").write_text("One small file\n")
        for words in (["init", "-q"], ["add", "README"]):
            _run(materials, path, ["git", *words])
    return path


def _run(materials: Materials, path: Path, command: Sequence[str]) -> str:
    """What a command prints; bytecode is kept, as that of an installed package is."""
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(materials.folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=True)
    return done.stdout
