"""The command line: `stock` and `stockroom`, one module per verb.

No other package prints, reads the environment or decides exit codes. This module imports nothing heavier than `sys`
until it has read the arguments.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

__all__ = ["main"]

_OBJECTS_AT_ONCE = 200_000
"""How many new objects may exist before garbage collection starts; the objects that imports make all stay."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` excludes the program's name."""
    if argv is None:  # imports make many objects that stay: collecting them is wasted time
        gc.set_threshold(_OBJECTS_AT_ONCE)
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments == ["--version"]:
        from stockroom import __version__

        print(f"stock {__version__}")
        return 0
    try:
        from stockroom.cli.run import run

        return run(arguments)
    except KeyboardInterrupt:  # during the imports
        return 130
