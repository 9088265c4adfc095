"""Writers' temporary folders: each is locked for as long as its owner lives; the next writer clears away the others."""

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
    """Remove the temporary folders of dead writers; returns packs they had moved into place but not registered."""
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


def open_session(tmp_directory: Path) -> tuple[Path, FileLock]:
    """A new temporary folder and the lock that says that its owner lives; release it to give the folder up."""
    name = f"{os.getpid()}-{os.urandom(4).hex()}"
    hidden = tmp_directory / f".{name}"
    hidden.mkdir()
    lock = FileLock(hidden / LOCK_NAME)
    lock.take(0, busy=f"{hidden}: another process is using this folder")
    directory = tmp_directory / name
    hidden.rename(directory)  # only now may others look whether it is locked
    return directory, lock


@contextmanager
def session_folder(tmp_directory: Path) -> Iterator[Path]:
    """A temporary folder for the time of the block; should this process die in it, the next writer removes it."""
    directory, lock = open_session(tmp_directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        lock.release()


def _is_abandoned(directory: Path) -> bool:
    """Whether no living writer holds the folder's lock."""
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
