"""Paths of the files of a remote, relative to its root."""

from __future__ import annotations

from typing import Final

from stockroom.store.pack.layout import pack_path

LATEST_PATH: Final = "refs/latest"


def state_path(number: int) -> str:
    """Return the path of the ref state with that number."""
    return f"refs/{number:08d}"


def bundle_path(digest: bytes) -> str:
    """Return the path of a bundle."""
    return _join_path("bundles", digest)


def marks_path(digest: bytes) -> str:
    """Return the path of a table of marks."""
    return _join_path("marks", digest)


def pack_prefix(digest: bytes) -> str:
    """Return the prefix of the paths of a pack's files."""
    return f"packs/{pack_path(digest)}/"


def _join_path(folder: str, digest: bytes) -> str:
    name = digest.hex()
    return f"{folder}/{name[:2]}/{name}"
