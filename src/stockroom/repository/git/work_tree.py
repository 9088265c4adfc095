"""A git work tree and its folders, read from git's own files: runs nothing, and trusts nothing in them.

Anything that does not look as git writes it counts as no git, so reading a repository never depends on it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stockroom.files import find_regular, refuse_unreadable

_MAX_POINTER_NBYTES: Final = 8192
_MAX_WORK_TREES: Final = 1000
_BRANCH_PREFIX: Final = "refs/heads/"
_HEAD: Final = re.compile(r"ref:[ \t]*refs/.+|[0-9a-f]{40}|[0-9a-f]{64}")
_ELSEWHERE: Final = ".invalid"
"""The branch that HEAD names if refs are stored differently (reftable) and only git itself can tell."""


@dataclass(frozen=True, slots=True)
class GitWorkTree:
    """A work tree of git.

    Attributes:
        root: its top folder.
        git_dir: the folder for this work tree alone, with its HEAD and index.
        common_dir: the folder that all work trees of the repository share; the same folder for the main one.
    """

    root: Path
    git_dir: Path
    common_dir: Path

    @property
    def name(self) -> str | None:
        """git's name for a linked work tree; None for the main one."""
        return None if self.git_dir == self.common_dir else self.git_dir.name

    @property
    def is_elsewhere(self) -> bool:
        """Whether refs are stored in a way that only the git program reads."""
        return self._read_ref() == _ELSEWHERE

    def find_branch(self) -> str | None:
        """Return the checked-out branch, which may be unborn; None if HEAD is detached, as in a rebase or bisect."""
        ref = self._read_ref()
        return None if ref == _ELSEWHERE else ref

    def iter_roots(self, *, must_know: bool = False) -> Iterator[Path]:
        """Yield the top folders of all work trees of the repository, the main one first.

        With `must_know`, raises `UnreadableError` if one may be missing since something cannot be read.
        """
        if self.common_dir.name == ".git":
            yield self.common_dir.parent
        try:
            linked = sorted((self.common_dir / "worktrees").iterdir())[:_MAX_WORK_TREES]
        except OSError as error:
            if must_know:
                refuse_unreadable(error, self.common_dir)
            return
        for git_dir in linked:
            pointer = _read_pointer(git_dir / "gitdir", b"", must_know=must_know)
            if pointer is not None:
                yield (git_dir / pointer).parent

    def _read_ref(self) -> str | None:
        path = self.git_dir / "HEAD"
        if path.is_symlink():  # as very old versions of git wrote it
            target = str(path.readlink())
            return target.removeprefix(_BRANCH_PREFIX) if target.startswith(_BRANCH_PREFIX) else None
        ref = _read_pointer(path, b"ref:")
        if ref is None or not ref.startswith(_BRANCH_PREFIX):
            return None
        return ref.removeprefix(_BRANCH_PREFIX)


def find_work_tree(folder: Path, *, must_know: bool = False) -> GitWorkTree | None:
    """Return the git work tree that contains a folder; None if there is none, or it cannot be understood.

    With `must_know`, raises `UnreadableError` if there may be one that cannot be read.
    """
    for name in _iter_up(str(folder)):  # str, not Path: this runs at every commit
        mode = _find_mode(f"{name}/.git", must_know=must_know)
        if mode is None:
            continue
        root, entry = Path(name), Path(name, ".git")
        if stat.S_ISDIR(mode):
            if _is_git_dir(entry, must_know=must_know):
                return _open_work_tree(root, entry, must_know=must_know)
        elif stat.S_ISREG(mode):
            pointer = _read_pointer(entry, b"gitdir:", must_know=must_know)
            git_dir = None if pointer is None else Path(os.path.normpath(root / pointer))
            if git_dir is None or not _is_git_dir(git_dir, must_know=must_know):
                return None
            return _open_work_tree(root, git_dir, must_know=must_know)
    return None


def _open_work_tree(root: Path, git_dir: Path, *, must_know: bool) -> GitWorkTree | None:
    """Return the work tree; a linked one only if its repository knows it, so that no folder can claim another's."""
    pointer = _read_pointer(git_dir / "commondir", b"", must_know=must_know)
    if pointer is None:
        return GitWorkTree(root, git_dir, git_dir)
    common_dir = Path(os.path.normpath(git_dir / pointer))
    back = _read_pointer(git_dir / "gitdir", b"", must_know=must_know)
    is_known = git_dir.parent == common_dir / "worktrees" and back is not None
    if not is_known or not _is_same_file(git_dir / str(back), root / ".git"):
        return None
    return GitWorkTree(root, git_dir, common_dir)


def _is_git_dir(path: Path, *, must_know: bool) -> bool:
    head = path / "HEAD"
    if head.is_symlink():
        return True
    text = _read_pointer(head, b"", must_know=must_know)
    return text is not None and _HEAD.fullmatch(text) is not None


def _read_pointer(path: Path, prefix: bytes, *, must_know: bool = False) -> str | None:
    """Return the text after `prefix` in a one-line file."""
    content = find_regular(path, max_nbytes=_MAX_POINTER_NBYTES, must_know=must_know)
    if content is None or not content.startswith(prefix):
        return None
    line = content.removeprefix(prefix).strip(b" \t\r\n")
    return os.fsdecode(line) if line and b"\n" not in line and b"\0" not in line else None


def _iter_up(folder: str) -> Iterator[str]:
    while True:
        yield folder
        above = os.path.dirname(folder)  # noqa: PTH120
        if above == folder:
            return
        folder = above


def _find_mode(path: str, *, must_know: bool) -> int | None:
    try:
        return os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        if must_know:
            refuse_unreadable(error, path)
        return None


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
