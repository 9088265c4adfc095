"""The remotes that a clone's bytes can come from, opened on first use."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stockroom.digest import PackDigest
from stockroom.remotes.settings import locate_settings, read_remotes
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.protocol import Transport
from stockroom.repository.paths import RepositoryPaths


@dataclass(frozen=True, slots=True)
class OpenRemote:
    """An open remote."""

    name: str
    transport: Transport


class OpenRemotes:
    """The remotes of the repository whose folder is `folder`, as its settings are at the moment."""

    def __init__(self, folder: Path) -> None:
        self._paths = RepositoryPaths(folder.parent)
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._remotes: list[OpenRemote] = []

    def list_for(self, pack: PackDigest) -> Sequence[OpenRemote]:
        """Return the remotes to ask for a pack: those known to have it first, then in the order of the settings."""
        remotes = self._read()
        if len(remotes) < 2:
            return remotes
        from stockroom.remotes.tracking import Tracking  # here for start-up time

        return sorted(remotes, key=lambda remote: pack not in Tracking(self._paths, remote.name).read_packs())

    def _read(self) -> list[OpenRemote]:
        """Return all remotes, reopened if the settings have changed."""
        try:
            found = locate_settings(self._paths).stat()
        except FileNotFoundError:
            return []
        stamp = (found.st_mtime_ns, found.st_ino)
        with self._lock:
            if stamp != self._stamp:
                remotes = read_remotes(self._paths)
                self._remotes = [OpenRemote(name, open_transport(settings)) for name, settings in remotes.items()]
                self._stamp = stamp
            return self._remotes
