"""The oracle: the content of a commit as plain dictionaries, and the merge of two such by the textbook."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

MISSING: Any = object()

COLUMNS: dict[str, tuple[dict[str, Any], Any]] = {  # what a column is made with, and its sample number n
    "label": ({"dtype": "int64"}, lambda n: np.int64(n).reshape(())),
    "image": ({"dtype": "uint8", "shape": (8, 8)}, lambda n: np.full((8, 8), n + 1, np.uint8)),
    "scan": ({"dtype": "float32", "shape": (None, 30)}, lambda n: np.full((n % 5 + 2, 30), n + 0.5, np.float32)),
    "text": ({"dtype": "str", "keys": "str"}, lambda n: f"number {n} " * (n % 7 * 9 + 1)),
}


def make_key(column: str, number: int) -> int | str:
    """The key of that number in a column."""
    return f"k{number:02}" if column == "text" else number


def make_sample(column: str, number: int) -> Any:
    """The sample of that number in a column."""
    return COLUMNS[column][1](number)


def is_sample(column: str, found: Any, number: int) -> bool:
    """Whether `found` is exactly the sample of that number."""
    expected = make_sample(column, number)
    if isinstance(expected, str):
        return bool(found == expected)
    found = np.asarray(found)
    return bool(
        found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()
    )


def make_state(number: int) -> dict[str, Any]:
    """A model's state, of two tensors that change apart."""
    return {"head": np.full(40, number, np.float32), "body": np.full((30, 9), number // 3, np.float32), "epoch": number}


class Content:
    """What a commit holds: samples by column and key, models, values, and points by metric and step."""

    def __init__(self) -> None:
        self.columns: dict[str, dict[int | str, int]] = {}
        self.models: dict[str, int] = {}
        self.values: dict[str, int] = {}
        self.metrics: dict[str, dict[int, int]] = {}

    def copy(self) -> Content:
        """A copy that shares nothing."""
        return copy.deepcopy(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Content) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Content({vars(self)})"

    def flatten(self) -> dict[tuple[Any, ...], Any]:
        """All that a merge decides about one by one."""
        flat: dict[tuple[Any, ...], Any] = {}
        for name, samples in self.columns.items():
            flat["column", name] = True
            flat.update({("sample", name, key): number for key, number in samples.items()})
        for name, points in self.metrics.items():
            flat["metric", name] = True
            flat.update({("point", name, step): number for step, number in points.items()})
        flat.update({("model", name): number for name, number in self.models.items()})
        flat.update({("value", name): number for name, number in self.values.items()})
        return flat


def unflatten(flat: dict[tuple[Any, ...], Any]) -> Content:
    """The content of which `flatten` made this."""
    content = Content()
    for (kind, name, *key), value in flat.items():
        match kind:
            case "column":
                content.columns.setdefault(name, {})
            case "metric":
                content.metrics.setdefault(name, {})
            case "sample":
                content.columns.setdefault(name, {})[key[0]] = value
            case "point":
                content.metrics.setdefault(name, {})[key[0]] = value
            case "model":
                content.models[name] = value
            case "value":
                content.values[name] = value
    return content


class CannotTellError(Exception):
    """Both sides changed one model: which of its leaves that merges is not the oracle's to say."""


def merge(base: Content, ours: Content, theirs: Content) -> Content | None:
    """The merge by key, value and step; None for a conflict. Raises `CannotTellError`."""
    old, our, their = base.flatten(), ours.flatten(), theirs.flatten()
    merged, is_conflict = {}, False
    for path in old.keys() | our.keys() | their.keys():
        before, one, other = (side.get(path, MISSING) for side in (old, our, their))
        if one != other and before not in (one, other):
            if path[0] == "model":
                raise CannotTellError
            is_conflict = True
        value = other if one == before else one
        if value is not MISSING:
            merged[path] = value
    return None if is_conflict else unflatten(merged)
