"""Finds packs on disk that the catalog does not have.

Kept apart: the catalog and the tables are rebuilt from its findings, and know no folders.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from stockroom.digest import PackDigest
from stockroom.store.pack.layout import list_pack_directories, parse_pack_name
from stockroom.store.pack.manifest import Manifest, find_intact_manifest


def list_unregistered(packs_directory: Path, known: Collection[PackDigest]) -> list[tuple[PackDigest, Manifest]]:
    """Return the packs under `packs_directory` that are not `known`; `stock fsck` handles damaged ones.

    Raises `UnreadableError` if one cannot be read now: it would be taken for missing.
    """
    found: list[tuple[PackDigest, Manifest]] = []
    for directory in list_pack_directories(packs_directory):
        digest = parse_pack_name(directory.name)
        if digest is not None and digest not in known:
            manifest = find_intact_manifest(directory, digest)
            found += [] if manifest is None else [(digest, manifest)]
    return found
