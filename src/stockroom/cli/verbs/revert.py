"""`stock revert`: undo the changes of one commit."""

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


@verb(example="stock revert HEAD~1", complete={"commit": "refs"})
def revert(
    console: Console,
    commit: Annotated[str, typer.Argument(help="The commit to revert.")],
    message: MessageOption = None,
    no_commit: NoCommitOption = False,
    strategy: StrategyOption = None,
    choice: ChoiceOption = None,
) -> None:
    """Commit the reverse of another commit.

    Reverse what that commit changed in its first parent; later commits stay.
    """
    chosen = parse_strategy(strategy, choice)
    with console.open_stock() as stock:
        text = join_message(message)
        run_merge(console, stock, f"{commit}~1", lambda: stock.revert(commit, text, chosen, commit=not no_commit))
