"""`stock exp export`: write the values, metrics and artifacts of one commit to files that other programs can read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from stockroom.cli.console import Console
from stockroom.cli.render.commit import short_id
from stockroom.cli.render.experiment import as_json
from stockroom.cli.render.units import format_count
from stockroom.cli.verb import verb
from stockroom.errors import InvalidInputError, RefNotFoundError, ValueNotFoundError
from stockroom.files import open_whole
from stockroom.shelves.experiment.artifacts import choose_target

if TYPE_CHECKING:
    from stockroom import ExperimentShelf, StockRoom

_VALUES = "values.json"


@verb(example="stock exp export v1 loss --to results")
def export(
    console: Console,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[REV] [NAME]...",
            help="The commit, HEAD if left out, and the values, metrics or artifacts to write, all if none is named.",
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="The folder; experiment-COMMIT if left out.")
    ] = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Replace files that are there.")] = False,
) -> None:
    """Write artifacts as files, values to values.json, and each metric to metrics/NAME.csv."""
    ref, names = _split_words(console, words or [])
    with console.open_stock(ref) as stock:
        if stock.commit_id is None:
            raise RefNotFoundError("HEAD has no commit yet; `stock commit` makes the first", ref=ref)
        folder = to or Path(f"experiment-{short_id(stock.commit_id)}")
        exports = list(_iter_exports(stock.experiment, _choose(stock.experiment, names)))
        targets = _choose_targets(folder, exports, force=force)
        for each, target in zip(exports, targets, strict=True):
            with open_whole(target) as file:
                each.write(file)
    console.say(f"wrote {format_count(len(exports), 'file')} to {folder}")
    console.answer({"folder": str(folder), "files": [each.name for each in exports]})


@dataclass(frozen=True, slots=True)
class _Export:
    """One file: its path in the folder, and the function that writes it."""

    name: str
    write: Callable[[BinaryIO], object]


def _split_words(console: Console, words: list[str]) -> tuple[str, list[str]]:
    """Return the commit and the names: the first word is the commit if it is one; `InvalidInputError` if it is both."""
    if not words:
        return "HEAD", []
    with console.open_stock() as stock:
        is_name = words[0] in _list_names(stock.experiment)
        if not _is_ref(stock, words[0]):
            return "HEAD", words
    if is_name:
        raise InvalidInputError(f"{words[0]!r} is a commit and a name in HEAD; write HEAD {words[0]} for the name")
    return words[0], words[1:]


def _is_ref(stock: StockRoom, word: str) -> bool:
    try:
        next(stock.log(word, n=1), None)
    except RefNotFoundError:
        return False
    return True


def _list_names(shelf: ExperimentShelf) -> set[str]:
    return {*shelf, *shelf.metrics, *shelf.artifacts}


def _choose(shelf: ExperimentShelf, names: list[str]) -> set[str]:
    known = _list_names(shelf)
    for name in names:
        if name not in known:
            raise ValueNotFoundError(
                f"no value, metric or artifact {name!r} in this commit; `stock exp ls` lists what there is"
            )
    return set(names) or known


def _iter_exports(shelf: ExperimentShelf, chosen: set[str]) -> Iterator[_Export]:
    for name, artifact in shelf.artifacts.items():
        if name in chosen:
            yield _Export(name, artifact.write_to)
    keys = [key for key in shelf if key in chosen]
    if keys:
        yield _Export(_VALUES, lambda file: file.write(_encode_values(shelf, keys)))
    for name in shelf.metrics:
        if name in chosen:
            yield _Export(f"metrics/{name}.csv", lambda file, name=name: _write_csv(shelf, name, file))  # type: ignore[misc]


def _encode_values(shelf: ExperimentShelf, keys: list[str]) -> bytes:
    values = {key: as_json(shelf.load(key, as_numpy=True)) for key in keys}
    return json.dumps(values, indent=2, allow_nan=False).encode() + b"\n"


def _write_csv(shelf: ExperimentShelf, name: str, file: BinaryIO) -> None:
    steps, values = shelf.metrics[name]
    file.write(b"step,value\n")
    for step, value in zip(steps.tolist(), values.tolist(), strict=True):
        file.write(f"{step},{value!r}\n".encode())


def _choose_targets(folder: Path, exports: list[_Export], *, force: bool) -> list[Path]:
    """Return the path of each file; raises `InvalidInputError`, before any is written, if one is taken."""
    targets = [choose_target(folder, export.name) for export in exports]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidInputError(f"two of them would be {target}; export them one at a time, by name")
        if target.is_dir() or (target.exists() and not force):
            raise InvalidInputError(f"{target} exists already; choose another folder, or --force to replace it")
    return targets
