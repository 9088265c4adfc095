"""`stock cat`: one sample's value."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.address import parse_key, parse_path_address, split_path
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.cli.sample_text import Sample


@verb
def cat(
    console: Console,
    address: Annotated[str, typer.Argument(metavar="[REV:]data/COLUMN/KEY", help="Which sample.")],
    raw: Annotated[bool, typer.Option("--raw", help="An array's raw bytes, C order, instead of a .npy file.")] = False,
) -> None:
    """Print a sample: text and bytes as they are, an array as a .npy file or, on a terminal, as text."""
    if raw and console.json:
        raise CommandLineError("expected --raw or --json, found both; give one")
    place = parse_path_address(address)
    with console.open_stock(place.ref) as stock:
        sample = _read_sample(stock, place.path)
    if console.json:
        console.document(_document(sample))
    else:
        _print_sample(console, sample, raw=raw)


def _read_sample(stock: StockRoom, path: str) -> Sample:
    column_name, key_text = split_path(path or "data", list(stock.data))
    if column_name is None or key_text is None:
        raise CommandLineError(f"cat needs data/COLUMN/KEY, found {path!r}; `stock ls` lists columns and keys")
    column = stock.data[column_name]
    sample: Sample = column[parse_key(key_text, str(column.key_type), column=column_name)]
    return sample


def _document(sample: Sample) -> dict[str, object]:
    from stockroom.cli.sample_text import json_value, sample_document  # imports numpy

    form = sample_document(sample)
    del form["summary"]
    return form | {"value": json_value(sample)}


def _print_sample(console: Console, sample: Sample, *, raw: bool) -> None:
    from stockroom.cli.sample_text import npy_bytes, raw_bytes

    if raw:
        console.binary(raw_bytes(sample))
    elif sys.stdout.isatty():
        console.line(sample if isinstance(sample, str) else _terminal_text(sample))
    elif isinstance(sample, str | bytes):
        console.binary(raw_bytes(sample))
    else:
        console.binary(npy_bytes(sample))


def _terminal_text(sample: Sample) -> str:
    from stockroom.cli.sample_text import array_text

    return repr(sample) if isinstance(sample, str | bytes) else array_text(sample)
