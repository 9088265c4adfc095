"""Makes names and texts safe to show: they may come from strangers.

Terminals and pages obey control characters, and characters that turn the direction of text show it in another order.
"""

from __future__ import annotations


def as_printable(text: str) -> str:
    """Return `text` with control and formatting characters and lone surrogates escaped; newlines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode()
        for character in text
    )


def as_line(text: str) -> str:
    r"""Return `text` on one line: as `as_printable` does, with newlines as `\n`."""
    return as_printable(text).replace("\n", "\\n")
