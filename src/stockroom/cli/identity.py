"""Who makes a commit: `--author`, else the environment, else what the repository itself says."""

from __future__ import annotations

import os
import re

from stockroom.cli.failures import CommandLineError

NAME_VARIABLE = "STOCKROOM_AUTHOR_NAME"
EMAIL_VARIABLE = "STOCKROOM_AUTHOR_EMAIL"


def resolve_author(author: str | None) -> tuple[str, str] | None:
    """Name and email of `--author "NAME <EMAIL>"`, else of the environment; None leaves it to the repository."""
    if author is not None:
        return parse_author(author)
    name, email = os.environ.get(NAME_VARIABLE), os.environ.get(EMAIL_VARIABLE)
    if bool(name) != bool(email):
        raise CommandLineError(f"expected {NAME_VARIABLE} and {EMAIL_VARIABLE} together, found one; set or unset both")
    return (name, email) if name and email else None


def parse_author(text: str) -> tuple[str, str]:
    """Name and email of `NAME <EMAIL>`; raises `CommandLineError` where it is anything else."""
    match = re.fullmatch(r"\s*([^<>]*[^<>\s])\s*<([^<>]*)>\s*", text)
    if match is None:
        raise CommandLineError(f'--author expects "NAME <EMAIL>", found {text!r}; quote the whole value')
    return match[1], match[2].strip()
