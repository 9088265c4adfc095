"""Where the files of a remote lie, relative to its root."""

from __future__ import annotations

from typing import Final

from stockroom.store.pack.layout import pack_path

LATEST_PATH: Final = "refs/latest"


def state_path(number: int) -> str:
    """Where the state of that number lies."""
    return f"refs/{number:08d}"


def bundle_path(digest: bytes) -> str:
    """Where a bundle lies."""
    return _place("bundles", digest)


def marks_path(digest: bytes) -> str:
    """Where a table of marks lies."""
    return _place("marks", digest)


def pack_prefix(digest: bytes) -> str:
    """What the paths of a pack's files begin with."""
    return f"packs/{pack_path(digest)}/"


def _place(folder: str, digest: bytes) -> str:
    name = digest.hex()
    return f"{folder}/{name[:2]}/{name}"
