"""Commits as lines and documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stockroom import Commit, StockRoom

SHORT_DIGITS: Final = 12
"""Hex digits of a short commit id: enough to be unambiguous among millions."""


def short_id(commit_id: str | None) -> str:
    """Return the first digits of an id, or dots for no commit."""
    return commit_id[:SHORT_DIGITS] if commit_id else "." * SHORT_DIGITS


def iter_commit_lines(commit: Commit, names: str = "", git_commit: str | None = None) -> Iterator[str]:
    """Yield a commit in full, in the layout of `git log`; `names` are its refs, `git_commit` is its carrier."""
    yield f"commit {commit.id}{names}"
    if len(commit.parents) > 1:
        yield f"Merge:  {' '.join(short_id(parent) for parent in commit.parents)}"
    yield f"Author: {commit.author} <{commit.email}>"
    yield f"Date:   {commit.time:%Y-%m-%d %H:%M:%S %z}"
    if git_commit is not None:
        yield f"Git:    {short_id(git_commit)}"
    for key, value in commit.metadata.items():
        yield f"{key}: {value}"
    yield ""
    for line in commit.message.splitlines():
        yield f"    {line}"


def commit_line(commit: Commit, names: str = "") -> str:
    """Return a commit on one line: short id, refs, first line of its message."""
    return f"{short_id(commit.id)}{names} {subject_of(commit.message)}"


def describe_outcome(commit_id: str | None, *, staged: bool) -> str:
    """Return the outcome of an import in words."""
    if commit_id:
        return f"committed as {short_id(commit_id)}"
    return "staged" if staged else "nothing to commit, everything was here already"


def subject_of(message: str) -> str:
    """Return the first line of a message."""
    return message.split("\n", 1)[0]


def commit_document(commit: Commit) -> dict[str, object]:
    """Return a commit as JSON; its time is in ISO 8601 with the offset."""
    return {
        "id": commit.id,
        "parents": list(commit.parents),
        "author": commit.author,
        "email": commit.email,
        "time": commit.time.isoformat(),
        "message": commit.message,
        "metadata": dict(commit.metadata),
    }


def read_names(stock: StockRoom) -> Mapping[str, str]:
    """Return ` (HEAD -> main, tag: v1)` by commit id, for every commit that a ref names."""
    names: dict[str, list[str]] = {}
    head = (stock.branch, stock.commit_id)
    if stock.commit_id and head not in stock.branches.items():  # detached, or behind its branch
        names[stock.commit_id] = ["HEAD"]
    for branch, commit_id in sorted(stock.branches.items(), key=lambda item: item[0] != stock.branch):
        names.setdefault(commit_id, []).append(f"HEAD -> {branch}" if (branch, commit_id) == head else branch)
    for tag, commit_id in stock.tags.items():
        names.setdefault(commit_id, []).append(f"tag: {tag}")
    return {commit_id: f" ({', '.join(all_)})" for commit_id, all_ in names.items()}
