"""`stock export`: write a column to files that other programs can read."""

from __future__ import annotations

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


@verb(example="stock export v1:data/image --to images.npz", complete={"address": "addresses"})
def export(
    console: Console,
    address: Annotated[str, typer.Argument(help="A column, such as data/image or v1:data/image.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="A file ending in .npy, .npz, .parquet, .zarr or .tar, or a folder for one file per sample.",
        ),
    ],
    keys: Annotated[
        str | None, typer.Option(metavar="A:B|K1,K2", help="Positions in key order, or comma-separated keys.")
    ] = None,
    where: WhereOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file, or the files of an earlier export in a folder.")
    ] = False,
) -> None:
    """Write samples of a column to a file or folder.

    Samples are written in key order. The file or folder appears complete or not at all.
    """
    from stockroom.shelves.export import check_ending

    path = Path(to)
    parsed = parse_path_address(address)
    shelf, _, name = parsed.path.partition("/")
    if shelf in _OTHER_VERBS and name:
        raise InvalidInputError(f"{parsed.path} is not a column: {_OTHER_VERBS[shelf]} writes it to a file")
    try:
        check_ending(to)
    except InvalidInputError as error:
        raise CommandLineError(str(error)) from error
    left_out: list[str] = []
    with console.open_stock(parsed.ref) as stock, console.progress("export") as progress:
        column = stock.data[parsed.path.removeprefix("data/")]
        count = column.export(
            to,
            keys=None if keys is None else parse_keys(keys, column.key_type),
            where=where,
            force=force,
            on_progress=lambda done, total: progress.update("export", done, total=total),
            on_left_out=left_out.append,
        )
    console.say(f"wrote {format_count(count, 'sample')} to {path}")
    for line in left_out:
        console.say(line)
    console.answer({"path": str(path), "samples": count, "left_out": left_out})
