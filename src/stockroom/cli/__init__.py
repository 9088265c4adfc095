"""The command line: `stock` and `stockroom`, one module per verb.

Alone in Stockroom, this package prints, reads the environment and decides exit codes. This module stays
light: nothing heavier than `sys` is imported before it is known what was asked.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

__all__ = ["main"]

_OBJECTS_AT_ONCE = 200_000
"""How many new objects there are before garbage is looked for: those that imports make all stay."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` is what follows the program's name."""
    if argv is None:  # imports make many objects that stay: looking through them again is for naught
        gc.set_threshold(_OBJECTS_AT_ONCE)
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments == ["--version"]:
        from stockroom import __version__

        print(f"stock {__version__}")
        return 0
    try:
        from stockroom.cli.run import run

        return run(arguments)
    except KeyboardInterrupt:  # while the imports were still going on
        return 130
