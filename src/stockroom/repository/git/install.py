"""The changes that `stock git install` makes in a git repository, as steps that can be shown, applied and undone.

Settings are those of this one git repository; hooks and attributes that are not ours stay as they are.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from stockroom.errors import ConflictError
from stockroom.files import FILE_MODE, find_regular, make_folder, replace_own_file
from stockroom.repository.git.program import find_git_output, run_git
from stockroom.repository.git.work_tree import GitWorkTree
from stockroom.repository.head import HEAD_NAME

PRE_PUSH: Final = "pre-push"
POST_CHECKOUT: Final = "post-checkout"

_ATTRIBUTES_NAME: Final = ".gitattributes"
_ATTRIBUTE: Final = f"/{HEAD_NAME} merge=stockroom".encode()
_SECTION: Final = "merge.stockroom"
_FOLDERS_KEY: Final = "stockroom.folder"
_SIGNATURE: Final = "# Made by `stock git install`; `stock git uninstall` takes it away."
_MAX_NBYTES: Final = 1 << 20


class Step(Protocol):
    """One change."""

    def describe(self) -> str:
        """Describe the effect of `apply` in a line."""

    def apply(self) -> None:
        """Make the change."""


@dataclass(frozen=True, slots=True)
class SetSetting:
    """Sets a git setting, or adds a value if `many`; `value` None removes the value `old`, or the whole section."""

    work_tree: GitWorkTree
    key: str
    value: str | None
    many: bool = False
    old: str | None = None

    def describe(self) -> str:
        """Return the equivalent command."""
        return f"git config {shlex.join(self._arguments())}"

    def apply(self) -> None:
        """Make the change."""
        run_git(self.work_tree.root, "config", *self._arguments())

    def _arguments(self) -> list[str]:
        if self.value is not None:
            return ["--local", *(["--add"] if self.many else []), self.key, self.value]
        if self.old is not None:
            return ["--local", "--fixed-value", "--unset-all", self.key, self.old]
        return ["--local", "--remove-section", self.key]


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Writes a file of the user's git repository, or deletes it if `content` is None."""

    path: Path
    content: bytes | None
    is_program: bool = False

    def describe(self) -> str:
        """Return the change in words."""
        return f"{'delete' if self.content is None else 'write'} {self.path}"

    def apply(self) -> None:
        """Make the change."""
        if self.content is None:
            self.path.unlink(missing_ok=True)
            return
        make_folder(self.path.parent)
        replace_own_file(self.path, self.content, mode=0o777 if self.is_program else FILE_MODE)


def plan_install(
    work_tree: GitWorkTree, root: Path, program: Sequence[str], *, hooks: Sequence[str] = ()
) -> list[Step]:
    """Return the missing steps of an install for the repository at `root`.

    `program` is the command that runs `stock`. Raises `ConflictError` if a hook that is not ours is in the way.
    """
    driver = shlex.join([*program, "git", "merge-driver", "--"]).replace("%", "%%")  # git expands `%` sequences
    settings = {
        f"{_SECTION}.name": "Stockroom merges head.stock",
        f"{_SECTION}.driver": f"{driver} %O %A %B %L %P",
    }
    steps: list[Step] = [
        SetSetting(work_tree, key, value) for key, value in settings.items() if _read_setting(work_tree, key) != [value]
    ]
    folder = _name_folder(work_tree, root)
    if folder not in _read_setting(work_tree, _FOLDERS_KEY):
        steps.append(SetSetting(work_tree, _FOLDERS_KEY, folder, many=True))
    lines = _read_lines(root / _ATTRIBUTES_NAME)
    if not any(map(_is_attribute, lines)):
        before = b"".join(lines)
        joint = b"" if not before or before.endswith(b"\n") else b"\n"
        steps.append(WriteFile(root / _ATTRIBUTES_NAME, b"%s%s%s\n" % (before, joint, _ATTRIBUTE)))
    return steps + [step for hook in hooks for step in _plan_hook(work_tree, hook, program)]


def plan_uninstall(work_tree: GitWorkTree, root: Path) -> list[Step]:
    """Return the steps that undo an install; settings and hooks only if no other repository here needs them."""
    folder, folders = _name_folder(work_tree, root), _read_setting(work_tree, _FOLDERS_KEY)
    steps: list[Step] = []
    if folder in folders:
        steps.append(SetSetting(work_tree, _FOLDERS_KEY, None, old=folder))
    lines = _read_lines(root / _ATTRIBUTES_NAME)
    left = [line for line in lines if not _is_attribute(line)]
    if left != lines:
        steps.append(WriteFile(root / _ATTRIBUTES_NAME, b"".join(left) if left else None))
    if set(folders) - {folder}:
        return steps
    if _read_setting(work_tree, f"{_SECTION}.driver") or _read_setting(work_tree, f"{_SECTION}.name"):
        steps.append(SetSetting(work_tree, _SECTION, None))
    hooks = [locate_hooks_folder(work_tree) / name for name in (PRE_PUSH, POST_CHECKOUT)]
    return steps + [WriteFile(path, None) for path in hooks if is_ours(path)]


def has_driver(work_tree: GitWorkTree, root: Path) -> bool:
    """Return whether git merges the `head.stock` at `root` with our driver."""
    is_named = any(map(_is_attribute, _read_lines(root / _ATTRIBUTES_NAME)))
    return is_named and bool(_read_setting(work_tree, f"{_SECTION}.driver"))


def list_folders(work_tree: GitWorkTree) -> list[Path]:
    """Return the repositories in a work tree that something is installed for."""
    return [Path(os.path.normpath(work_tree.root / name)) for name in _read_setting(work_tree, _FOLDERS_KEY)]


def locate_hooks_folder(work_tree: GitWorkTree) -> Path:
    """Return the folder where git looks for hooks."""
    found = run_git(work_tree.root, "rev-parse", "--git-path", "hooks").removesuffix(b"\n")
    return work_tree.root / os.fsdecode(found)


def is_ours(hook: Path) -> bool:
    """Return whether we installed a hook."""
    content = find_regular(hook, max_nbytes=_MAX_NBYTES)
    return content is not None and _SIGNATURE.encode() in content.splitlines()[:2]


def _plan_hook(work_tree: GitWorkTree, name: str, program: Sequence[str]) -> list[Step]:
    path = locate_hooks_folder(work_tree) / name
    command = shlex.join([*program, "git", "hook", name, "--"]) + ' "$@"'
    gone = f"stock: {program[0]} is gone: run `stock git install --hooks` again, or delete {path}"
    text = "\n".join(
        [
            "#!/bin/sh",
            _SIGNATURE,
            f"[ -x {shlex.quote(program[0])} ] || {{ printf '%s\\n' {shlex.quote(gone)} >&2; exit 1; }}",
            f"exec {command}",
            "",
        ]
    )
    if os.path.lexists(path) and not is_ours(path):
        raise ConflictError(f"{path} already exists and was not changed; to run both, add this line to it: {command}")
    if work_tree.common_dir not in path.parents:
        raise ConflictError(
            f"git reads hooks from {path.parent} (core.hooksPath), which other repositories may share; to install "
            f"{name} there, add this line to it: {command}"
        )
    content = os.fsencode(text)
    return [] if find_regular(path, max_nbytes=_MAX_NBYTES) == content else [WriteFile(path, content, is_program=True)]


def _read_setting(work_tree: GitWorkTree, key: str) -> list[str]:
    found = find_git_output(work_tree.root, "config", "--local", "--null", "--get-all", key)
    return [os.fsdecode(value) for value in (found or b"").split(b"\0")[:-1]]


def _read_lines(path: Path) -> list[bytes]:
    """Return the lines of a file with their line ends."""
    if not os.path.lexists(path):
        return []
    content = None if path.is_symlink() else find_regular(path, max_nbytes=_MAX_NBYTES)
    if content is None:
        raise ConflictError(f"{path}: expected a small regular file, as git does; replace it and run this again")
    return content.splitlines(keepends=True)


def _is_attribute(line: bytes) -> bool:
    return line.strip() == _ATTRIBUTE


def _name_folder(work_tree: GitWorkTree, root: Path) -> str:
    return root.relative_to(work_tree.root).as_posix()
