"""Numbers for people: bytes, counts and durations."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from stockroom.errors import InvalidInputError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_nbytes(nbytes: int) -> str:
    """Return `nbytes` in the largest binary unit that leaves at least 1: `784 B`, `52.3 MiB`."""
    size, unit = float(nbytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{nbytes} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def format_count(count: int, noun: str) -> str:
    """Return `1 column`, `2 columns`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_part(nbytes: int, total_nbytes: int) -> str:
    """Return `1.2 MiB of 1.1 GiB (0.1 %)`."""
    return f"{format_nbytes(nbytes)} of {format_nbytes(total_nbytes)} ({nbytes / max(total_nbytes, 1):.1%})"


def parse_nbytes(text: str) -> int:
    """Parse `10GiB`, `500 MB` or `4096` as bytes; raises `InvalidInputError` for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgtp]?)(i?)b?\s*", text, re.IGNORECASE)
    if match is None:
        raise InvalidInputError(f"expected a size such as 10GiB or 500MB, found {text!r}")
    factor = 1024 if match[3] else 1000
    return int(float(match[1]) * factor ** " kmgtp".index(match[2].lower() or " "))


def parse_duration(text: str) -> timedelta:
    """Parse `2w`, `3 d`, `12h`, `30m` or `0` as a duration; raises `InvalidInputError` for anything else."""
    match = re.fullmatch(r"\s*([0-9]{1,6}(?:\.[0-9]+)?)\s*([smhdw]?)\s*", text)
    if match is None or (not match[2] and float(match[1])):
        raise InvalidInputError(f"expected a duration such as 2w, 3d or 12h, found {text!r}")
    return timedelta(seconds=float(match[1]) * _SECONDS.get(match[2], 0))
