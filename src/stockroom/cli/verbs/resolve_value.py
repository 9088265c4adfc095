"""Puts a value from a file where a conflict is, as the shelves take it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stockroom.content.merge.conflict import ATTRS, Conflict
from stockroom.content.merge.mappings import name_key
from stockroom.errors import InvalidInputError

if TYPE_CHECKING:
    from stockroom import StockRoom


def put_value(stock: StockRoom, conflict: Conflict, file: Path) -> None:
    """Stage what is in a file at a conflict's place; `InvalidInputError` where a file cannot be its value.

    A sample is a `.npy` file, or the text or bytes themselves; a value, a point or an attribute is JSON.
    """
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
            f"{conflict.path}: a file cannot be its value; write it in Python, then `stock resolve --staged` takes it"
        )


def _read_sample(file: Path, dtype: Any) -> Any:
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
        raise InvalidInputError(f"{file}: expected a .npy file, found something else ({error})") from error


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise InvalidInputError(f"{file}: expected JSON, found something else ({error})") from error
