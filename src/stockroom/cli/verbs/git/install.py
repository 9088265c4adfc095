"""`stock git install`: have git call Stockroom to merge `head.stock`, and from hooks if requested."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom.repository.git.install import Step
    from stockroom.repository.git.work_tree import GitWorkTree

PROGRAM: Final = (sys.executable, "-P", "-m", "stockroom.cli")
"""The command that runs this program from any folder; `-P` ignores modules in that folder."""

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only print the steps.")]


@verb(example="stock git install --hooks")
def install(
    console: Console,
    hooks: Annotated[
        bool,
        typer.Option("--hooks", help="On git push, push the data first; refuse to push a head.stock without its data."),
    ] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="After a checkout, print the new commit of the data.")
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Let git merge head.stock with Stockroom. `stock git uninstall` undoes this."""
    from stockroom.remotes.format.remote_file import publish_origin
    from stockroom.repository.git.install import POST_CHECKOUT, PRE_PUSH, plan_install
    from stockroom.repository.paths import locate

    work_tree, root = locate_work_tree()
    wanted = [name for name, is_wanted in ((PRE_PUSH, hooks), (POST_CHECKOUT, summary)) if is_wanted]
    steps = plan_install(work_tree, root, PROGRAM, hooks=wanted)
    take_steps(console, steps, dry_run=dry_run)
    if not dry_run and publish_origin(locate(root)):
        console.say("remote.stock names the remote of the data; add it to git")
    if not dry_run and any(step.path.name == ".gitattributes" for step in steps if hasattr(step, "path")):
        console.say("commit .gitattributes with git: it then applies to everyone who runs `stock git install`")


def locate_work_tree() -> tuple[GitWorkTree, Path]:
    """Return the git work tree and the repository that contain the working directory."""
    from stockroom.repository.git.work_tree import find_work_tree
    from stockroom.repository.paths import locate_repository

    root = locate_repository(Path.cwd()).root
    work_tree = find_work_tree(root)
    if work_tree is None:
        raise CommandLineError(f"{root} is not in a git work tree: `git init` creates one")
    return work_tree, root


def take_steps(console: Console, steps: Sequence[Step], *, dry_run: bool) -> None:
    """Print steps, and apply them unless it is a dry run."""
    described = [step.describe() for step in steps]
    if not dry_run:
        for step in steps:
            step.apply()
    console.answer({"steps": described, "dry_run": dry_run}, described)
    if not described:
        console.say("nothing to do")
