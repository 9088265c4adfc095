"""`stock commit`: commit the staged changes."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.options import DEFAULT_TIMEOUT_S, TimeoutOption
from stockroom.cli.render.change import changes_document, changes_of_diff, summary_text
from stockroom.cli.render.commit import short_id, subject_of
from stockroom.cli.verb import verb

NAME_VARIABLE = "STOCKROOM_AUTHOR_NAME"
EMAIL_VARIABLE = "STOCKROOM_AUTHOR_EMAIL"


@verb(example="stock commit -m 'Two labels were wrong'")
def commit(
    console: Console,
    message: Annotated[
        list[str] | None,
        typer.Option("-m", "--message", help="The message; each further -m adds a paragraph."),
    ] = None,
    file: Annotated[Path | None, typer.Option("-F", "--file", help="Read the message from a file; - is stdin.")] = None,
    author: Annotated[str | None, typer.Option(metavar='"NAME <EMAIL>"', help="The author of the change.")] = None,
    amend: Annotated[
        bool,
        typer.Option(
            "--amend", help="Replace the last commit, and add the staged changes; keep its message without -m."
        ),
    ] = False,
    no_edit: Annotated[bool, typer.Option("--no-edit", help="With --amend: keep the message, as without -m.")] = False,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Commit even if nothing changed.")] = False,
    all_: Annotated[bool, typer.Option("-a", "--all", help="No effect: all changes are staged already.")] = False,  # noqa: ARG001
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
) -> None:
    """Commit the staged changes, and print the new commit's id."""
    if no_edit and not amend:
        raise CommandLineError("--no-edit needs --amend")
    text = None if amend and not message and file is None else _read_message(message or [], file)
    given = None if amend and author is None else resolve_author(author)
    with console.open_writer(timeout_s) as stock:
        with console.progress("commit"):
            if amend:
                commit_id = stock.amend(text, author=given, allow_empty=allow_empty)
                text = next(stock.log(n=1)).message
                changes = changes_of_diff(stock.changes())
            else:
                changes = changes_of_diff(stock.status().changes)
                commit_id = stock.commit(text or "", author=given, allow_empty=allow_empty)
        branch = stock.branch
    assert text is not None
    console.say(
        f"[{branch or 'no branch'} {short_id(commit_id)}] {subject_of(text)}; {summary_text(changes) or 'no changes'}"
    )
    console.answer({"id": commit_id, "branch": branch, "changes": changes_document(changes)}, [commit_id])


def _read_message(paragraphs: list[str], file: Path | None) -> str:
    if paragraphs and file:
        raise CommandLineError("-m and -F cannot be combined")
    text = _read_text(file) if file else "\n\n".join(paragraphs)
    if not text.strip():
        raise CommandLineError("expected a commit message, found none; give one with -m MESSAGE")
    return text.strip()


def _read_text(file: Path) -> str:
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CommandLineError(f"-F expects UTF-8 text, found other bytes in {file} ({error.reason})") from error


def resolve_author(author: str | None) -> tuple[str, str] | None:
    """Return name and email from `--author "NAME <EMAIL>"`, or else the environment; None uses the repository's."""
    if author is not None:
        return parse_author(author)
    name, email = os.environ.get(NAME_VARIABLE), os.environ.get(EMAIL_VARIABLE)
    if bool(name) != bool(email):
        raise CommandLineError(f"expected {NAME_VARIABLE} and {EMAIL_VARIABLE} together, found one; set or unset both")
    return (name, email) if name and email else None


def parse_author(text: str) -> tuple[str, str]:
    """Parse `NAME <EMAIL>`; raises `CommandLineError` for anything else."""
    match = re.fullmatch(r"\s*([^<>]*[^<>\s])\s*<([^<>]*)>\s*", text)
    if match is None:
        raise CommandLineError(f'--author expects "NAME <EMAIL>", found {text!r}; quote the whole value')
    return match[1], match[2].strip()
