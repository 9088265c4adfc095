"""Writers' temporary folders: each is locked while its owner lives, and the next writer removes abandoned ones."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stockroom.digest import PackDigest
from stockroom.locks import FileLock
from stockroom.store.pack.layout import locate_pack, parse_pack_name
from stockroom.store.pack.manifest import Manifest, find_intact_manifest

LOCK_NAME = "lock"
PUBLISHING_SUFFIX = ".publishing"
_GRACE_S = 60


def collect_leftovers(tmp_directory: Path, packs_directory: Path) -> list[tuple[PackDigest, Manifest]]:
    """Remove the temporary folders of dead writers; returns the packs they had published but not registered."""
    published: list[tuple[PackDigest, Manifest]] = []
    for directory in sorted(tmp_directory.iterdir()):
        if not _is_abandoned(directory):
            continue
        for marker in directory.glob(f"*{PUBLISHING_SUFFIX}"):
            digest = parse_pack_name(marker.name.removesuffix(PUBLISHING_SUFFIX))
            if digest is not None:
                manifest = find_intact_manifest(locate_pack(packs_directory, digest), digest)
                published += [] if manifest is None else [(digest, manifest)]
        shutil.rmtree(directory, ignore_errors=True)
    return published


def create_writer_folder(tmp_directory: Path) -> tuple[Path, FileLock]:
    """Create a temporary folder; returns it and the lock that shows that its owner lives."""
    name = f"{os.getpid()}-{os.urandom(4).hex()}"
    hidden = tmp_directory / f".{name}"
    hidden.mkdir()
    lock = FileLock(hidden / LOCK_NAME)
    lock.take(0, busy=f"{hidden}: another process is using this folder")
    directory = tmp_directory / name
    hidden.rename(directory)  # only now may others check whether it is locked
    return directory, lock


@contextmanager
def open_writer_folder(tmp_directory: Path) -> Iterator[Path]:
    """Provide a temporary folder for the block; if this process dies in it, the next writer removes the folder."""
    directory, lock = create_writer_folder(tmp_directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        lock.release()


def _is_abandoned(directory: Path) -> bool:
    """Return whether no living writer holds the folder's lock."""
    if directory.name.startswith("."):  # its owner is about to lock and rename it, or died before that
        return _is_old(directory)
    try:
        with FileLock(directory / LOCK_NAME, must_exist=True) as lock:
            return lock.try_take()
    except FileNotFoundError:
        return _is_old(directory)
    except OSError:
        return False


def _is_old(directory: Path) -> bool:
    try:
        return directory.is_dir() and directory.stat().st_mtime < time.time() - _GRACE_S
    except FileNotFoundError:
        return False
