"""HEAD: the file `head.stock` at the work tree's root, which says which branch and commit are checked out.

    stockroom head 1
    branch main
    commit 5c2f...

`branch -` is a detached HEAD, `commit -` a branch without commits. The file is small, canonical and meant to be
tracked by git. A commit moves it in two steps, so that a kill in between loses nothing: the new content is synced
beside the old, the refs move, then one rename. The next process to open the repository finishes the rename, but only
with the writer's lease: between the two steps of a living writer no other process may move the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from stockroom.digest import CommitId
from stockroom.errors import FormatVersionError, MalformedRecordError, RepositoryNotFoundError
from stockroom.files import read_own_file, write_own_file

HEAD_NAME = "head.stock"
REMOTE_NAME = "remote.stock"
"""Another file beside it that git tracks (`remotes/format/remote_file.py`)."""
PREPARED_NAME = "head.pending"
_MAGIC = "stockroom head"
_VERSION = 1
_MAX_NBYTES = 4096
_CONFLICT_MARKER = "<<<<<<< "


@dataclass(frozen=True, slots=True)
class Head:
    """The checked-out branch and commit: `branch` None is a detached HEAD, `commit` None is before the first commit."""

    branch: str | None
    commit: CommitId | None

    def format(self) -> str:
        """Return the text of the file."""
        commit = "-" if self.commit is None else self.commit.hex()
        return f"{_MAGIC} {_VERSION}\nbranch {self.branch or '-'}\ncommit {commit}\n"


def parse_head(text: str, *, where: str) -> Head:
    """Return the HEAD that `text` describes. Raises `MalformedRecordError` naming `where` if it is malformed."""
    text = text.replace("\r\n", "\n")  # git may be set to write such line ends
    lines = text.split("\n")
    if lines[0].startswith(f"{_MAGIC} ") and lines[0] != f"{_MAGIC} {_VERSION}":
        raise FormatVersionError(f"{where}: written by a newer Stockroom ({lines[0]!r}); upgrade Stockroom")
    if len(lines) == 4 and lines[1].startswith("branch ") and lines[2].startswith("commit ") and lines[3] == "":
        branch, commit = lines[1][7:], lines[2][7:]
        try:
            head = Head(None if branch == "-" else branch, None if commit == "-" else CommitId(bytes.fromhex(commit)))
        except ValueError:
            head = None
        if head is not None and head.format() == text and (head.commit is None or len(head.commit) == 32):
            return head
    raise MalformedRecordError(
        f"{where}: expected three lines (`{_MAGIC} {_VERSION}`, `branch NAME`, `commit DIGEST`), found "
        f"{text[:120]!r}; {_explain_conflict(text)}restore it, or write `commit -` and run `stock checkout BRANCH`",
        where=where,
    )


def _explain_conflict(text: str) -> str:
    """Return advice about a file that git left in conflict; empty for any other file."""
    if _CONFLICT_MARKER not in text:
        return ""
    theirs = re.findall(r"^commit ([0-9a-f]{64})$", text.partition("\n=======\n")[2], re.MULTILINE)
    return (
        "git left a conflict in it: take your side with `git checkout --ours -- head.stock`, merge the other with "
        f"`stock merge {theirs[0] if theirs else 'COMMIT'}`, then `git add head.stock` and continue; or "
    )


class HeadFile:
    """The HEAD of one work tree."""

    def __init__(self, work_tree: Path, folder: Path) -> None:
        self.path = work_tree / HEAD_NAME
        self._prepared = folder / PREPARED_NAME

    def read(self) -> Head:
        """Return the HEAD in the file."""
        return self._read(self.path)

    def find_prepared(self) -> Head | None:
        """Return the next HEAD if a move is under way or unfinished; None if no next HEAD was written in full."""
        try:
            return self._read(self._prepared)
        except (RepositoryNotFoundError, MalformedRecordError, FormatVersionError):
            return None

    def prepare(self, head: Head) -> None:
        """Write the next HEAD beside the present one, and sync it."""
        write_own_file(self._prepared, head.format().encode(), sync=True)

    def complete(self) -> None:
        """Make the prepared HEAD the present one.

        The folder is not synced: if a power cut undoes the rename, the prepared file is back, and the next reader
        renames it.
        """
        self._prepared.rename(self.path)

    def cancel(self) -> None:
        """Delete a prepared HEAD whose move did not happen."""
        self._prepared.unlink(missing_ok=True)

    def write(self, head: Head) -> None:
        """Replace the HEAD."""
        self.prepare(head)
        self.complete()

    def _read(self, path: Path) -> Head:
        try:
            data = read_own_file(path, max_nbytes=_MAX_NBYTES)
        except FileNotFoundError as error:
            raise RepositoryNotFoundError(
                f"{path} is missing: restore it (git checkout -- {HEAD_NAME}), or run `stock init` to start from main"
            ) from error
        return parse_head(data.decode("utf-8", "replace"), where=str(path))
