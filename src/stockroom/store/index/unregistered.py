"""Finds packs on disk that the catalog does not have.

Kept apart: the catalog and the tables are rebuilt from what it finds, and know no folders.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from stockroom.digest import PackDigest
from stockroom.store.pack.layout import parse_pack_name
from stockroom.store.pack.manifest import Manifest, find_intact_manifest


def list_unregistered(packs_directory: Path, known: Collection[PackDigest]) -> list[tuple[PackDigest, Manifest]]:
    """Return the readable packs under `packs_directory` that are not `known`; `stock fsck` handles unreadable ones."""
    found: list[tuple[PackDigest, Manifest]] = []
    for directory in sorted(packs_directory.glob("[0-9a-f][0-9a-f]/*")):
        digest = parse_pack_name(directory.name)
        if digest is not None and digest not in known:
            manifest = find_intact_manifest(directory, digest)
            found += [] if manifest is None else [(digest, manifest)]
    return found
