"""What may stand where a shell asks: refs, columns, models. Loaded only when it does; nothing here ever fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from stockroom.cli.address import DATA_SHELF, MODEL_SHELF, NOUNS

if TYPE_CHECKING:
    from stockroom import StockRoom

_MOST: Final = 1000
"""Names that are given at most: more than that nobody reads."""


def complete_refs(context: typer.Context, incomplete: str) -> list[str]:
    """Branches, tags and remotes' branches; of `A..B` the second."""
    before, dots, start = incomplete.rpartition("..")
    return [before + dots + name for name in _collect(context, _list_refs, start)]


def complete_branches(context: typer.Context, incomplete: str) -> list[str]:
    """Branches."""
    return _collect(context, lambda stock: stock.branches, incomplete)


def complete_tags(context: typer.Context, incomplete: str) -> list[str]:
    """Tags."""
    return _collect(context, lambda stock: stock.tags, incomplete)


def complete_addresses(context: typer.Context, incomplete: str) -> list[str]:
    """`data/COLUMN`, `model/NAME` and the like, after `REV:` too; before that also refs."""
    ref, colon, path = incomplete.rpartition(":")
    if colon:
        return [f"{ref}:{each}" for each in _collect(context, _list_paths, path, ref or None)]
    refs = [] if "/" in incomplete else [f"{name}:" for name in _collect(context, _list_refs, incomplete)]
    return [*_collect(context, _list_paths, incomplete), *refs]


def complete_models(context: typer.Context, incomplete: str) -> list[str]:
    """Models, after `REV:` too."""
    ref, colon, name = incomplete.rpartition(":")
    return [f"{ref}{colon}{each}" for each in _collect(context, lambda stock: stock.model, name, ref or None)]


def complete_settings(context: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - as all are called
    """Keys of `stock config`."""
    from stockroom.repository.config import KEYS

    return [key.name for key in KEYS if key.name.startswith(incomplete)]


def complete_remotes(context: typer.Context, incomplete: str) -> list[str]:
    """Remotes."""
    return _collect(context, lambda stock: stock.remotes, incomplete)


Completer = Callable[[typer.Context, str], list[str]]

COMPLETERS: Final[dict[str, Completer]] = {
    "refs": complete_refs,
    "branches": complete_branches,
    "tags": complete_tags,
    "addresses": complete_addresses,
    "models": complete_models,
    "settings": complete_settings,
    "remotes": complete_remotes,
}
"""What a verb calls it -> what completes it."""


def _collect(
    context: typer.Context, list_names: Callable[[StockRoom], Iterable[str]], start: str, ref: str | None = None
) -> list[str]:
    """Names that begin with `start`; none where there is no repository, no such ref, or anything else is wrong."""
    from stockroom import StockRoom

    with (
        contextlib.suppress(Exception),
        StockRoom(_find_folder(context), ref=ref, lazy=False, needs_head=False) as stock,
    ):
        return [name for name in list_names(stock) if name.startswith(start) and name.isprintable()][:_MOST]
    return []


def _find_folder(context: typer.Context) -> Path | None:
    """The folder that `-C` leads to, as the repository's root; None if it was not given."""
    from stockroom.repository.paths import find_repository

    folders: list[Path] = []
    level: typer.Context | None = context
    while level is not None:
        folders = [*(level.params.get("global_directories") or ()), *folders]
        level = level.parent  # type: ignore[assignment]
    return find_repository(Path().joinpath(*folders)).root if folders else None


def _list_refs(stock: StockRoom) -> list[str]:
    return ["HEAD", *stock.branches, *stock.tags, *stock.remote_branches]


def _list_paths(stock: StockRoom) -> list[str]:
    named = {DATA_SHELF: stock.data, MODEL_SHELF: stock.model, "experiment": stock.experiment}
    named |= {"metric": stock.experiment.metrics, "artifact": stock.experiment.artifacts}
    return [f"{shelf}/{name}" for shelf in NOUNS for name in named[shelf]]
