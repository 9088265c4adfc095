"""A metric as CSV, and an artifact's bytes."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING

from stockroom.cli.render.experiment import as_json
from stockroom.errors import InvalidInputError

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.cli.console import Console


def print_metric(console: Console, stock: StockRoom, name: str) -> None:
    """Print every point of a metric, a line each; `ValueNotFoundError`."""
    steps, values = stock.experiment.metrics[name]
    if console.json:
        console.document({"path": f"metric/{name}", "steps": steps.tolist(), "values": as_json(values.tolist())})
        return
    console.line("step,value")
    console.lines(f"{step},{value!r}" for step, value in zip(steps.tolist(), values.tolist(), strict=True))


def print_artifact(console: Console, stock: StockRoom, name: str) -> None:
    """Print an artifact's bytes as they are, on a terminal only where they are text; `ValueNotFoundError`."""
    artifact = stock.experiment.artifacts[name]
    data = artifact.read()
    if console.json:
        value = {"base64": base64.b64encode(data).decode("ascii")}
        console.document({"path": f"artifact/{name}", "media_type": artifact.media_type, "value": value})
    elif sys.stdout.isatty():
        console.line(_decode(name, data))
    else:
        console.binary(data)


def _decode(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"artifact {name!r} has bytes that no terminal shows: send them to a file, as in > {name.split('/')[-1]}"
        ) from error
