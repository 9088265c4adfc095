"""`head.stock` in git's history: the commits of ours that git pins, and the carrier of each.

Versions of the file are searched for the commits they name, not parsed: a version in conflict, or one written by a
newer Stockroom, pins its commits too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from stockroom.digest import CommitId
from stockroom.files import exists
from stockroom.repository.git.program import run_git
from stockroom.repository.git.tie import Tie
from stockroom.repository.git.work_tree import GitWorkTree, find_work_tree
from stockroom.repository.head import HEAD_NAME

_NAMED: Final = re.compile(rb"^commit ([0-9a-f]{64})\r?$", re.MULTILINE)
_ADDED: Final = re.compile(rb"^\+commit ([0-9a-f]{64})\r?$", re.MULTILINE)
_MAX_VERSION_NBYTES: Final = 4096
_MAX_LOGGED: Final = 10_000
_LOG_TIMEOUT_S: Final = 20.0
_AS_THEY_ARE: Final = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--no-show-signature")


def read_git_roots(root: Path) -> frozenset[CommitId]:
    """Return the commits that git's history pins for a repository at `root`; they must not be pruned.

    It reads every version of `head.stock` that is reachable from a branch, tag, stash, reflog or index of the git
    repository. Some of the commits may not be here. Outside git there are none. Raises `GitError` if git cannot be
    asked, or `UnreadableError` if it is unknown whether there is a git repository; then nothing may be pruned.
    """
    work_tree = find_work_tree(root, must_know=True)
    if work_tree is None:
        return frozenset()
    path = (root.relative_to(work_tree.root) / HEAD_NAME).as_posix()
    blobs = _list_versions(work_tree, path, ["--all", "--reflog"])
    for other in work_tree.iter_roots(must_know=True):
        if exists(other / ".git"):
            blobs |= _list_indexed(other, path)
    return _read_named(work_tree, blobs)


def parse_named(text: bytes) -> frozenset[CommitId]:
    """Return the commits that a version of `head.stock` names, in conflict or not."""
    return frozenset(CommitId(bytes.fromhex(one.decode())) for one in _NAMED.findall(text))


def read_carriers(tie: Tie) -> dict[CommitId, str]:
    """Return our commits with their carriers (full hex), from the newest 10,000 file versions on branches and tags."""
    path = tie.locate(HEAD_NAME)
    asked = ("--all", "--full-history", "-m", "-p", "-U0", "--format=%x00%H", f"--max-count={_MAX_LOGGED}")
    logged = run_git(tie.work_tree.root, "log", *asked, *_AS_THEY_ARE, "--", path, timeout_s=_LOG_TIMEOUT_S)
    carriers: dict[CommitId, str] = {}
    for entry in logged.split(b"\0")[1:]:
        git_commit, _, patch = entry.partition(b"\n")
        for added in _ADDED.findall(patch):
            carriers[CommitId(bytes.fromhex(added.decode()))] = git_commit.decode()  # newest first: the oldest wins
    return carriers


def read_pinned(tie: Tie, git_commits: Sequence[str]) -> dict[str, CommitId | None]:
    """Return the commit in `head.stock` at each git commit; None if it is missing, empty or in conflict."""
    path = tie.locate(HEAD_NAME)
    names = [f"{commit}:{path}" for commit in git_commits]
    found = _read_objects(tie.work_tree, names)
    return {commit: named[0] if len(named) == 1 else None for commit, named in zip(git_commits, found, strict=True)}


def read_pinned_between(tie: Tie, tips: Sequence[str], remote: str) -> frozenset[CommitId]:
    """Return the commits in any `head.stock` of git commits reachable from `tips` but not from a remote's branches."""
    blobs = _list_versions(tie.work_tree, tie.locate(HEAD_NAME), [*tips, "--not", f"--remotes={remote}"])
    return _read_named(tie.work_tree, blobs)


def _list_versions(work_tree: GitWorkTree, path: str, which: Sequence[str]) -> set[str]:
    """Return the blobs that are versions of a path in the chosen commits."""
    listed = run_git(work_tree.root, "rev-list", "--objects", "--full-history", *which, "--", path)
    name = path.split("\n", 1)[0].encode("utf-8", "surrogateescape")
    pairs = (line.partition(b" ") for line in listed.split(b"\n"))
    return {blob.decode() for blob, _, found in pairs if found == name}


def _list_indexed(folder: Path, path: str) -> set[str]:
    listed = run_git(folder, "ls-files", "--stage", "-z", "--", path)
    return {line.split(b" ", 2)[1].decode() for line in listed.split(b"\0") if line}


def _read_named(work_tree: GitWorkTree, blobs: Iterable[str]) -> frozenset[CommitId]:
    return frozenset(commit for named in _read_objects(work_tree, sorted(blobs)) for commit in named)


def _read_objects(work_tree: GitWorkTree, names: Sequence[str]) -> list[list[CommitId]]:
    """Return the commits that each version of the file names; `names` are git's names for the versions."""
    if not names:
        return []
    asked = "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
    checked = run_git(work_tree.root, "cat-file", "--batch-check", content=asked).splitlines()
    small = [line.split(b" ")[0] if _is_small_blob(line) else None for line in checked]
    wanted = b"".join(b"%s\n" % blob for blob in dict.fromkeys(small) if blob is not None)
    content = run_git(work_tree.root, "cat-file", "--batch", content=wanted)
    named: dict[bytes | None, list[CommitId]] = {}
    at = 0
    while at < len(content):
        end = content.index(b"\n", at)
        blob, _, nbytes = content[at:end].split(b" ")
        at = end + 1 + int(nbytes) + 1
        named[blob] = [CommitId(bytes.fromhex(one.decode())) for one in _NAMED.findall(content[end + 1 : at - 1])]
    return [named.get(blob, []) for blob in small]


def _is_small_blob(line: bytes) -> bool:
    fields = line.rsplit(b" ", 2)
    is_blob = len(fields) == 3 and fields[1] == b"blob" and fields[2].isdigit()
    return is_blob and int(fields[2]) <= _MAX_VERSION_NBYTES
