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
from stockroom.errors import FormatVersionError, HeadConflictError, MalformedRecordError, RepositoryNotFoundError
from stockroom.files import read_own_file, replace_own_file, sync_path, write_own_file

HEAD_NAME = "head.stock"
REMOTE_NAME = "remote.stock"
"""Another file beside it that git tracks (`remotes/format/remote_file.py`)."""
PREPARED_NAME = "head.pending"
PREVIOUS_NAME = "head.previous"
"""What was checked out before, for `stock checkout -`: a branch without its commit, or a detached commit."""
_MAGIC = "stockroom head"
_VERSION = 1
_MAX_NBYTES = 4096
_CONFLICT_MARKERS = re.compile(r"^<{7}( |$)", re.MULTILINE), re.compile(r"^>{7}( |$)", re.MULTILINE)


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
    """Return the HEAD that `text` describes.

    Raises, naming `where`: `HeadConflictError` if git left a conflict in it, otherwise `MalformedRecordError`.
    """
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
    if all(marker.search(text) for marker in _CONFLICT_MARKERS):
        raise _explain_conflict(text, where)
    raise MalformedRecordError(
        f"{where}: expected three lines (`{_MAGIC} {_VERSION}`, `branch NAME`, `commit DIGEST`), found "
        f"{text[:120]!r}; restore it, or write `commit -` and run `stock checkout BRANCH`",
        where=where,
    )


def _explain_conflict(text: str, where: str) -> HeadConflictError:
    """Return the error for a file that git left in conflict."""
    theirs = re.findall(r"^commit ([0-9a-f]{64})$", text.partition("\n=======\n")[2], re.MULTILINE)
    return HeadConflictError(
        f"{where}: git left a conflict in it, so no commit is checked out; take your side with `git checkout --ours -- "
        f"{HEAD_NAME}`, merge the other with `stock merge {theirs[0] if theirs else 'COMMIT'}`, then run `git add "
        f"{HEAD_NAME}` and continue, or take it all back with `git merge --abort`",
        where=where,
    )


class HeadFile:
    """The HEAD of one work tree."""

    def __init__(self, work_tree: Path, folder: Path) -> None:
        self.path = work_tree / HEAD_NAME
        self._prepared = folder / PREPARED_NAME
        self._previous = folder / PREVIOUS_NAME

    def read(self) -> Head:
        """Return the HEAD in the file."""
        return self._read(self.path)

    def find_prepared(self) -> Head | None:
        """Return the next HEAD if a move is under way or unfinished; None if no next HEAD was written in full."""
        try:
            return self._read(self._prepared)
        except (RepositoryNotFoundError, MalformedRecordError, FormatVersionError, HeadConflictError):
            return None

    def find_previous(self) -> Head | None:
        """Return what was checked out before: a branch with no commit, or a detached commit; None if unknown."""
        try:
            return self._read(self._previous)
        except (RepositoryNotFoundError, MalformedRecordError, FormatVersionError, HeadConflictError):
            return None

    def note_previous(self, head: Head) -> None:
        """Record that another branch or commit is about to be checked out in place of `head`."""
        previous = head if head.branch is None else Head(head.branch, None)
        replace_own_file(self._previous, previous.format().encode(), must_last=False)

    def prepare(self, head: Head) -> None:
        """Write the next HEAD beside the present one, and sync it."""
        write_own_file(self._prepared, head.format().encode())

    def complete(self) -> None:
        """Make the prepared HEAD the present one.

        The folder is not synced: if a power cut undoes the rename, the prepared file is back, and the next reader
        renames it.
        """
        self._prepared.rename(self.path)

    def cancel(self) -> None:
        """Delete a prepared HEAD whose move did not happen."""
        self._prepared.unlink(missing_ok=True)

    def write(self, head: Head, *, must_last: bool = True) -> None:
        """Replace the HEAD, on disk too, unless it follows a branch and may follow it again after a power cut."""
        self.prepare(head)
        self.complete()
        if must_last:
            sync_path(self.path.parent)

    def _read(self, path: Path) -> Head:
        try:
            data = read_own_file(path, max_nbytes=_MAX_NBYTES)
        except FileNotFoundError as error:
            raise RepositoryNotFoundError(
                f"{path} is missing: restore it (git checkout -- {HEAD_NAME}), or run `stock init` to start from main"
            ) from error
        return parse_head(data.decode("utf-8", "replace"), where=str(path))
