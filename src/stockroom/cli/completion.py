"""Completes refs, columns, models and other names for a shell. Loaded only then; never fails."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import typer

from stockroom.cli.address import DATA_SHELF, MODEL_SHELF, NOUNS

if TYPE_CHECKING:
    from stockroom import StockRoom

Completer: TypeAlias = Callable[[typer.Context, str], list[str]]

_PLAIN: Final = re.compile(r"[\w./][\w./:@%+,=^~-]*")
"""Names that every shell takes literally: others would be inserted unquoted, and the next Enter could run them."""

_MOST: Final = 1000
"""The maximum number of names returned; longer lists are useless."""


def complete_refs(context: typer.Context, incomplete: str) -> list[str]:
    """Complete branches, tags and remote-tracking branches; in `A..B`, the second one."""
    before, dots, start = incomplete.rpartition("..")
    return [before + dots + name for name in _collect(context, _list_refs, start)]


def complete_addresses(context: typer.Context, incomplete: str) -> list[str]:
    """Complete `data/COLUMN`, `model/NAME` and so on, also after `REV:`; before the colon, also refs."""
    ref, colon, path = incomplete.rpartition(":")
    if colon:
        return [f"{ref}:{each}" for each in _collect(context, _list_paths, path, ref or None)]
    refs = [] if "/" in incomplete else [f"{name}:" for name in _collect(context, _list_refs, incomplete)]
    return [*_collect(context, _list_paths, incomplete), *refs]


def complete_words(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the words that are commits first, then paths."""
    return [*complete_refs(context, incomplete), *_collect(context, _list_paths, incomplete)]


def complete_models(context: typer.Context, incomplete: str) -> list[str]:
    """Complete models, also after `REV:`."""
    ref, colon, name = incomplete.rpartition(":")
    return [f"{ref}{colon}{each}" for each in _collect(context, lambda stock: stock.model, name, ref or None)]


def complete_settings(context: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - as all are called
    """Complete the keys of `stock config`."""
    from stockroom.repository.config import KEYS

    return [key.name for key in KEYS if key.name.startswith(incomplete)]


def make_completer(list_names: Callable[[StockRoom], Iterable[str]]) -> Completer:
    """Return a function that completes names as `list_names` returns them."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        return _collect(context, list_names, incomplete)

    return complete


COMPLETERS: Final[dict[str, Completer]] = {
    "refs": complete_refs,
    "branches": make_completer(lambda stock: stock.branches),
    "tags": make_completer(lambda stock: stock.tags),
    "addresses": complete_addresses,
    "words": complete_words,
    "stashes": make_completer(lambda stock: map(str, range(len(stock.stashes)))),
    "models": complete_models,
    "settings": complete_settings,
    "remotes": make_completer(lambda stock: stock.remotes),
}
"""Maps the names that verbs use to completers."""


def _collect(
    context: typer.Context, list_names: Callable[[StockRoom], Iterable[str]], start: str, ref: str | None = None
) -> list[str]:
    """Return names that begin with `start`; none if there is no repository, no such ref, or any other error."""
    from stockroom import StockRoom  # here for start-up time

    with (
        contextlib.suppress(Exception),
        StockRoom(_find_folder(context), ref=ref, lazy=False, needs_head=False) as stock,
    ):
        return [name for name in list_names(stock) if name.startswith(start) and _PLAIN.fullmatch(name)][:_MOST]
    return []


def _find_folder(context: typer.Context) -> Path | None:
    """Return the root of the repository that `-C` selects; None if `-C` was not given."""
    from stockroom.repository.paths import locate_repository

    folders: list[Path] = []
    level: typer.Context | None = context
    while level is not None:
        folders = [*(level.params.get("global_directories") or ()), *folders]
        level = level.parent  # type: ignore[assignment]
    return locate_repository(Path().joinpath(*folders)).root if folders else None


def _list_refs(stock: StockRoom) -> list[str]:
    return ["HEAD", *stock.branches, *stock.tags, *stock.remote_branches]


def _list_paths(stock: StockRoom) -> list[str]:
    named: dict[str, Iterable[str]]
    named = {DATA_SHELF: stock.data, MODEL_SHELF: stock.model, "experiment": stock.experiment}
    named |= {"metric": stock.experiment.metrics, "artifact": stock.experiment.artifacts}
    return [f"{shelf}/{name}" for shelf in NOUNS for name in named[shelf]]
