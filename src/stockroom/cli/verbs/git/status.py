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
    "none": "does not exist yet; the next commit creates it",
    "same": "is at that commit",
    "ahead": "is ahead of it; the next commit moves it to follow head.stock",
    "behind": "is behind it; the next commit moves it forward",
    "elsewhere": "is elsewhere; the next commit moves it (`stock reflog` keeps its old commit)",
}


@verb(example="stock git status")
def status(console: Console) -> None:
    """Show how this repository is tied to git.

    Show whether git tracks head.stock, the commits of both sides, and the installed hooks.
    """
    with console.open_stock(needs_head=False) as stock:
        tie, remote = stock.describe_tie(), stock.remotes.get("origin")
    console.answer(_document(tie, remote), _iter_lines(tie, remote))


def _iter_lines(status: TieStatus, remote: str | None) -> Iterator[str]:
    if status.work_tree is None:
        yield "Not in a git work tree: this repository is not tied to git."
        return
    if not status.is_tied:
        yield "The tie is not in force: git does not track head.stock. `git add head.stock` ties them."
    else:
        yield "The tie is in force: git tracks head.stock."
        yield from _iter_position_lines(status)
    if status.shares is not None:
        yield f"This work tree uses the data in {status.shares}, but has its own stage."
    yield f"Remote: {remote or 'none called origin; `stock remote add origin URL` adds it'}."
    yield f"Merge driver: {_say(status.has_driver, 'stock git install')}."
    yield f"Hook pre-push: {_say(status.has_pre_push, 'stock git install --hooks')}."
    yield f"Hook post-checkout: {_say(status.has_post_checkout, 'stock git install --summary')}."


def _iter_position_lines(status: TieStatus) -> Iterator[str]:
    head = short_id(_hex(status.head)) if status.head else "no commit"
    here = "" if status.is_here else ", which is not here yet: `stock fetch` fetches it"
    yield f"head.stock: {head}{here}."
    if status.head == status.committed:
        yield "Git's last commit has it too."
    else:
        had = short_id(_hex(status.committed)) if status.committed else "none"
        yield f"Git's last commit has {had}: `git commit head.stock` commits the new one."
    if status.branch is None:
        yield "Git's HEAD is detached: reading works; to commit, create a branch with `git switch -c NAME`."
    else:
        yield f"Git is on branch {status.branch}. The branch of that name here {_POSITIONS[status.branch_place]}."
    if status.is_staged and status.staged_on != status.head:
        on = short_id(_hex(status.staged_on)) if status.staged_on else "the empty repository"
        yield f"Staged changes are based on {on}: go back there with git to commit them, or run `stock reset`."


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
    return "installed" if is_installed else f"not installed; `{command}` installs it"


def _hex(commit: bytes | None) -> str | None:
    return None if commit is None else commit.hex()
