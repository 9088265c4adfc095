"""The program `git`, for facts that git's files alone do not tell, and for all changes to git's own files.

It runs in a work tree, without a shell, without the variables with which a parent git selects another repository, and
without the monitor that a repository's own settings could name. Paths are literal.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from stockroom.errors import GitError

_TIMEOUT_S: Final = 120.0
_OPTIONS: Final = ("--no-pager", "--no-optional-locks", "--literal-pathspecs", "-c", "core.fsmonitor=false")
_MAX_WORDS: Final = 300
_MAX_CONFLICTS: Final = 127
"""`git merge-file` exits with the number of conflicts up to this limit, and with more only if it fails."""

# The variables of `git rev-parse --local-env-vars`, except settings: we say ourselves which repository is meant.
_LOCAL_VARIABLES: Final = frozenset(
    [
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_OBJECT_DIRECTORY",
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_GRAFT_FILE",
        "GIT_INDEX_FILE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_REPLACE_REF_BASE",
        "GIT_PREFIX",
        "GIT_SHALLOW_FILE",
        "GIT_COMMON_DIR",
        "GIT_INTERNAL_SUPER_PREFIX",
    ]
)


def run_git(folder: Path, *arguments: str, content: bytes = b"", timeout_s: float = _TIMEOUT_S) -> bytes:
    """Return the output of git, run in a folder with `content` as its input.

    Raises `GitError`, with git's own message, if it is not installed, fails or takes longer than `timeout_s`.
    """
    done = _call(folder, arguments, content, timeout_s)
    if done.returncode != 0:
        raise _explain_failure(folder, arguments[0], done)
    return done.stdout


def find_git_output(folder: Path, *arguments: str) -> bytes | None:
    """Return the output of git; None if it exits with code 1, which means no."""
    done = _call(folder, arguments)
    if done.returncode == 1:
        return None
    if done.returncode != 0:
        raise _explain_failure(folder, arguments[0], done)
    return done.stdout


def merge_text(folder: Path, ours: Path, base: Path, theirs: Path, *, marker_nbytes: int) -> None:
    """Merge two versions of a small text into the file `ours`, with markers at conflicts."""
    labels = [word for label in ("ours", "base", "theirs") for word in ("-L", label)]
    files = [str(path.resolve()) for path in (ours, base, theirs)]
    done = _call(folder, ("merge-file", f"--marker-size={marker_nbytes}", *labels, *files))
    if done.returncode > _MAX_CONFLICTS:
        raise _explain_failure(folder, "merge-file", done)


def _explain_failure(folder: Path, command: str, done: subprocess.CompletedProcess[bytes]) -> GitError:
    words = " ".join(done.stderr.decode("utf-8", "replace").split())[:_MAX_WORDS]
    return GitError(f"git {command} failed in {folder}: {words or f'exit code {done.returncode}'}")


def _call(
    folder: Path, arguments: tuple[str, ...], content: bytes = b"", timeout_s: float = _TIMEOUT_S
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - no shell; every argument is our own or follows `--`
            ["git", "-C", str(folder), *_OPTIONS, *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            input=content,
            env=_make_environment(),
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise GitError("git was not found; install it and check that it is on PATH") from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {arguments[0]} in {folder} took longer than {timeout_s:g} s; try again") from error


def _make_environment() -> dict[str, str]:
    """Return this process's environment, in plain English and without variables that point git elsewhere.

    No protocol is allowed: otherwise a partial clone's own settings would have git fetch missing objects from a server
    or by a program that they name.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _LOCAL_VARIABLES}
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ""}
