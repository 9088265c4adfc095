"""`stock cherry-pick`: apply the changes of one commit here."""

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


@verb(example="stock cherry-pick relabel", complete={"commit": "refs"})
def cherry_pick(
    console: Console,
    commit: Annotated[str, typer.Argument(help="The commit to pick.")],
    mainline: MainlineOption = None,
    message: LongMessageOption = None,
    no_commit: ShortNoCommitOption = False,
    no_edit: NoEditOption = False,  # noqa: ARG001
    strategy: StrategyOption = None,
    choice: ChoiceOption = None,
) -> None:
    """Commit the changes of another commit here.

    Its changes are those since its parent; for a merge, -m names the parent. Without --message, keep its message.
    """
    chosen = parse_strategy(strategy, choice)
    parent = parse_mainline(mainline)
    with console.open_stock() as stock:
        text = join_message(message)
        run_merge(
            console,
            stock,
            commit,
            lambda: stock.cherry_pick(commit, text, chosen, commit=not no_commit, mainline=parent),
        )
