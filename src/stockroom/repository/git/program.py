"""The program `git`, for facts that git's files alone do not tell, and for all changes to git's own files.

It runs in a work tree, without a shell and without the variables with which a parent git selects another repository.
Paths are literal. No program runs that the settings of a work tree name: no monitor, hook, filter, transport or driver.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stockroom.errors import GitError
from stockroom.files import find_regular
from stockroom.repository.git.work_tree import GitWorkTree

if TYPE_CHECKING:
    import subprocess

_TIMEOUT_S: Final = 120.0
_OPTIONS: Final = ("--no-pager", "--no-optional-locks", "--literal-pathspecs")
_SETTINGS: Final = (
    "core.fsmonitor=false",
    "diff.submodule=short",  # `diff` would run git in the submodule, by the settings there
    "safe.bareRepository=explicit",  # a folder with a broken `.git` could be a bare repository itself
)
_NO_HOOKS: Final = f"core.hooksPath={os.devnull}"
_FILTER: Final = re.compile(rb"(filter\..*)\.(?:clean|smudge|process|required)", re.DOTALL)
_MAX_CONFIG_NBYTES: Final = 1 << 20
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


def run_git(
    folder: Path,
    *arguments: str,
    content: bytes = b"",
    timeout_s: float = _TIMEOUT_S,
    settings: Mapping[str, str] | None = None,
) -> bytes:
    """Return the output of git, run in a folder with `content` as its input, with more `settings` by key.

    Raises `GitError`, with git's own message, if it is not installed, fails or takes longer than `timeout_s`.
    """
    done = _call(folder, arguments, content, timeout_s, settings)
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


def silence_filters(work_tree: GitWorkTree) -> dict[str, str]:
    """Return the settings with which git compares files without running a filter, be it the folder's or the user's.

    A filter of the user's own, such as that of git-lfs, runs programs that the settings of a folder name.
    """
    configs = (work_tree.common_dir / "config", work_tree.git_dir / "config.worktree")
    contents = tuple(find_regular(config, max_nbytes=_MAX_CONFIG_NBYTES) for config in configs)
    if contents[0] is None or any(b"include" in (content or b"").lower() for content in contents):
        return _list_filters(work_tree.root)
    return _list_filters_once(work_tree.root, contents)


def _list_filters(root: Path) -> dict[str, str]:
    keys = run_git(root, "config", "--list", "--name-only", "-z").split(b"\0")
    names = {os.fsdecode(found[1]) for found in map(_FILTER.fullmatch, keys) if found}
    return {f"{name}.{key}": "" for name in sorted(names) for key in ("clean", "smudge", "process")} | {
        f"{name}.required": "false" for name in sorted(names)
    }


@lru_cache(16)
def _list_filters_once(root: Path, contents: tuple[bytes | None, ...]) -> dict[str, str]:  # noqa: ARG001
    return _list_filters(root)


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
    folder: Path,
    arguments: tuple[str, ...],
    content: bytes = b"",
    timeout_s: float = _TIMEOUT_S,
    settings: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    import subprocess  # here for start-up time

    fixed = _SETTINGS if arguments[0] == "rev-parse" else (*_SETTINGS, _NO_HOOKS)  # it tells where the hooks are
    options = [*_OPTIONS, *(word for setting in fixed for word in ("-c", setting))]
    try:
        return subprocess.run(  # noqa: S603 - no shell; every argument is our own or follows `--`
            ["git", "-C", str(folder), *options, *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            input=content,
            env=_make_environment(folder, settings or {}),
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise GitError("git was not found; install it and check that it is on PATH") from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {arguments[0]} in {folder} took longer than {timeout_s:g} s; try again") from error


def _make_environment(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, in plain English and without variables that point git elsewhere.

    No protocol is allowed: otherwise a partial clone's own settings would have git fetch missing objects from a server
    or by a program that they name. `settings` go here, since a key on the command line cannot contain every character.
    """
    made = {name: value for name, value in os.environ.items() if name not in _LOCAL_VARIABLES}
    made |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1"}
    above = str(folder.parent)
    if os.pathsep not in above:  # otherwise the folder's own `.git` is the only thing that keeps git in it
        made["GIT_CEILING_DIRECTORIES"] = above
    given = made.get("GIT_CONFIG_COUNT", "")
    first = int(given) if given.isdecimal() else 0
    for number, (key, value) in enumerate(settings.items(), first):
        made |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return made | {"GIT_CONFIG_COUNT": str(first + len(settings))}
