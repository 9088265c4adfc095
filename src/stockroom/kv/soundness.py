"""Checks whether an LMDB file is sound without opening it in LMDB, which trusts what it maps."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from stockroom.errors import CorruptionError


def list_damage(path: Path) -> list[str]:
    """Return the damage to the structure of the environment at `path`; empty if it is sound.

    Reads the whole file, and holds for that moment only: keep writers out. Needs py-lmdb 3; an older one finds nothing.
    """
    try:
        from lmdb import verify as verifier
    except ImportError:
        return []
    verify: Callable[[str], list[str]] = vars(verifier)["verify"]  # it carries no types
    try:
        return verify(str(path))
    except verifier.VerifyError as error:
        return [str(error)]


def check_tail(path: Path, env: Any) -> None:
    """Raise `CorruptionError` if the file was truncated: reading past its end would kill the process (SIGBUS).

    A sound file can end early too, if its last pages were allocated and freed within one transaction. Its structure,
    checked with writers held off, tells the two apart; a sound file is then extended to its stated length.
    """
    data = path / "data.mdb"
    end = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    nbytes = data.stat().st_size
    if nbytes >= end:
        return
    readonly = env.flags()["readonly"]
    with nullcontext() if readonly else env.begin(write=True):
        damage = list_damage(path)
    if damage:
        message = f"{data}: expected {end} bytes, found {nbytes}; the file is truncated; run `stock fsck`"
        raise CorruptionError(message, where=str(data))
    if not readonly:
        _extend(data, end)


def _extend(data: Path, nbytes: int) -> None:
    """Extend the file to at least `nbytes`; never shorten it, so another process may write meanwhile."""
    if not hasattr(os, "posix_fallocate"):
        return
    fd = os.open(data, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(fd, nbytes - 1, 1)
    finally:
        os.close(fd)
