"""Addresses: `REV:data/COLUMN/KEY`, `REV:model/NAME/LEAF`, `REV:experiment/KEY`, for `show`, `ls` and `cat`.

Names may contain `/`, and so may keys of str columns: the longest name that exists wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stockroom.errors import (
    ColumnNotFoundError,
    InvalidInputError,
    ModelNotFoundError,
    NotFoundError,
    SampleNotFoundError,
    ValueNotFoundError,
    did_you_mean,
    near_names,
)

if TYPE_CHECKING:
    from stockroom import State, StockRoom

DATA_SHELF: Final = "data"
MODEL_SHELF: Final = "model"
NOUNS: Final = {
    DATA_SHELF: "column",
    MODEL_SHELF: "model",
    "experiment": "value",
    "metric": "metric",
    "artifact": "artifact",
}
"""The first part of a path, and the noun for one thing on that shelf."""

MODEL_METAVAR: Final = "[REV:]NAME[/PART]"
"""The argument of the verbs under `stock model`: a model, or a container in it."""

_ERRORS: Final[dict[str, type[NotFoundError]]] = {DATA_SHELF: ColumnNotFoundError, MODEL_SHELF: ModelNotFoundError}


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a commit: `ref` names the commit, and `path` a thing in it ("" is the commit itself)."""

    ref: str
    path: str


def parse_address(text: str) -> Address:
    """Parse `REV:PATH`, `REV`, `:PATH`, or a path that begins with a shelf; without a ref it is HEAD."""
    if ":" not in text and text.partition("/")[0] in NOUNS:
        text = f":{text}"
    ref, _, path = text.partition(":")
    return Address(ref or "HEAD", path)


def parse_path_address(text: str) -> Address:
    """Parse `REV:PATH` or `PATH`, for verbs where a word without a colon is a path."""
    return parse_address(text if ":" in text else f":{text}")


def split_shelf(path: str) -> tuple[str, str]:
    """Return the shelf that a path begins with, and the rest, perhaps empty; raises `InvalidInputError` for others."""
    shelf, _, rest = path.partition("/")
    if shelf not in NOUNS:
        raise InvalidInputError(
            f"expected a path of the form data/COLUMN, data/COLUMN/KEY, model/NAME, experiment/KEY, metric/NAME or "
            f"artifact/NAME, found {path!r}; `stock ls` lists what there is; a commit goes before the path, with a "
            "colon: REV: or REV:data/COLUMN"
        )
    return shelf, rest


def split_path(path: str, columns: Iterable[str]) -> tuple[str | None, str | None]:
    """Return column and key text of `data/COLUMN/KEY`, None for a missing part.

    Raises `InvalidInputError` if the path is not on the data shelf, or `ColumnNotFoundError` if no column matches.
    """
    shelf, rest = split_shelf(path)
    if shelf != DATA_SHELF:
        raise InvalidInputError(f"expected a path of the form data/COLUMN or data/COLUMN/KEY, found {path!r}")
    if not rest:
        return None, None
    return split_name(DATA_SHELF, rest, columns)


def split_name(shelf: str, rest: str, names: Iterable[str]) -> tuple[str, str | None]:
    """Return the longest existing name at the start of `rest`, and the text after it, or None.

    Raises `ColumnNotFoundError`, `ModelNotFoundError` or `ValueNotFoundError`, which suggest similar names.
    """
    known = list(names)
    fitting = [name for name in known if rest == name or rest.startswith(f"{name}/")]
    if not fitting:
        raise _ERRORS.get(shelf, ValueNotFoundError)(_unknown_name(shelf, rest, known))
    name = max(fitting, key=len)
    return name, rest[len(name) + 1 :] if len(rest) > len(name) else None


def parse_key(text: str, key_type: str, *, column: str) -> int | str:
    """Return the key that `text` spells in a column with keys of `key_type` ("int" or "str")."""
    if key_type == "str":
        return text
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise SampleNotFoundError(
            f"data/{column} has int keys, found {text!r}; `stock ls data/{column}` lists the keys"
        )
    return int(text)


@dataclass(frozen=True, slots=True)
class ModelPart:
    """A model of a commit, or a container in it: `part` is its path in the model, empty for the whole model."""

    name: str
    part: str
    state: State

    @property
    def path(self) -> str:
        """The path for `stock show`: `model/NAME/PART`."""
        return "/".join([MODEL_SHELF, self.name, *([self.part] if self.part else [])])

    def full_path(self, leaf: str) -> str:
        """Return the path in the model for a leaf of the part."""
        return "/".join(path for path in (self.part, leaf) if path)


def split_model(stock: StockRoom, path: str) -> tuple[str, str]:
    """Return the name of the model that `path` begins with, and the rest; `model/` in front is optional.

    Raises `ModelNotFoundError`, which suggests similar names.
    """
    names = list(stock.model)
    plain = path.removeprefix(f"{MODEL_SHELF}/")
    is_named = any(path == name or path.startswith(f"{name}/") for name in names)
    name, part = split_name(MODEL_SHELF, path if is_named else plain, names)
    return name, part or ""


def open_part(stock: StockRoom, path: str) -> ModelPart:
    """Return the model at `path`, or the container in it; raises `ModelNotFoundError` or `LeafNotFoundError`."""
    name, part = split_model(stock, path)
    state = stock.model[name]
    return ModelPart(name, part, state.at(part) if part else state)


def _unknown_name(shelf: str, rest: str, known: list[str]) -> str:
    near = near_names(rest.partition("/")[0], known)
    hint = did_you_mean(near, quote=str) or f"`stock ls {shelf}` lists the {NOUNS[shelf]}s"
    return f"no {NOUNS[shelf]} {rest!r} there; {hint}"
