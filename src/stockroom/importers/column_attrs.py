"""The attrs of an imported column: those of the source that a column can keep; the others are counted as left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stockroom.content.attrs import MAX_NBYTES, check_json
from stockroom.errors import SchemaError
from stockroom.importers.left_out import LeftOut


def keep_attrs(found: Mapping[str, object], where: str, left_out: LeftOut) -> dict[str, Any]:
    """Return the attrs of a column: every one of `found` that is JSON and fits in beside those before it."""
    kept: dict[str, Any] = {}
    nbytes = 2
    for name, value in found.items():
        size = _measure(name, value)
        if nbytes + size > MAX_NBYTES:
            left_out.add(f"{where}: {name!r:.80}", "large attribute", "attribute")
            continue
        try:
            kept |= check_json({name: value}, where=where, name="attrs")
            nbytes += size
        except SchemaError:
            left_out.add(f"{where}: {name!r:.80}", "non-JSON attribute", "attribute")
    return kept


def _measure(name: str, value: object) -> int:
    """Return the bytes of an attr in JSON; 0 if it is none."""
    try:
        return len(json.dumps({name: value}, allow_nan=False, ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError):
        return 0
