"""`stock model export`: write a model to a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stockroom.cli.address import MODEL_METAVAR, open_part, parse_path_address
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.render.units import format_count, format_nbytes
from stockroom.cli.verb import verb
from stockroom.errors import InvalidInputError


@verb(example="stock model export resnet --to resnet.safetensors", complete={"address": "models"})
def export(
    console: Console,
    address: Annotated[str, typer.Argument(metavar=MODEL_METAVAR, help="Which model, or which part of it.")],
    to: Annotated[Path, typer.Option(help="A new file ending in .safetensors.")],
    force: Annotated[bool, typer.Option("-f", "--force", help="Replace a file that is there.")] = False,
    tensors_only: Annotated[
        bool, typer.Option("--tensors-only", help="Leave out numbers, text and None, which go into the metadata.")
    ] = False,
) -> None:
    """Write a model's tensors to a safetensors file, nested names joined by dots."""
    from stockroom.interop import write_safetensors

    if to.suffix.lower() != ".safetensors":
        raise CommandLineError(f"expected a file that ends in .safetensors, found {to}")
    if to.exists() and not force:
        raise InvalidInputError(f"{to} exists already; choose another name, or replace it with --force")
    parsed = parse_path_address(address)
    with console.open_stock(parsed.ref) as stock, console.progress("export"):
        state = open_part(stock, parsed.path).state
        report = write_safetensors(state, to, tensors_only=tensors_only, overwrite=force)
    console.answer({"path": str(to), "tensors": report.tensors, "nbytes": report.nbytes, "values": report.values})
    values = f" and {format_count(report.values, 'value')}" if report.values else ""
    console.say(f"wrote {format_count(report.tensors, 'tensor')} ({format_nbytes(report.nbytes)}){values} to {to}")
