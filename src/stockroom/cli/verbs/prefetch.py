"""`stock prefetch`: fetch samples and models before they are read."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.options import WhereOption, parse_keys
from stockroom.cli.render.units import format_count, format_nbytes, parse_nbytes
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.trees import Key


@verb(example="stock prefetch data/image --where 'label == 3'", complete={"path": "addresses", "ref": "refs"})
def prefetch(
    console: Console,
    path: Annotated[
        str | None, typer.Argument(help="Such as data/image, model/resnet or artifact/plot.png; everything by default.")
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            metavar="A:B|K1,K2",
            help="Positions in key order, or comma-separated keys; for a model, leaf names or patterns.",
        ),
    ] = None,
    where: WhereOption = None,
    ref: Annotated[str, typer.Option(help="The commit to fetch from.")] = "HEAD",
    max_size: Annotated[str | None, typer.Option(metavar="SIZE", help="Fetch at most SIZE, such as 2GiB.")] = None,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Only print how much would be fetched.")] = False,
) -> None:
    """Fetch samples and models before they are read."""
    budget = None if max_size is None else parse_nbytes(max_size)
    with console.open_stock(ref) as stock, console.transfer("prefetch") as show:
        chosen = None if keys is None else _parse_keys(stock, path, keys)
        report = stock.prefetch(path, chosen, where, max_nbytes=budget, dry_run=dry_run, on_progress=show)
    read = f"reading {format_nbytes(report.read_nbytes)} in {format_count(report.requests, 'request')}"
    cost = f"{format_nbytes(report.nbytes)}, {read}"
    noun = "tensor" if path is not None and path.startswith("model/") else "sample"
    line = f"{format_count(report.samples, noun)}: {'would fetch' if dry_run else 'fetched'} {cost}"
    console.answer({**asdict(report), "dry_run": dry_run}, [line])
    if report.left_out:
        console.say(f"{report.left_out} chunks left out: they would exceed {max_size}")


def _parse_keys(stock: StockRoom, path: str | None, text: str) -> slice | list[Key]:
    """Parse `0:1000` as positions, otherwise keys of the column's key type, or names of a model's leaves."""
    if path is None:
        raise CommandLineError("--keys needs a column or model, such as data/image")
    if path.startswith("model/"):
        return list(text.split(","))
    return parse_keys(text, stock.data[path.removeprefix("data/")].key_type)
