"""`stock model import`: import a model from another program's file, and commit it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockroom.cli.console import Console
from stockroom.cli.options import DEFAULT_TIMEOUT_S, TimeoutOption
from stockroom.cli.render.change import changes_document, changes_of_diff
from stockroom.cli.render.commit import describe_outcome
from stockroom.cli.render.model import format_count_of_leaves
from stockroom.cli.render.units import format_nbytes
from stockroom.cli.verb import verb
from stockroom.errors import SchemaError

if TYPE_CHECKING:
    from stockroom import StockRoom


@verb(example="stock model import resnet.pt --name resnet")
def import_(
    console: Console,
    file: Annotated[Path, typer.Argument(help="A file ending in .safetensors, .pt, .pth, .bin, .ckpt or .pth.tar.")],
    name: Annotated[str | None, typer.Option(help="The model's name; by default the file's name.")] = None,
    message: Annotated[str | None, typer.Option("-m", "--message", help="The commit message.")] = None,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Leave the import staged.")] = False,
    no_metadata: Annotated[bool, typer.Option("--no-metadata", help="Omit a safetensors file's metadata.")] = False,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
) -> None:
    """Import a model, and commit it.

    All staged changes are committed too. A model of the same name is replaced.

    No code in the file is executed: a pickle that would run code is refused. A failed import changes nothing.
    """
    from stockroom.interop import name_model, read_model_file

    with console.open_stock() as stock:
        before = stock.commit_id
        called = name or name_model(file)
        loaded = read_model_file(file)
        metadata = {} if no_metadata else _check_metadata(file, loaded.metadata)
        block = stock.enable_write(message or f"Import model {called}", timeout_s)
        target = console.open_staging(timeout_s) if no_commit else block
        with console.progress("import"), target as writer:
            writer.model.save(called, loaded.state, **metadata)
            leaves, nbytes = _measure(writer, called)
            changes = changes_of_diff(writer.status().changes)
        stock.refresh()
        commit_id = stock.commit_id if stock.commit_id != before else None
    outcome = describe_outcome(commit_id, staged=no_commit)
    console.say(f"imported {format_count_of_leaves(leaves)} ({format_nbytes(nbytes)}) as model {called}; {outcome}")
    document = {"model": called, "leaves": leaves, "nbytes": nbytes, "commit": commit_id}
    console.answer({**document, "changes": changes_document(changes)}, [commit_id] if commit_id else [])


def _check_metadata(file: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata in a file, if it is not too large to store."""
    from stockroom.content.attrs import check_json

    try:
        return check_json(dict(metadata), where=str(file), name="metadata")
    except SchemaError as error:
        raise SchemaError(f"{error}; --no-metadata omits them") from error


def _measure(writer: StockRoom, name: str) -> tuple[int, int]:
    state = writer.model[name]
    return len(state.paths()), state.nbytes
