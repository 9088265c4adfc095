"""`stock revert`: undo the changes of one commit."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.merging import run_merge
from stockroom.cli.options import (
    ChoiceOption,
    LongMessageOption,
    MainlineOption,
    NoEditOption,
    ShortNoCommitOption,
    StrategyOption,
    join_message,
    parse_mainline,
    parse_strategy,
)
from stockroom.cli.verb import verb


@verb(example="stock revert HEAD~1", complete={"commit": "refs"})
def revert(
    console: Console,
    commit: Annotated[str, typer.Argument(help="The commit to revert.")],
    mainline: MainlineOption = None,
    message: LongMessageOption = None,
    no_commit: ShortNoCommitOption = False,
    no_edit: NoEditOption = False,  # noqa: ARG001
    strategy: StrategyOption = None,
    choice: ChoiceOption = None,
) -> None:
    """Commit the reverse of another commit.

    Reverse what that commit changed in its parent; later commits stay. For a merge, -m 1 keeps the side of its first
    parent.
    """
    chosen = parse_strategy(strategy, choice)
    parent = parse_mainline(mainline)
    with console.open_stock() as stock:
        text = join_message(message)
        run_merge(
            console,
            stock,
            f"{commit}^{parent or 1}",
            lambda: stock.revert(commit, text, chosen, commit=not no_commit, mainline=parent),
        )
