"""`stock export`: a column as files that anything can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.address import parse_path_address
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.progress import Progress
from stockroom.cli.units import format_count
from stockroom.cli.verb import verb
from stockroom.errors import InvalidInputError

if TYPE_CHECKING:
    from stockroom import Column

_SAMPLES_AT_ONCE = 256
_OTHER_VERBS = {
    "model": "`stock model export NAME --to FILE.safetensors`",
    "artifact": "`stock exp export`",
    "metric": "`stock cat metric/NAME`",
    "experiment": "`stock cat experiment/KEY`",
}


@verb
def export(
    console: Console,
    address: Annotated[str, typer.Argument(help="A column, as data/image or v1:data/image.")],
    to: Annotated[Path, typer.Option(help="A new file ending in .npy, for samples of one shape.")],
) -> None:
    """Write a column's samples, stacked in key order, to a NumPy file."""
    where = parse_path_address(address)
    shelf, _, name = where.path.partition("/")
    if shelf in _OTHER_VERBS and name:
        raise InvalidInputError(f"{where.path} is no column: {_OTHER_VERBS[shelf]} writes it to a file")
    if to.suffix != ".npy":
        raise CommandLineError(f"expected a file that ends in .npy, found {to}")
    if os.path.lexists(to):
        raise InvalidInputError(f"{to} exists already; choose another name")
    with console.open_stock(where.ref) as stock, console.progress("export") as progress:
        column = stock.data[where.path.removeprefix("data/")]
        _write_npy(column, to, progress)
        count = len(column)
    if console.json:
        console.document({"path": str(to), "samples": count})
    else:
        console.say(f"wrote {format_count(count, 'sample')} to {to}")


def _write_npy(column: Column, to: Path, progress: Progress) -> None:
    """Write by way of a temporary file, a batch at a time."""
    import numpy as np

    if isinstance(column.dtype, str) or None in column.shape:
        raise InvalidInputError(f"column {column.name!r} has samples of many lengths, which no one array holds")
    shape = (len(column), *(length or 0 for length in column.shape))
    temporary = to.with_name(f".stockroom-{secrets.token_hex(8)}.part")  # a name for which nobody can lay out a link
    ahead = column.read_ahead()
    try:
        if 0 in shape:  # nothing that could be mapped
            with temporary.open("wb") as file:
                np.save(file, np.empty(shape, column.dtype))
            temporary.rename(to)
            return
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=column.dtype, shape=shape)
        for start in range(0, len(column), _SAMPLES_AT_ONCE):
            positions = np.arange(start, min(start + _SAMPLES_AT_ONCE, len(column)))
            if ahead is not None:
                ahead.see(positions)
            out[positions] = column.take(positions)
            progress.update("export", int(positions[-1]) + 1, total=len(column))
        out.flush()
        temporary.rename(to)
    finally:
        temporary.unlink(missing_ok=True)
