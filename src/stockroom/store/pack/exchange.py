"""Puts a pack's folder in the place of another, so that after a kill one of them is there or can be put back.

Linux exchanges two folders in one step on most file systems. On others (NFS, many in user space) that takes three
renames. After a kill between them the pack is beside its place, and the next process that misses it, or writes, puts it
back.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from stockroom.files import try_exchange
from stockroom.locks import FileLock
from stockroom.store.pack.layout import AWAY_SUFFIX

_LOCK_NAME: Final = "exchange.lock"
"""Exists only where an exchange ever took several steps."""
_TIMEOUT_S: Final = 60.0


def exchange_packs(folder: Path, target: Path) -> None:
    """Put a pack's complete, synced folder in the place of the one at `target`, which is at `folder` afterwards."""
    if not try_exchange(folder, target):
        exchange_in_steps(folder, target)


def exchange_in_steps(folder: Path, target: Path) -> None:
    """Do as `exchange_packs` where the file system cannot exchange folders."""
    with _lock(target.parent.parent):
        away = target.with_name(f"{target.name}{AWAY_SUFFIX}")
        target.rename(away)
        folder.rename(target)
        away.rename(folder)


def finish_exchanges(packs_directory: Path) -> None:
    """Put packs back that a killed process left beside their places. Costs nothing where that cannot have happened."""
    if not (packs_directory / _LOCK_NAME).exists():
        return
    with _lock(packs_directory):  # no exchange is under way
        for away in packs_directory.glob(f"[0-9a-f][0-9a-f]/*{AWAY_SUFFIX}"):
            target = away.with_name(away.name.removesuffix(AWAY_SUFFIX))
            if target.exists():
                shutil.rmtree(away)  # another has its place
            else:
                with suppress(FileExistsError):
                    away.rename(target)


def _lock(packs_directory: Path) -> FileLock:
    lock = FileLock(packs_directory / _LOCK_NAME)
    lock.take(_TIMEOUT_S, busy=f"{packs_directory}: another process is exchanging packs")
    return lock
