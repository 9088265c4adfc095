"""`stock model stats`: show statistics of a model's tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.address import MODEL_METAVAR, ModelPart, open_part, parse_path_address
from stockroom.cli.console import Console
from stockroom.cli.render.column import format_shape
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_headed_lines
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import LeafInfo
    from stockroom.shelves.model.stats import TensorStats

_HEADINGS = ("name", "dtype", "shape", "mean", "std", "min", "max", "zeros", "nan", "inf", "histogram")


@verb(example="stock model stats resnet 'layer1.*' --bins 10", complete={"address": "models"})
def stats(
    console: Console,
    address: Annotated[str, typer.Argument(metavar=MODEL_METAVAR, help="Which model, or which part of it.")],
    patterns: Annotated[
        list[str] | None, typer.Argument(metavar="[PATTERN]...", help="Only these tensors, as 'encoder.*'.")
    ] = None,
    bins: Annotated[int, typer.Option(min=1, max=1 << 16, help="Bins of each histogram.")] = 20,
) -> None:
    """Show each tensor's mean, deviation, least and greatest value, zeros, NaN, and a histogram.

    Moments, least and greatest value and histogram are of the finite values, and of complex numbers of the magnitudes.
    """
    where = parse_path_address(address)
    with console.open_stock(where.ref) as stock:
        part = open_part(stock, where.path)
        found = list(_iter_stats(console, part, patterns, bins))
    console.answer(
        lambda: {"path": part.path, "tensors": [_document(leaf, stats) for leaf, stats in found]},
        lambda: iter_headed_lines(_HEADINGS, [_cells(leaf, stats) for leaf, stats in found]),
    )


def _iter_stats(
    console: Console, part: ModelPart, patterns: list[str] | None, bins: int
) -> Iterator[tuple[LeafInfo, TensorStats | None]]:
    from stockroom.shelves.model.stats import iter_stats

    nbytes = 0
    with console.progress("stats") as progress:
        for number, (leaf, stats) in enumerate(iter_stats(part.state, patterns or None, bins=bins)):
            nbytes += leaf.nbytes
            progress.update("stats", number + 1, nbytes=nbytes)
            yield leaf, stats


def _document(leaf: LeafInfo, stats: TensorStats | None) -> dict[str, object]:
    from stockroom.cli.render.leaf import json_float, stats_document

    fields: dict[str, object] = {"path": leaf.path, "dtype": leaf.dtype, "shape": list(leaf.shape)}
    if stats is None:
        return fields
    histogram = stats.histogram
    counted = histogram and {
        "edges": [json_float(edge) for edge in histogram.edges.tolist()],
        "counts": histogram.counts.tolist(),
    }
    return fields | stats_document(stats) | {"histogram": counted}


def _cells(leaf: LeafInfo, stats: TensorStats | None) -> tuple[str, ...]:
    from stockroom.cli.render.bars import draw_bars  # here for start-up time
    from stockroom.cli.render.leaf import format_number

    cells = (format_key(leaf.path or "(all)"), leaf.dtype, format_shape(leaf.shape))
    if stats is None:
        return (*cells, *[""] * (len(_HEADINGS) - len(cells)))
    numbers = map(format_number, (stats.mean, stats.std, stats.least, stats.greatest))
    bars = "" if stats.histogram is None else f"|{draw_bars(stats.histogram.counts.tolist())}|"
    return (*cells, *numbers, f"{stats.zero_fraction:.1%}", str(stats.nan), str(stats.inf), bars)
