"""`stock cherry-pick`: apply the changes of one commit here."""

from __future__ import annotations

from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.merging import run_merge
from stockroom.cli.options import (
    ChoiceOption,
    MessageOption,
    NoCommitOption,
    StrategyOption,
    join_message,
    parse_strategy,
)
from stockroom.cli.verb import verb


@verb(example="stock cherry-pick relabel", complete={"commit": "refs"})
def cherry_pick(
    console: Console,
    commit: Annotated[str, typer.Argument(help="The commit to pick.")],
    message: MessageOption = None,
    no_commit: NoCommitOption = False,
    strategy: StrategyOption = None,
    choice: ChoiceOption = None,
) -> None:
    """Commit the changes of another commit here.

    Its changes are those since its first parent. Without -m, keep its message.
    """
    chosen = parse_strategy(strategy, choice)
    with console.open_stock() as stock:
        text = join_message(message)
        run_merge(console, stock, commit, lambda: stock.cherry_pick(commit, text, chosen, commit=not no_commit))
