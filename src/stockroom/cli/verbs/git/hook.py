"""`stock git hook`: called by the hooks that `stock git install` writes."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.commit import short_id, subject_of
from stockroom.cli.render.operation import format_move
from stockroom.cli.verb import verb
from stockroom.errors import RepositoryNotFoundError, StockroomError

if TYPE_CHECKING:
    from stockroom.remotes.git_push import PushedRef
    from stockroom.repository.git.work_tree import GitWorkTree

_HOOKS = ("pre-push", "post-checkout")


@verb(example="stock git hook pre-push origin https://example.org/pets.git")
def hook(
    console: Console,
    name: Annotated[str, typer.Argument(help="pre-push or post-checkout.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[ARGUMENT]...", help="What git gives it.")] = None,
) -> None:
    """Do what a hook of git's is installed for; git says on stdin what it pushes."""
    from stockroom.repository.git.work_tree import find_work_tree

    given = arguments or []
    if name not in _HOOKS or len(given) < 2:
        raise CommandLineError(
            f"expected {' or '.join(_HOOKS)} and what git gives it, found {' '.join([name, *given])}"
        )
    work_tree = find_work_tree(Path.cwd().resolve())
    if work_tree is None:
        raise CommandLineError("expected to be run by git in a work tree, found none here")
    if name == "pre-push":
        _push_first(console, work_tree, given[0])
    else:
        _tell_checkout(console, work_tree, given[0], given[1])
    console.answer({"hook": name})


def _push_first(console: Console, work_tree: GitWorkTree, git_remote: str) -> None:
    from stockroom.remotes.git_push import parse_pushed
    from stockroom.repository.git.install import list_folders

    pushed = parse_pushed(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))
    if pushed:
        for root in list_folders(work_tree):
            _push_one(console, work_tree, root, pushed, git_remote)


def _push_one(console: Console, work_tree: GitWorkTree, root: Path, pushed: list[PushedRef], git_remote: str) -> None:
    from stockroom.remotes.git_push import list_needed, push_needed
    from stockroom.repository.paths import is_repository, locate
    from stockroom.repository.repository import Repository
    from stockroom.repository.tie_status import read_tie_for_hook

    tie, paths = read_tie_for_hook(work_tree, root), locate(root)
    needed = list_needed(tie, pushed, git_remote)
    if not needed.commits and not is_repository(paths):
        return
    if not is_repository(paths):
        raise RepositoryNotFoundError(
            f"git's push would publish changes of {tie.locate('head.stock')}, but its data is not here: run `stock "
            "clone --here` first (`git push --no-verify` goes without)"
        )
    with closing(Repository(paths)) as repository, console.transfer("push") as show:
        report = push_needed(repository, needed, git_remote, on_progress=show)
    for update in () if report is None else report.moved:
        console.say(f"pushed to {report.remote} first: {format_move(update.ref, update.old, update.new)}")  # type: ignore[union-attr]


def _tell_checkout(console: Console, work_tree: GitWorkTree, old: str, new: str) -> None:
    from stockroom.repository.git.install import list_folders

    for root in list_folders(work_tree):
        try:
            _tell_one(console, work_tree, root, old, new)
        except StockroomError as error:  # git's own work is done, so only report it
            console.say(f"stock: {error}")


def _tell_one(console: Console, work_tree: GitWorkTree, root: Path, old: str, new: str) -> None:
    from stockroom.repository.git.history import read_pinned
    from stockroom.repository.paths import open_paths
    from stockroom.repository.repository import Repository
    from stockroom.repository.tie_status import read_tie_for_hook

    tie = read_tie_for_hook(work_tree, root)
    pinned = read_pinned(tie, [old, new])
    before, now = pinned[old], pinned[new]
    if now is None or now == before:
        return
    with closing(Repository(open_paths(root))) as repository:
        is_here = repository.refs.has_commit(now)
        what = f" {subject_of(repository.read_commit(now).message)}" if is_here else ", not here yet: run `stock fetch`"
    was = "" if before is None else f" (was {short_id(before.hex())})"
    console.say(f"{tie.locate('head.stock')} is at {short_id(now.hex())}{what}{was}")
