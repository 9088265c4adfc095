"""`stock export`: write a column to files that other programs can read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from stockroom.cli.address import parse_path_address
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.options import WhereOption, parse_keys
from stockroom.cli.render.units import format_count
from stockroom.cli.verb import verb
from stockroom.errors import InvalidInputError

_OTHER_VERBS = {
    "model": "`stock model export NAME --to FILE.safetensors`",
    "artifact": "`stock exp export`",
    "metric": "`stock cat metric/NAME`",
    "experiment": "`stock cat experiment/KEY`",
}
_UNKNOWN_KINDS = re.compile(r"\.(csv|h5|hdf5|jpg|json|mat|pkl|png|pt|safetensors|txt|zip)", re.IGNORECASE)
"""Endings that are file types and never names of folders."""


@verb(example="stock export v1:data/image --to images.npz", complete={"address": "addresses"})
def export(
    console: Console,
    address: Annotated[str, typer.Argument(help="A column, as data/image or v1:data/image.")],
    to: Annotated[
        Path,
        typer.Option(
            help="A file to end in .npy, .npz, .parquet, .zarr or .tar, or a folder for a file for each sample."
        ),
    ],
    keys: Annotated[
        str | None, typer.Option(metavar="A:B|K1,K2", help="Positions in key order, or keys with commas between.")
    ] = None,
    where: WhereOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write samples of a column, in key order, to a file or a folder that appears whole or not at all."""
    parsed = parse_path_address(address)
    shelf, _, name = parsed.path.partition("/")
    if shelf in _OTHER_VERBS and name:
        raise InvalidInputError(f"{parsed.path} is no column: {_OTHER_VERBS[shelf]} writes it to a file")
    if _UNKNOWN_KINDS.fullmatch(to.suffix):
        raise CommandLineError(
            f"expected a file to end in .npy, .npz, .parquet, .zarr or .tar, or a folder, found {to}"
        )
    with console.open_stock(parsed.ref) as stock, console.progress("export") as progress:
        column = stock.data[parsed.path.removeprefix("data/")]
        count = column.export(
            to,
            keys=None if keys is None else parse_keys(keys, column.key_type),
            where=where,
            force=force,
            on_progress=lambda done, total: progress.update("export", done, total=total),
        )
    console.say(f"wrote {format_count(count, 'sample')} to {to}")
    console.answer({"path": str(to), "samples": count})
