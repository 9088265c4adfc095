"""What a commit changed in a model, against the commit's first parent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom.cli.address import MODEL_SHELF

if TYPE_CHECKING:
    from stockroom import StockRoom
    from stockroom.cli.verbs.model.model_address import ModelPart


def find_changes(stock: StockRoom, place: ModelPart) -> dict[str, str]:
    """`new` or `changed` for the leaves of a part of a model that the handle's commit brought, by their path there."""
    difference = stock.changes().get(f"{MODEL_SHELF}/{place.name}")
    if difference is None:
        return {}
    paths = {place.full_path(path) or place.name: path for path in place.state.paths()}
    marks = dict.fromkeys(difference.added, "new") | dict.fromkeys(difference.changed, "changed")
    return {paths[str(path)]: mark for path, mark in marks.items() if str(path) in paths}
