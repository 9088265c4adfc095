"""Who makes a commit: `--author`, else the environment, else what the repository itself says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from stockroom.cli.failures import CommandLineError


@dataclass(frozen=True, slots=True)
class Identity:
    """A name and an email; None where the next source down is to decide."""

    name: str | None
    email: str | None


def resolve_identity(author: str | None) -> Identity:
    """The identity of `--author "NAME <EMAIL>"`, else of STOCKROOM_AUTHOR_NAME and STOCKROOM_AUTHOR_EMAIL."""
    if author is not None:
        return parse_identity(author)
    return Identity(os.environ.get("STOCKROOM_AUTHOR_NAME") or None, os.environ.get("STOCKROOM_AUTHOR_EMAIL") or None)


def parse_identity(text: str) -> Identity:
    """`NAME <EMAIL>` taken apart; raises `CommandLineError` where it is anything else."""
    match = re.fullmatch(r"\s*([^<>]*[^<>\s])\s*<([^<>]*)>\s*", text)
    if match is None:
        raise CommandLineError(f'--author expects "NAME <EMAIL>", found {text!r}; quote the whole value')
    return Identity(match[1], match[2].strip())
