"""The options of verbs that write: how long to wait for another writer."""

from __future__ import annotations

from typing import Annotated, Final

import typer

DEFAULT_TIMEOUT_S: Final = 10.0

TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait for another writer to finish.")
]
