"""`stock cat`: print the value of a sample, leaf or value, or the content of a metric or artifact."""

from __future__ import annotations

import base64
import json
import sys
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stockroom.cli.address import (
    DATA_SHELF,
    MODEL_SHELF,
    parse_key,
    parse_path_address,
    split_model,
    split_path,
    split_shelf,
)
from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.verb import verb
from stockroom.errors import InvalidInputError, LeafNotFoundError

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.cli.render.sample import Sample


@verb(example="stock cat data/caption/two", complete={"address": "addresses"})
def cat(
    console: Console,
    address: Annotated[
        str,
        typer.Argument(
            metavar="[REV:]PATH", help="data/COLUMN/KEY, model/NAME/LEAF, experiment/KEY, metric/NAME or artifact/NAME."
        ),
    ],
    raw: Annotated[bool, typer.Option("--raw", help="An array's raw bytes, C order, instead of a .npy file.")] = False,
) -> None:
    """Print a value: text and bytes as they are, an array as a .npy file or, on a terminal, as text.

    A metric is printed as CSV, a value that is a list, a dict or a number as JSON.
    """
    if raw and console.json:
        raise CommandLineError("expected --raw or --json, found both; give one")
    parsed = parse_path_address(address)
    with console.open_stock(parsed.ref) as stock:
        shelf, rest = split_shelf(parsed.path or DATA_SHELF)
        if shelf in ("metric", "artifact"):
            (_print_metric if shelf == "metric" else _print_artifact)(console, stock, rest)
            return
        value = _read_value(stock, shelf, rest)
    _tell(console, value, raw=raw)


def _read_value(stock: StockRoom, shelf: str, rest: str) -> Any:
    """Return the value at the address: an array, str, bytes, or another Python value."""
    if shelf == DATA_SHELF:
        return _read_sample(stock, f"{shelf}/{rest}" if rest else shelf)
    if shelf == MODEL_SHELF:
        return _read_leaf(stock, rest)
    return stock.experiment.load(rest, as_numpy=True)


def _read_sample(stock: StockRoom, path: str) -> Sample:
    column_name, key_text = split_path(path, list(stock.data))
    if column_name is None or key_text is None:
        raise CommandLineError(f"cat needs data/COLUMN/KEY, found {path!r}; `stock ls` lists columns and keys")
    column = stock.data[column_name]
    sample: Sample = column[parse_key(key_text, str(column.key_type), column=column_name)]
    return sample


def _read_leaf(stock: StockRoom, path: str) -> Any:
    wanted = f"cat needs model/NAME/LEAF, found {f'model/{path}'!r}; `stock ls model/NAME` lists the leaves, "
    wanted += "`stock model export` writes whole models"
    if not path:
        raise CommandLineError(wanted)
    name, part = split_model(stock, path)
    state = stock.model[name]
    try:
        return state.read(part, as_numpy=True)
    except LeafNotFoundError:
        if not part or state.at(part):
            raise CommandLineError(wanted) from None
        raise


def _tell(console: Console, value: Any, *, raw: bool) -> None:
    import numpy as np  # here for start-up time

    from stockroom.cli.render.sample import array_text, json_value, npy_bytes, raw_bytes, sample_document

    if not isinstance(value, str | bytes | np.ndarray | np.generic):
        _tell_plain(console, value)
        return
    sample: Sample = np.asarray(value) if isinstance(value, np.generic) else value
    if console.json:
        document = sample_document(sample) | {"value": json_value(sample)}
        del document["summary"]
        console.document(document)
    elif raw:
        console.binary(raw_bytes(sample))
    elif isinstance(sample, np.ndarray) and sys.stdout.isatty():
        console.line(array_text(sample))
    elif isinstance(sample, np.ndarray):
        console.binary(npy_bytes(sample))
    elif sys.stdout.isatty():
        console.line(sample if isinstance(sample, str) else repr(sample))
    else:
        console.binary(raw_bytes(sample))


def _tell_plain(console: Console, value: Any) -> None:
    from stockroom.cli.render.experiment import as_json  # here for start-up time

    plain = as_json(value)
    console.answer({"value": plain}, lambda: [json.dumps(plain, ensure_ascii=False)])


def _print_metric(console: Console, stock: StockRoom, name: str) -> None:
    """Print every point of a metric, one per line; raises `ValueNotFoundError`."""
    from stockroom.cli.render.experiment import as_json  # here for start-up time

    steps, values = stock.experiment.metrics[name]
    console.answer(
        lambda: {"path": f"metric/{name}", "steps": steps.tolist(), "values": as_json(values.tolist())},
        chain(
            ["step,value"], (f"{step},{value!r}" for step, value in zip(steps.tolist(), values.tolist(), strict=True))
        ),
    )


def _print_artifact(console: Console, stock: StockRoom, name: str) -> None:
    """Print an artifact's bytes unchanged, on a terminal only if they are text; raises `ValueNotFoundError`."""
    artifact = stock.experiment.artifacts[name]
    data = artifact.read()
    if console.json:
        value = {"base64": base64.b64encode(data).decode("ascii")}
        console.document({"path": f"artifact/{name}", "media_type": artifact.media_type, "value": value})
    elif sys.stdout.isatty():
        console.line(_decode(name, data))
    else:
        console.binary(data)


def _decode(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"artifact {name!r} has bytes that no terminal shows: send them to a file, as in > {name.split('/')[-1]}"
        ) from error
