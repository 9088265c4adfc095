"""`stock git status`: describe the tie to git."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from stockroom.cli.console import Console
from stockroom.cli.render.commit import short_id
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom.repository.tie_status import TieStatus

_POSITIONS: Final = {
    "none": "does not exist here yet; the next commit makes it",
    "same": "stands at that commit",
    "ahead": "stands ahead of it; the next commit moves it to where head.stock leads",
    "behind": "stands behind it, and catches up with the next commit",
    "elsewhere": "stands elsewhere; the next commit moves it (`stock reflog` keeps where it was)",
}


@verb(example="stock git status")
def status(console: Console) -> None:
    """Explain the tie to git: whether it is in force, where both sides stand, and what is installed."""
    with console.open_stock(needs_head=False) as stock:
        tie, remote = stock.describe_tie(), stock.remotes.get("origin")
    console.answer(_document(tie, remote), _iter_lines(tie, remote))


def _iter_lines(status: TieStatus, remote: str | None) -> Iterator[str]:
    if status.work_tree is None:
        yield "Not in a work tree of git: this repository stands by itself."
        return
    if not status.is_tied:
        yield "The tie is not in force: git does not track head.stock. `git add head.stock` ties the two."
    else:
        yield "The tie is in force: git tracks head.stock."
        yield from _iter_position_lines(status)
    if status.shares is not None:
        yield f"This work tree uses the data in {status.shares}; what it stages is its own."
    yield f"Remote: {remote or 'none called origin; `stock remote add origin URL` sets one'}."
    yield f"Merge driver: {_say(status.has_driver, 'stock git install')}."
    yield f"Hook pre-push: {_say(status.has_pre_push, 'stock git install --hooks')}."
    yield f"Hook post-checkout: {_say(status.has_post_checkout, 'stock git install --summary')}."


def _iter_position_lines(status: TieStatus) -> Iterator[str]:
    head = short_id(_hex(status.head)) if status.head else "no commit"
    here = "" if status.is_here else ", which is not here yet: `stock fetch` brings it"
    yield f"head.stock: {head}{here}."
    if status.head == status.committed:
        yield "Git's last commit has it too."
    else:
        had = short_id(_hex(status.committed)) if status.committed else "none"
        yield f"Git's last commit has {had}: `git commit head.stock` keeps the new one."
    if status.branch is None:
        yield "Git's HEAD is detached: reading works; to commit, make a branch with `git switch -c NAME`."
    else:
        yield f"Git is on branch {status.branch}. The branch of that name here {_POSITIONS[status.branch_place]}."
    if status.is_staged and status.staged_on != status.head:
        on = short_id(_hex(status.staged_on)) if status.staged_on else "the empty repository"
        yield f"Staged changes belong on {on}: go back there with git to commit them, or drop them with `stock reset`."


def _document(status: TieStatus, remote: str | None) -> dict[str, object]:
    return {
        "work_tree": None if status.work_tree is None else str(status.work_tree),
        "tied": status.is_tied,
        "branch": status.branch,
        "head": _hex(status.head),
        "here": status.is_here,
        "committed": _hex(status.committed),
        "branch_place": status.branch_place,
        "staged": status.is_staged,
        "staged_on": _hex(status.staged_on),
        "shares": None if status.shares is None else str(status.shares),
        "remote": remote,
        "installed": {
            "merge_driver": status.has_driver,
            "pre_push": status.has_pre_push,
            "post_checkout": status.has_post_checkout,
        },
    }


def _say(is_installed: bool, command: str) -> str:
    return "installed" if is_installed else f"not installed; `{command}` does it"


def _hex(commit: bytes | None) -> str | None:
    return None if commit is None else commit.hex()
