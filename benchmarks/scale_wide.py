"""What a great many small things cost: columns, values and models, each set by a statement of its own in one block.

All times are CPU seconds of this process. Each work is done once in small before, so that no import counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from row import SECONDS, Row
from stockroom import StockRoom
from stockroom.importers.limits import Limits
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec

CSV_COLUMNS, COLUMNS, VALUES, MODELS = 4_000, 1_000, 10_000, 200
TENSORS: Final = 300
_CSV_ROWS: Final = 10


def scale_wide(folder: Path) -> Iterator[Row]:
    """Each work, and its bound in seconds."""
    for work, (run, count, at_most) in WORKS.items():
        name = run.__name__
        measure(folder / f"{name}-warm-up", run, 10)
        cpu_s = measure(folder / name, run, count)
        yield Row(f"{count:,} {work}: cpu", SECONDS, cpu_s, at_most=at_most)


def measure(path: Path, run: Callable[[StockRoom, int], None], count: int) -> float:
    """Return the CPU seconds of one block that does some work `count` times, its commit included."""
    with StockRoom.init(path, name="Bench", email="bench@example.org") as stock:
        if run is import_csv:
            write_csv(path, count)
        start_s = time.process_time()
        with stock.enable_write():
            run(stock, count)
        return time.process_time() - start_s


def write_csv(path: Path, count: int) -> None:
    """Write a table of `count` columns of numbers."""
    lines = [[f"c{column}" for column in range(count)]]
    lines += [[str(row + column) for column in range(count)] for row in range(_CSV_ROWS)]
    (path / "wide.csv").write_text("".join(f"{','.join(line)}\n" for line in lines))


def import_csv(stock: StockRoom, _: int) -> None:
    """Import the table, and list the changes as the command line does."""
    spec = ImportSpec("csv", (stock.path / "wide.csv",), stock.path, limits=Limits())
    import_into(stock, resolve_importer("csv").open(spec))
    assert stock.status().changes


def write_columns(stock: StockRoom, count: int) -> None:
    """Create columns of 20 numbers."""
    for number in range(count):
        stock.data[f"c{number:05}"] = np.arange(number, number + 20)


def set_values(stock: StockRoom, count: int) -> None:
    """Set values."""
    for number in range(count):
        stock.experiment[f"v{number:05}"] = number / 2


def set_and_ask(stock: StockRoom, count: int) -> None:
    """Set values, and ask for each and for their number at every step."""
    for number in range(count):
        stock.experiment[f"v{number:05}"] = number / 2
        assert f"v{number:05}" in stock.experiment
        assert len(stock.experiment) == number + 1


def save_models(stock: StockRoom, count: int) -> None:
    """Save models of 300 tensors of 64 numbers."""
    random = np.random.default_rng(0)
    for number in range(count):
        weights = random.standard_normal((TENSORS, 64), np.float32)
        stock.model[f"m{number}"] = {f"layer{layer}": weights[layer] for layer in range(TENSORS)}


WORKS: Final[dict[str, tuple[Callable[[StockRoom, int], None], int, float]]] = {
    "columns imported from one CSV": (import_csv, CSV_COLUMNS, 4.0),
    "columns written": (write_columns, COLUMNS, 1.5),
    "values set one by one": (set_values, VALUES, 1.0),
    "values set, each asked for and all counted": (set_and_ask, VALUES, 1.5),
    f"models of {TENSORS} small tensors": (save_models, MODELS, 5.0),
}
