"""`stock stash apply`: bring a stash back, and keep it.

Kept apart: a verb has a module.
"""

from __future__ import annotations

from stockroom.cli.console import Console
from stockroom.cli.options import ChoiceOption, StrategyOption
from stockroom.cli.stashing import IndexOption, StashArgument, apply_stash
from stockroom.cli.verb import verb


@verb(example="stock stash apply stash@{1}", complete={"stash": "stashes"})
def apply(
    console: Console,
    stash: StashArgument = "stash@{0}",
    strategy: StrategyOption = None,
    choice: ChoiceOption = None,
    index: IndexOption = False,  # noqa: ARG001
) -> None:
    """Merge a stash into the staged changes, and keep it. If there are conflicts, list them and change nothing."""
    apply_stash(console, stash, strategy, choice, drop=False)
