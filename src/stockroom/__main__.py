"""`python -m stockroom`, the same program as `stock`."""

from __future__ import annotations

import sys

from stockroom.cli import main

if __name__ == "__main__":
    sys.exit(main())
