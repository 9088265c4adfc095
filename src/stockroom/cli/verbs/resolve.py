"""`stock resolve`: decide the open conflicts of an unfinished merge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from stockroom.cli.console import Console
from stockroom.cli.failures import CommandLineError
from stockroom.cli.options import DEFAULT_TIMEOUT_S, TimeoutOption
from stockroom.cli.render.conflict import conflict_document, iter_conflict_lines
from stockroom.cli.render.units import format_count
from stockroom.cli.verb import verb
from stockroom.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.content.merge.conflict import Conflict
    from stockroom.shelves.report import MergeUnderWay


_CHOICES: Final[dict[str, Literal["ours", "theirs", "average"]]] = {
    "ours": "ours",
    "theirs": "theirs",
    "average": "average",
}
"""Options that name a choice; other options take the staged content."""


@verb(example="stock resolve data/label:7 --theirs", complete={"path": "addresses"})
def resolve(
    console: Console,
    path: Annotated[
        str | None,
        typer.Argument(metavar="[PATH[:KEY]]", help="Such as data/label, data/label:7 or model/net:fc/weight."),
    ] = None,
    ours: Annotated[bool, typer.Option("--ours", help="Take HEAD's side.")] = False,
    theirs: Annotated[bool, typer.Option("--theirs", help="Take the side that is merged in.")] = False,
    average: Annotated[bool, typer.Option("--average", help="Take the mean of both tensors of a model.")] = False,
    staged: Annotated[bool, typer.Option("--staged", help="Take the content that is staged now.")] = False,
    value: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Take the content of FILE: a .npy file, text or bytes for a sample, otherwise JSON."
        ),
    ] = None,
    timeout_s: TimeoutOption = DEFAULT_TIMEOUT_S,
) -> None:
    """Resolve the open conflicts of a merge.

    Resolve all conflicts at a path, or the one at a key, with a side or a value. Without arguments, list them.
    """
    choices = {"ours": ours, "theirs": theirs, "average": average, "staged": staged, "value": value is not None}
    given = [name for name, is_given in choices.items() if is_given]
    flags = ", ".join(f"--{name}" for name in given)
    if len(given) != (path is not None):
        raise CommandLineError(
            f"expected PATH with one of --ours, --theirs, --average, --staged and --value, found {flags}"
            if given
            else "expected --ours, --theirs, --average, --staged or --value FILE after PATH, found none"
        )
    if path is None:
        with console.open_stock() as stock:
            _tell(console, stock, resolved=[])
        return
    with console.open_writer(timeout_s) as stock:
        chosen = select_conflicts(_get_merge(stock).conflicts, path)
        if value is not None:
            _put_value(stock, _get_only(chosen, path), value)
        key = None if path == chosen[0].path else chosen[0].key
        stock.resolve(chosen[0].path, key, choice=_CHOICES.get(given[0]))
        _tell(console, stock, resolved=chosen)


def select_conflicts(conflicts: Sequence[Conflict], text: str) -> list[Conflict]:
    """Return the conflicts at `PATH` or `PATH:KEY`, for the longest path that matches; raises `NotFoundError`."""
    paths = {conflict.path for conflict in conflicts if text == conflict.path or text.startswith(f"{conflict.path}:")}
    path = max(paths, key=len, default=text)
    key = text[len(path) + 1 :]
    chosen = [c for c in conflicts if c.path == path and (text == path or str(c.key) == key)]
    if not chosen:
        raise NotFoundError(f"no open conflict at {text}; `stock resolve` lists them")
    return chosen


def _get_merge(stock: StockRoom) -> MergeUnderWay:
    merge = stock.find_merge()
    if merge is None:
        raise NotFoundError("no merge is in progress; `stock merge REF --no-commit` starts one")
    return merge


def _get_only(chosen: Sequence[Conflict], path: str) -> Conflict:
    if len(chosen) > 1:
        raise InvalidInputError(f"{path}: expected one conflict for --value, found {len(chosen)}; add :KEY")
    return chosen[0]


def _tell(console: Console, stock: StockRoom, *, resolved: Sequence[Conflict]) -> None:
    merge = _get_merge(stock)
    left = merge.conflicts
    documents = {"resolved": resolved, "conflicts": left}
    console.answer(
        {name: [conflict_document(one) for one in some] for name, some in documents.items()},
        () if resolved else iter_conflict_lines(left, stock.commit_id, merge.commit),
    )
    next_step = "" if left else "; `stock merge --continue` commits the merge"
    done = f"resolved {format_count(len(resolved), 'conflict')}, " if resolved else ""
    console.say(f"{done}{format_count(len(left), 'conflict')} open{next_step}")


def _put_value(stock: StockRoom, conflict: Conflict, file: Path) -> None:
    """Stage the content of a file for a conflict; raises `InvalidInputError` if it cannot come from a file.

    A sample is a `.npy` file, or the text or bytes themselves; a value, a point or an attribute is JSON.
    """
    from stockroom.content.merge.conflict import ATTRS  # here for start-up time
    from stockroom.content.merge.mappings import name_key  # here for start-up time

    shelf, _, name = conflict.path.partition("/")
    key = conflict.key
    if shelf == "experiment":
        stock.experiment[name] = _read_json(file)
    elif shelf == "artifact":
        stock.experiment.artifact(name, file)
    elif shelf == "metric" and isinstance(key, int):
        stock.experiment.log({name: _read_json(file)}, key)
    elif shelf == "data" and conflict.kind == ATTRS and name in stock.data:
        column = stock.data[name]
        column.attrs = {**column.attrs, str(key).removeprefix(name_key(ATTRS, "")): _read_json(file)}
    elif shelf == "data" and key is not None and name in stock.data:
        stock.data[name][key] = _read_sample(file, stock.data[name].dtype)
    else:
        raise InvalidInputError(
            f"{conflict.path}: cannot be read from a file; write it in Python, then run `stock resolve --staged`"
        )


def _read_sample(file: Path, dtype: Any) -> Any:
    import numpy as np  # here for start-up time

    if dtype == "str":
        try:
            return file.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{file}: expected UTF-8 text, found other bytes ({error.reason})") from error
    if dtype == "bytes":
        return file.read_bytes()
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidInputError(f"{file}: expected a .npy file of numbers, found something else") from error


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise InvalidInputError(f"{file}: expected JSON, found something else ({error})") from error
