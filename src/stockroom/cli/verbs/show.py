"""`stock show`: describe a commit, or one thing in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from stockroom.cli.address import DATA_SHELF, MODEL_SHELF, parse_address, parse_key, split_path, split_shelf
from stockroom.cli.console import Console
from stockroom.cli.render.change import changes_document, changes_of_diff, iter_stat_lines
from stockroom.cli.render.column import column_document, column_line, format_shape
from stockroom.cli.render.commit import commit_document, iter_commit_lines
from stockroom.cli.render.contents import LISTERS, ListedItem, artifact_document, list_versions
from stockroom.cli.render.printable import format_key
from stockroom.cli.render.table import iter_table_lines
from stockroom.cli.verb import verb
from stockroom.cli.verbs.ls import list_shelves
from stockroom.errors import InvalidInputError, NotFoundError, RefNotFoundError

if TYPE_CHECKING:
    from stockroom import Column, StockRoom
    from stockroom.cli.render.sample import Sample

_TEXT_LENGTH: Final = 200
_CURVE_WIDTH: Final = 60
_SIGNS: Final = {"added": "+"}


@dataclass(frozen=True, slots=True)
class PictureOutput:
    """Further outputs for a picture: a file, the desktop's viewer."""

    file: Path | None
    opens: bool

    def refuse(self) -> None:
        """Raise `InvalidInputError` if an output was requested for something that is not a sample."""
        if self.file is not None or self.opens:
            raise InvalidInputError("--open and --png take one sample, as data/image/0")

    def write(self, sample: Sample) -> Path | None:
        """Write the file if an output was requested, and return its path."""
        if self.file is None and not self.opens:
            return None
        from stockroom.cli.render.picture_file import open_viewer, save_picture

        path = save_picture(sample, self.file)
        if self.opens:
            open_viewer(path)
        return path


@verb(example="stock show HEAD~2:data/image/0 --open", complete={"address": "addresses"})
def show(
    console: Console,
    address: Annotated[
        str,
        typer.Argument(
            metavar="[REV][:PATH]",
            help="A commit, or data/COLUMN[/KEY], model/NAME[/LEAF], experiment/KEY, metric/NAME, artifact/NAME in it.",
        ),
    ] = "HEAD",
    open_: Annotated[
        bool, typer.Option("--open", help="Write the sample, a picture, to a PNG file, and show that on the desktop.")
    ] = False,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the sample, a picture, to this new PNG file.")
    ] = None,
) -> None:
    """Show a commit, what it holds and what it changed; or a column, sample, model, leaf, value, metric or artifact.

    On a terminal with colours, samples that are pictures are drawn.
    """
    parsed = parse_address(address)
    output = PictureOutput(png, opens=open_)
    with console.open_stock(parsed.ref) as stock:
        if not parsed.path:
            output.refuse()
            _show_commit(console, stock, parsed.ref)
            return
        try:
            _show_path(console, stock, parsed.path, output)
        except NotFoundError as error:
            if parsed.path in stock.branches or parsed.path in stock.tags:
                raise NotFoundError(f"{error}; the branch or tag of that name is '{parsed.path}:'") from error
            raise


def _show_path(console: Console, stock: StockRoom, path: str, output: PictureOutput) -> None:
    """Print the thing at a path in the handle's commit."""
    shelf, rest = split_shelf(path)
    if shelf == DATA_SHELF and rest:
        _show_data(console, stock, path, output)
        return
    output.refuse()
    if not rest:
        list_shelves(console, stock, [shelf])
    elif shelf == MODEL_SHELF:
        from stockroom.cli.verbs.model.show import show_path

        show_path(console, stock, rest)
    else:
        _show_item(console, stock, shelf, rest)


def _show_data(console: Console, stock: StockRoom, path: str, output: PictureOutput) -> None:
    column_name, key_text = split_path(path, list(stock.data))
    assert column_name is not None
    column = stock.data[column_name]
    if key_text is None:
        output.refuse()
        _show_column(console, column)
    else:
        _show_sample(console, column, parse_key(key_text, str(column.key_type), column=column_name), output)


def _show_column(console: Console, column: Column) -> None:
    path, dtype, shape, count, nbytes = column_line(column)
    rows: dict[str, object] = {
        "dtype": dtype,
        "shape": shape,
        "keys": str(column.key_type),
        "count": count,
        "size": nbytes,
    }
    rows |= {"decoder": column.decoder} if column.decoder else {}
    rows |= {f"attr {name}": value for name, value in column.attrs.items()}
    console.answer({"column": column_document(column)}, _iter_fact_lines(path, rows.items()))


def _show_sample(console: Console, column: Column, key: int | str, output: PictureOutput) -> None:
    from stockroom.cli.render.sample import sample_document  # imports numpy

    sample = column[key]
    fields = sample_document(sample)
    digest, png = column.digest(key), output.write(sample)
    files = {} if png is None else {"png": str(png)}
    document = {"path": f"data/{column.name}", "key": key, "digest": digest, **fields, **files}
    summary = fields.pop("summary")
    fields["shape"] = format_shape(() if isinstance(sample, str | bytes) else sample.shape)
    rows = [*fields.items(), ("digest", digest), *_pairs(summary), *files.items()]
    console.answer(document, _iter_fact_lines(f"data/{column.name}/{format_key(key)}", rows))
    if not console.json:
        _show_look(console, sample)


def _show_look(console: Console, sample: Sample) -> None:
    """Print a view of a sample: text, a picture, or a curve."""
    from stockroom.cli.render.sample import draw_look, find_curve

    if isinstance(sample, str):
        console.line(f"  text: {sample[:_TEXT_LENGTH]}")
    elif console.has_colours and (lines := draw_look(sample)):
        console.draw(lines)
    elif curve := find_curve(sample, width=_CURVE_WIDTH):
        console.line(f"  curve: {curve}")


def _iter_fact_lines(heading: str, facts: Iterable[tuple[str, object]]) -> Iterator[str]:
    yield heading
    yield from (f"  {name}: {value}" for name, value in facts)


def _pairs(summary: object) -> list[tuple[str, object]]:
    return list(summary.items()) if isinstance(summary, dict) else []


def _show_commit(console: Console, stock: StockRoom, ref: str) -> None:
    """Print the handle's commit, named by `ref`."""
    commit = next(stock.log(n=1), None)
    if commit is None:
        raise RefNotFoundError("HEAD has no commit yet; `stock commit` makes the first", ref=ref)
    changes = changes_of_diff(stock.changes())
    kinds = {change.path: change.kind for change in changes}
    held = {shelf: list_versions(stock) if shelf == "data" else lister(stock) for shelf, (_, lister) in LISTERS.items()}
    holds = {LISTERS[shelf][0]: _item_documents(items, kinds) for shelf, items in held.items()}
    item_lines = (line for items in held.values() for line in _iter_item_lines(items, kinds))
    console.answer(
        {"commit": commit_document(commit), "changes": changes_document(changes), "holds": holds},
        chain(iter_commit_lines(commit), [""], iter_stat_lines(changes), ["", "Holds (+ new, ~ changed):"], item_lines),
    )


def _item_documents(items: Sequence[ListedItem], kinds: Mapping[str, str]) -> list[dict[str, object]]:
    """Return the items as JSON, with the commit's change to each: null if it did not change."""
    return [item.document | {"change": kinds.get(item.path)} for item in items]


def _iter_item_lines(items: Sequence[ListedItem], kinds: Mapping[str, str]) -> Iterator[str]:
    signs = [_SIGNS.get(kinds[item.path], "~") if item.path in kinds else " " for item in items]
    for sign, line in zip(signs, iter_table_lines([item.cells for item in items]), strict=True):
        yield f" {sign} {line}"


def _show_item(console: Console, stock: StockRoom, shelf: str, name: str) -> None:
    """Print the value, metric or artifact called `name`; raises `ValueNotFoundError`."""
    from stockroom.cli.render.experiment import as_json, shorten  # here for start-up time
    from stockroom.shelves.experiment.cells import format_cell  # here for start-up time

    fields = _DESCRIBE[shelf](stock, name)
    document = {"path": f"{shelf}/{name}", **as_json(fields)}
    if shelf == "experiment":  # name the parts; a value without parts is called `value`
        fields = {part.removeprefix(name).removeprefix(".") or "value": cell for part, cell in fields["cells"].items()}
    facts = ((part, shorten(format_cell(value), _TEXT_LENGTH)) for part, value in fields.items())
    console.answer(document, _iter_fact_lines(f"{shelf}/{name}", facts))


def _describe_metric(stock: StockRoom, name: str) -> dict[str, Any]:
    from stockroom.cli.render.experiment import summary_document  # here for start-up time

    summary = stock.experiment.metrics.summary(name)
    return {**summary_document(summary), "last": summary.last, "min": summary.min, "max": summary.max}


_DESCRIBE: Final[Mapping[str, Callable[[StockRoom, str], dict[str, Any]]]] = {
    "experiment": lambda stock, name: {"cells": stock.experiment.outline(name)},
    "metric": _describe_metric,
    "artifact": lambda stock, name: artifact_document(stock.experiment.artifacts[name]),
}
