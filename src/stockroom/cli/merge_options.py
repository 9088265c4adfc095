"""What merge, revert, cherry-pick and pull take alike: the message, whether to commit, and who decides conflicts."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from stockroom.cli.failures import CommandLineError

MessageOption = Annotated[
    list[str] | None,
    typer.Option("-m", "--message", help="The commit's message; each further -m is a paragraph of its own."),
]
NoCommitOption = Annotated[
    bool, typer.Option("--no-commit", help="Stage the result, and leave conflicts open for `stock resolve`.")
]
StrategyOption = Annotated[
    str | None,
    typer.Option(
        "-s", "--strategy", metavar="CHOICE", help="Decide every conflict: ours, theirs, or average for tensors."
    ),
]
ChoiceOption = Annotated[
    list[str] | None,
    typer.Option(
        "-X",
        metavar="CHOICE=PATTERN",
        help="Decide conflicts at paths, as theirs=data/label or average=model/*; the first that fits and can.",
    ),
]

_EVERYTHING: Final = "*"


def parse_strategy(strategy: str | None, choices: list[str] | None) -> dict[str, str] | None:
    """Patterns and choices as `StockRoom.merge` takes them; the strategy is the last of them."""
    patterns: dict[str, str] = {}
    for text in choices or []:
        choice, sign, pattern = text.partition("=")
        if not sign or not pattern:
            raise CommandLineError(f"-X expects CHOICE=PATTERN, as in theirs=data/label, found {text!r}")
        if pattern in patterns:
            raise CommandLineError(f"-X expects each pattern once, found {pattern!r} twice")
        patterns[pattern] = choice
    if strategy is not None:
        patterns[_EVERYTHING] = patterns.get(_EVERYTHING, strategy)
    return patterns or None


def join_message(paragraphs: list[str] | None) -> str | None:
    """The message that several -m give; None for none, or an empty one."""
    return "\n\n".join(paragraphs or []).strip() or None
