"""`stock model show`: show the leaves of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stockroom.cli.address import MODEL_METAVAR, MODEL_SHELF, ModelPart, open_part, parse_path_address, split_model
from stockroom.cli.console import Console
from stockroom.cli.render.column import format_shape
from stockroom.cli.render.model import format_count_of_leaves, format_metadata, iter_leaf_lines, leaf_document
from stockroom.cli.render.units import format_nbytes
from stockroom.cli.verb import verb

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb(example="stock model show resnet/fc", complete={"address": "models"})
def show(
    console: Console,
    address: Annotated[str, typer.Argument(metavar=MODEL_METAVAR, help="Which model, or which part or leaf of it.")],
) -> None:
    """Show a model's leaves: dtype, shape, size, digest, and what the commit changed. A leaf alone with its values."""
    parsed = parse_path_address(address)
    with console.open_stock(parsed.ref) as stock:
        show_path(console, stock, parsed.path)


def show_path(console: Console, stock: StockRoom, path: str) -> None:
    """Print the model, container or leaf at `NAME` or `NAME/PART`."""
    name, part = split_model(stock, path)
    state = stock.model[name]
    if part in state.paths():
        _show_leaf(console, ModelPart(name, part, state))
    else:
        _show_part(console, stock, open_part(stock, path))


def _show_part(console: Console, stock: StockRoom, part: ModelPart) -> None:
    leaves, changes = list(part.state.leaves()), _read_changes(stock, part)
    metadata, nbytes = dict(part.state.metadata), part.state.nbytes
    heading = f"{part.path}: {format_count_of_leaves(len(leaves))}, {format_nbytes(nbytes)}"
    notes = [f"metadata: {format_metadata(metadata)}"] if metadata else []
    document = {"path": part.path, "metadata": metadata, "nbytes": nbytes}
    console.answer(
        lambda: {**document, "leaves": [leaf_document(leaf, changes.get(leaf.path)) for leaf in leaves]},
        lambda: [heading, *notes, *iter_leaf_lines(leaves, changes)],
    )


def _show_leaf(console: Console, part: ModelPart) -> None:
    from stockroom.cli.render.leaf import describe_leaf  # imports numpy

    (leaf,) = part.state.leaves([part.part] if part.part else None)
    fields, summary = describe_leaf(part.state, leaf)
    fields["digest"] = leaf.digest
    told = {name: value for name, value in fields.items() if value is not None} | {"shape": format_shape(leaf.shape)}
    console.answer(
        {"path": part.path, **fields, "summary": summary},
        [part.path, *(f"  {name}: {value}" for name, value in (*told.items(), *summary.items()))],
    )


def _read_changes(stock: StockRoom, part: ModelPart) -> dict[str, str]:
    """Return `new` or `changed` by path in `part`, for the leaves that the handle's commit added or changed."""
    difference = stock.changes().get(f"{MODEL_SHELF}/{part.name}")
    if difference is None:
        return {}
    paths = {part.full_path(path) or part.name: path for path in part.state.paths()}
    labels = dict.fromkeys(difference.added, "new") | dict.fromkeys(difference.changed, "changed")
    return {paths[str(path)]: label for path, label in labels.items() if str(path) in paths}
