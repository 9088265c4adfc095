"""`stock model diff`: show which tensors differ, and by how much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli import exit_codes
from stockroom.cli.address import MODEL_METAVAR, Address, ModelPart, open_part, parse_path_address
from stockroom.cli.console import Console
from stockroom.cli.render.column import format_shape
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_headed_lines
from stockroom.cli.verb import verb
from stockroom.errors import NotFoundError

if TYPE_CHECKING:
    from stockroom.shelves.model.difference import LeafDifference

_HEADINGS = ("kind", "name", "dtype", "shape", "norm", "relative", "max abs", "elements", "nan")


@verb(example="stock model diff v1:resnet v2:resnet", complete={"a": "models", "b": "models"})
def diff(
    console: Console,
    a: Annotated[
        str, typer.Argument(metavar=MODEL_METAVAR, help="The old side; or the new one, if no other is given.")
    ],
    b: Annotated[
        str | None,
        typer.Argument(metavar=f"[{MODEL_METAVAR}]", help="The new side. Without it A against its first parent."),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 where anything differs.")] = False,
) -> None:
    """Show which tensors differ between two models, or two commits of one, and by how much.

    norm is the L2 norm of the difference, relative that over the norm of the old values. Equal tensors are not read.
    """
    with ExitStack() as stack:
        new = _open(console, stack, parse_path_address(a if b is None else b))
        old = _open_parent(console, stack, a) if b is None else _open(console, stack, parse_path_address(a))
        found = list(_iter_differences(console, old, new))
        leaves = len(new.state.paths())
    console.answer(
        lambda: {"changes": [_document(entry) for entry in found]},
        lambda: iter_headed_lines(_HEADINGS, list(map(_cells, found))),
    )
    console.say(_summarise(found, leaves))
    if exit_code and found:
        raise typer.Exit(exit_codes.FAILED)


def _open(console: Console, stack: ExitStack, parsed: Address) -> ModelPart:
    return open_part(stack.enter_context(console.open_stock(parsed.ref)), parsed.path)


def _open_parent(console: Console, stack: ExitStack, address: str) -> ModelPart | None:
    """Return the model as in the first parent of its commit, or None."""
    parsed = parse_path_address(address)
    stock = stack.enter_context(console.open_stock(parsed.ref))
    parents = next(stock.log(n=1)).parents
    with suppress(NotFoundError):
        if parents:
            return _open(console, stack, Address(parents[0], parsed.path))
    return None


def _iter_differences(console: Console, old: ModelPart | None, new: ModelPart) -> Iterator[LeafDifference]:
    from stockroom.shelves.model.difference import iter_differences

    nbytes = 0
    with console.progress("diff") as progress:
        for number, entry in enumerate(iter_differences(None if old is None else old.state, new.state)):
            nbytes += entry.new.nbytes if entry.new else 0
            progress.update("diff", number + 1, nbytes=nbytes)
            yield entry


def _cells(entry: LeafDifference) -> tuple[str, ...]:
    from stockroom.cli.render.leaf import format_number
    from stockroom.cli.render.sample import json_value

    leaf = entry.new or entry.old
    assert leaf is not None
    cells = (entry.kind, format_key(entry.path or "(all)"), _format_both(entry, "dtype"), _format_both(entry, "shape"))
    if entry.values is not None:
        return (*cells, f"{json_value(entry.values[0])} -> {json_value(entry.values[1])}", "", "", "", "")
    found = entry.difference
    if found is None:
        return (*cells, "", "", "", "", "")
    numbers = map(format_number, (found.norm, found.relative_norm, found.max_abs))
    nan = f"{found.nan_old} -> {found.nan_new}" if found.nan_old or found.nan_new else ""
    return (*cells, *numbers, f"{found.changed} of {found.count}", nan)


def _format_both(entry: LeafDifference, field: str) -> str:
    """Return a leaf's dtype or shape, or both sides if they differ."""
    leaves = [leaf for leaf in (entry.old, entry.new) if leaf is not None]
    return " -> ".join(dict.fromkeys(leaf.dtype if field == "dtype" else format_shape(leaf.shape) for leaf in leaves))


def _document(entry: LeafDifference) -> dict[str, object]:
    from stockroom.cli.render.sample import json_value

    document: dict[str, object] = {"path": entry.path, "kind": entry.kind}
    for side, leaf in (("old", entry.old), ("new", entry.new)):
        document[side] = leaf and {"dtype": leaf.dtype, "shape": list(leaf.shape), "digest": leaf.digest}
    if entry.values is not None:
        document["values"] = [json_value(value) for value in entry.values]
    if entry.difference is not None:
        numbers = asdict(entry.difference)
        document["difference"] = {name: None if n is None else json_value(n) for name, n in numbers.items()}
    return document


def _summarise(found: list[LeafDifference], leaves: int) -> str:
    """Return `3 leaves changed, 1 added, 0 removed; 58 are the same`."""
    added = sum(entry.kind == "added" for entry in found)
    removed = sum(entry.kind == "removed" for entry in found)
    changed = len(found) - added - removed
    noun = "leaf" if changed == 1 else "leaves"
    return f"{changed} {noun} changed, {added} added, {removed} removed; {leaves - changed - added} are the same"
