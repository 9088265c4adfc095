"""Options and arguments that several verbs share, and the parsers of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from stockroom.cli.failures import CommandLineError

if TYPE_CHECKING:
    from stockroom.trees import Key

DEFAULT_TIMEOUT_S: Final = 10.0

TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait for another writer to finish.")
]
RemoteArgument = Annotated[
    str | None,
    typer.Argument(metavar="[REMOTE]", help="The remote's name; by default that of the upstream, or origin."),
]
EndpointOption = Annotated[
    str | None, typer.Option("--endpoint-url", metavar="URL", help="The object store's endpoint, if not the default.")
]
RegionOption = Annotated[str | None, typer.Option("--region", help="The object store's region.")]
MessageOption = Annotated[
    list[str] | None,
    typer.Option("-m", "--message", help="The commit message; each further -m adds a paragraph."),
]
LongMessageOption = Annotated[
    list[str] | None,
    typer.Option("--message", help="The commit message; each further --message adds a paragraph."),
]
"""For verbs where -m is git's --mainline."""
MainlineOption = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--mainline",
        metavar="NUMBER",
        help="For a merge: the parent, from 1, that its changes are taken against.",
    ),
]
NoEditOption = Annotated[bool, typer.Option("--no-edit", help="No effect: no editor is opened.")]
NoCommitOption = Annotated[
    bool, typer.Option("--no-commit", help="Only stage the result; conflicts stay open for `stock resolve`.")
]
ShortNoCommitOption = Annotated[
    bool, typer.Option("-n", "--no-commit", help="Only stage the result; conflicts stay open for `stock resolve`.")
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
        help="Decide conflicts at matching paths, such as theirs=data/label; the first pattern that applies wins.",
    ),
]

WhereOption = Annotated[
    str | None, typer.Option(metavar="CONDITION", help="A condition such as `label == 3`, on columns of small values.")
]


def parse_strategy(strategy: str | None, choices: list[str] | None) -> dict[str, str] | None:
    """Return patterns and choices for `StockRoom.merge`; the strategy is the last pattern."""
    patterns: dict[str, str] = {}
    for text in choices or []:
        choice, sign, pattern = text.partition("=")
        if not sign or not pattern:
            raise CommandLineError(f"-X expects CHOICE=PATTERN, such as theirs=data/label, found {text!r}")
        if pattern in patterns:
            raise CommandLineError(f"-X expects each pattern once, found {pattern!r} twice")
        patterns[pattern] = choice
    if strategy is not None:
        patterns.setdefault("*", strategy)
    return patterns or None


def parse_mainline(text: str | None) -> int | None:
    """Parse the number of a parent; raises `CommandLineError` for anything else, such as a message."""
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    raise CommandLineError(f"-m expects the number of a parent, as in git, found {text!r}; --message gives a message")


def join_message(paragraphs: list[str] | None) -> str | None:
    """Return the message that several `-m` make; None if there is none or it is empty."""
    return "\n\n".join(paragraphs or []).strip() or None


def parse_keys(text: str, key_type: str) -> slice | list[Key]:
    """Parse `0:1000` as positions, `3,5,8` as keys of `key_type` ("int" or "str"), `["patient",3]` as one key."""
    if key_type == "str" and text.startswith("["):
        return [text]
    parts = text.split(":")
    try:
        if 2 <= len(parts) <= 3:
            return slice(*(int(part) if part else None for part in parts))
        if key_type == "int":
            return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise CommandLineError(f"expected positions such as 0:1000 or keys such as 3,5,8, found {text!r}") from error
    return list(text.split(","))
