"""Finds what the catalog lost: packs on disk that it does not know, and what dead writers left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from stockroom.digest import PackDigest
from stockroom.errors import StockroomError
from stockroom.store.pack.manifest import Manifest, read_manifest

LOCK_NAME = "lock"
PUBLISHING_SUFFIX = ".publishing"
_GRACE_S = 60


def find_unregistered(packs_directory: Path, known: Collection[PackDigest]) -> list[tuple[PackDigest, Manifest]]:
    """The readable packs under `packs_directory` that are not `known`. Unreadable ones are left to `stock fsck`."""
    found: list[tuple[PackDigest, Manifest]] = []
    for directory in sorted(packs_directory.glob("[0-9a-f][0-9a-f]/*")):
        digest = _parse_pack_name(directory.name)
        if digest is None or digest in known:
            continue
        found += _read_intact(directory, digest)
    return found


def collect_leftovers(tmp_directory: Path, packs_directory: Path) -> list[tuple[PackDigest, Manifest]]:
    """Remove the temporary folders of dead writers; returns packs they had moved into place but not registered."""
    published: list[tuple[PackDigest, Manifest]] = []
    for directory in sorted(tmp_directory.iterdir()):
        if not _is_abandoned(directory):
            continue
        for marker in directory.glob(f"*{PUBLISHING_SUFFIX}"):
            digest = _parse_pack_name(marker.name.removesuffix(PUBLISHING_SUFFIX))
            target = packs_directory / marker.name[:2] / marker.name.removesuffix(PUBLISHING_SUFFIX)
            if digest is not None and target.is_dir():
                published += _read_intact(target, digest)
        shutil.rmtree(directory, ignore_errors=True)
    return published


def open_session(tmp_directory: Path) -> tuple[Path, int]:
    """A new temporary folder and the open file whose lock says that its owner lives; close the file to give it up."""
    name = f"{os.getpid()}-{os.urandom(4).hex()}"
    hidden = tmp_directory / f".{name}"
    hidden.mkdir()
    fd = os.open(hidden / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    fcntl.flock(fd, fcntl.LOCK_EX)
    directory = tmp_directory / name
    hidden.rename(directory)  # only now may others look whether it is locked
    return directory, fd


@contextmanager
def session_folder(tmp_directory: Path) -> Iterator[Path]:
    """A temporary folder for the time of the block; should this process die in it, the next writer removes it."""
    directory, fd = open_session(tmp_directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(fd)


def _read_intact(directory: Path, digest: PackDigest) -> list[tuple[PackDigest, Manifest]]:
    """The pack in `directory`, or nothing if its manifest does not hash to `digest`."""
    try:
        manifest = read_manifest(directory)
    except (OSError, StockroomError):
        return []
    return [(digest, manifest)] if manifest.compute_digest() == digest else []


def _parse_pack_name(name: str) -> PackDigest | None:
    try:
        return PackDigest(bytes.fromhex(name)) if len(name) == 64 else None
    except ValueError:
        return None


def _is_abandoned(directory: Path) -> bool:
    """Whether no living writer holds the folder's lock."""
    if directory.name.startswith("."):  # its owner is about to lock and rename it, or died before that
        return _is_old(directory)
    try:
        fd = os.open(directory / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return _is_old(directory)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _is_old(directory: Path) -> bool:
    try:
        return directory.is_dir() and directory.stat().st_mtime < time.time() - _GRACE_S
    except FileNotFoundError:
        return False
