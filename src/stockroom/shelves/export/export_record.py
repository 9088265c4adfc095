"""The record of an export: what an importer needs to make the same column again, where the format does not say."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

import msgspec

RECORD_NAME: Final = "stockroom"
"""The name of a record: a key of a JSON object, or of Zarr's attributes."""


class ExportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A column's name and schema, and how the export holds its keys and samples."""

    version: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    column: str
    dtype: str
    shape: list[int | None]
    key_type: Literal["int", "str"]
    decoder: str | None = None
    array: str | None = None
    """The array that holds all samples; None if there is an array for each, or no other array."""

    keys: str | None = None
    """The array or attribute that holds the keys; None if they are 0, 1, 2 and so on, or in `sample_keys`."""

    sample_keys: list[int | str] | None = None
    """The keys of the arrays, one for each sample."""

    attrs: dict[str, Any] | None = None
    """The column's attrs, if one of them has the name of the record."""


def choose_free_name(name: str, taken: Collection[str]) -> str:
    """Return `name`, with `_` after it until it differs from all `taken` in more than case."""
    folded = {each.casefold() for each in taken}
    while name.casefold() in folded:
        name += "_"
    return name


def choose_array_names(names: Collection[str]) -> list[str]:
    """Return names that differ in more than case: a name that does not gets `~` and its number after it."""
    taken: set[str] = set()
    chosen = []
    for number, name in enumerate(names):
        unique = name if name.casefold() not in taken else f"{name}~{number}"
        taken.add(unique.casefold())
        chosen.append(unique)
    return chosen
