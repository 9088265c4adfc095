"""The installed version of Stockroom, for `--version`."""

from __future__ import annotations

from importlib.metadata import version


def version_line() -> str:
    """`stock 0.1.0`."""
    return f"stock {version('stockroom')}"
