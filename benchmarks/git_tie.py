"""The tie to git: what a checkout by git costs those who read afterwards."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from history import ROUNDS, open_first
from materials import Materials
from row import SECONDS, Row
from stockroom import StockRoom

BRANCHES = ("before", "after")
AT_LEAST = 0.84
"""Of a plain open's rate: it may take at most 1.2 times as long."""


def git_checkout(materials: Materials) -> Iterator[Row]:
    """Opening and reading the first sample after `git checkout` to and fro, beside a repository outside git."""
    count = materials.sizes.histories[-1]
    plain = materials.open_history(count).path
    tied = materials.folder / "tied"
    _tie(plain, tied)
    turns, seen = itertools.cycle(BRANCHES), set()

    def move_on(opened: object) -> None:
        assert isinstance(opened, StockRoom)
        if opened.path == tied:
            seen.add(opened.commit_id)
        opened.close()
        _run_git(tied, "checkout", "-q", next(turns))  # after either side, so that both meet what it leaves in caches

    pair = materials.stopwatch.compare(
        partial(open_first, plain), partial(open_first, tied), rounds=ROUNDS, after=move_on
    )
    assert len(seen) == len(BRANCHES)
    shutil.rmtree(tied)
    work = f"open, read the first of {count:,} after git checkout"
    yield Row(work, SECONDS, pair.product.median_s, pair.limit.median_s, at_least_ratio=AT_LEAST, rounds=ROUNDS)


def _tie(source: Path, folder: Path) -> None:
    """Make a copy of a repository with two branches in a git repository; git's branches of the same names pin them."""
    shutil.copytree(source, folder)
    _run_git(folder, "init", "-q")
    for branch in BRANCHES:
        with StockRoom(folder) as stock:
            stock.checkout(branch)
        _run_git(folder, "checkout", "-q", "--orphan", branch)
        _run_git(folder, "add", "head.stock")
        _run_git(folder, "commit", "-q", "-m", branch)
        _run_git(folder, "rm", "-q", "--cached", "head.stock")  # no tie until both are there
    _run_git(folder, "reset", "-q")


def _run_git(folder: Path, *words: str) -> None:
    identity = {
        f"GIT_{who}_{what}": "bench@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    subprocess.run(["git", "-C", str(folder), *words], check=True, env={**os.environ, **identity})
