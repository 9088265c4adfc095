"""Columns for people and programs; imports nothing heavy, so that help stays fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockroom.cli.render.units import format_nbytes

if TYPE_CHECKING:
    from stockroom import Column


def format_shape(shape: tuple[int | None, ...]) -> str:
    """Return a shape such as `(3, *, 32)`; `*` is an axis of any length."""
    inner = ", ".join("*" if length is None else str(length) for length in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def column_document(column: Column) -> dict[str, object]:
    """Return a column's schema and size as JSON; a null in `shape` is an axis of any length."""
    return {
        "name": column.name,
        "dtype": str(column.dtype),
        "shape": list(column.shape),
        "key_type": str(column.key_type),
        "count": len(column),
        "nbytes": int(column.nbytes),
        "attrs": dict(column.attrs),
        "decoder": column.decoder,
    }


def column_line(column: Column) -> tuple[str, ...]:
    """Return a column as the cells of a table: path, dtype, shape, count, bytes."""
    return (
        f"data/{column.name}",
        str(column.dtype),
        format_shape(column.shape),
        str(len(column)),
        format_nbytes(int(column.nbytes)),
    )
