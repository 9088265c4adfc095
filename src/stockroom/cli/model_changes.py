"""What a commit changed in a model, against the commit's first parent."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from stockroom.cli.address import MODEL_SHELF
from stockroom.errors import RefNotFoundError

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.cli.model_address import ModelPart


def find_changes(stock: StockRoom, place: ModelPart) -> dict[str, str]:
    """`new` or `changed` for leaves of a model, by their path in the part; all are new in a first commit.

    As they are too where history is cut off.
    """
    paths = {place.full_path(path) or place.name: path for path in place.state.paths()}
    commit = next(stock.log(n=1), None)
    with suppress(RefNotFoundError):
        if commit is not None and commit.parents:
            difference = stock.diff(commit.parents[0], commit.id).get(f"{MODEL_SHELF}/{place.name}")
            if difference is None:
                return {}
            marks = dict.fromkeys(map(str, difference.added), "new") | dict.fromkeys(
                map(str, difference.changed), "changed"
            )
            return {paths[path]: mark for path, mark in marks.items() if path in paths}
    return dict.fromkeys(paths.values(), "new")
