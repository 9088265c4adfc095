"""What tests of the tie to git have in common: git and `stock` as real programs, in folders that nothing else sees."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
from tests.kit import programs

from stockroom import StockRoom

# Nobody's own settings, names or hooks: what these tests see is the same on every machine.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_EDITOR": "true",
    "LC_ALL": "C",
}


def try_git(folder: Path, *words: object, **options: str) -> subprocess.CompletedProcess[str]:
    """Run git, whatever its exit code."""
    return subprocess.run(
        ["git", "-C", str(folder), *map(str, words)],
        env={**ENVIRONMENT, **options},
        capture_output=True,
        text=True,
        timeout=120,
    )


def git(folder: Path, *words: object) -> str:
    """What git prints; an assertion fails if it fails."""
    done = try_git(folder, *words)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.strip()


def run_stock(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run `stock`, whatever its exit code."""
    return programs.run_stock(folder, *words, env=ENVIRONMENT)


def stock(folder: Path, *words: object) -> str:
    """What `stock` prints; an assertion fails if it fails."""
    done = run_stock(folder, *words)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.strip()


def stock_json(folder: Path, *words: object) -> dict[str, object]:
    """The document that `stock` prints with `--json`."""
    document: dict[str, object] = json.loads(stock(folder, *words, "--json"))
    assert document["version"] == 1
    return document


def make_project(folder: Path) -> Path:
    """A git repository on main with a Stockroom repository beside it, nothing committed in either."""
    git(folder.parent, "init", "-q", "-b", "main", folder)
    StockRoom.init(folder, name="Ada", email="ada@example.org").close()
    return folder


def commit_data(folder: Path, value: int, message: str, *, column: str = "x") -> str:
    """Set a column to three samples of `value`, with a commit here and one of git's; the id of ours."""
    commit_id = write(folder, value, message, column=column)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
    return commit_id


def write(folder: Path, value: int, message: str, *, column: str = "x") -> str:
    """Set a column to three samples of `value`, and commit; git is not asked."""
    with StockRoom(folder) as handle:
        with handle.enable_write(message):
            handle.data[column] = np.full((3, 100), value)
        assert handle.commit_id is not None
        return handle.commit_id


def read(folder: Path, column: str = "x") -> int:
    """The value that the column's first sample has."""
    with StockRoom(folder) as handle:
        return int(handle.data[column][0][0])


def data_files(folder: Path) -> dict[Path, tuple[int, int, bytes]]:
    """Every file below `.stockroom/packs` with its inode, time of change and content."""
    files = [path for path in (folder / ".stockroom" / "packs").rglob("*") if path.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()) for path in files}
