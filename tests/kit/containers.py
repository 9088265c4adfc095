"""Programs in containers: process ids of their own, and folders mounted elsewhere or read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

_NEW = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private"]
_MOUNTS = 'set -e; mount --bind "$1" "$2"; [ "$3" = rw ] || mount -o remount,bind,ro "$2"; shift 3; exec "$@"'


@lru_cache(1)
def can_contain() -> bool:
    """Whether this process may make namespaces and mount in them."""
    if shutil.which("unshare") is None:
        return False
    words = [*_NEW, "sh", "-c", _MOUNTS, "sh", "/tmp", "/tmp", "ro", "true"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def contain(code: str, *arguments: object, mount: tuple[Path, Path, str] | None = None) -> subprocess.Popen[str]:
    """Start Python code as process 1 of a container; `mount` shows a folder in the place of another, "rw" or "ro"."""
    if not can_contain():
        pytest.skip("containers take root, `unshare` and the right to mount")
    inner: list[Any] = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    if mount is not None:
        inner = ["sh", "-c", _MOUNTS, "sh", *mount, *inner]
    return subprocess.Popen(
        [*_NEW, *map(os.fspath, map(str, inner))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], said: str = "go\n") -> str:
    """Say something to a contained program, and return the rest of what it prints. It must end well."""
    out, _ = process.communicate(said)
    assert process.returncode == 0
    return out


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a container, and return once its process is gone."""
    process.kill()
    process.communicate()  # ends with the last process that has the pipe
