"""The remotes that a clone's bytes can come from, opened for each environment of a client, on first use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stockroom.digest import PackDigest
from stockroom.errors import StockroomError
from stockroom.remotes.settings import locate_settings, read_remotes
from stockroom.remotes.transport.environment import RemoteEnvironment
from stockroom.remotes.transport.protocol import Transport
from stockroom.remotes.trust import open_remote
from stockroom.repository.paths import RepositoryPaths

MAX_ENVIRONMENTS: Final = 8
"""For so many environments the remotes stay open, with their connections."""


@dataclass(frozen=True, slots=True)
class OpenRemote:
    """An open remote; `paths` are those of the repository that reads from it, or None if that is unknown."""

    name: str
    transport: Transport
    paths: RepositoryPaths | None = None

    def explain_missing(self, pack: PackDigest) -> str:
        """Return why the remote may lack a pack, for a message; asks it for its newest ref state."""
        from stockroom.remotes.ref_state_log import find_newest_state  # here for start-up time
        from stockroom.remotes.tracking import Tracking

        if self.paths is None:
            return ""
        tracking = Tracking(self.paths, self.name)
        try:
            newest = find_newest_state(self.transport, tracking.read_state())
        except StockroomError:  # the first error says more
            return ""
        if newest is None:
            return ""
        bundles = {entry.digest for entry in newest.bundles}
        if pack in tracking.read_described(bundles):
            return "; its branches or tags need it: `stock fsck --remote` lists what else it lacks"
        likely = "" if bundles <= tracking.read_bundles() else "probably "
        return (
            f"; no branch or tag there needs it any more, so `stock gc --remote` has {likely}deleted it: push the "
            "commit again from a clone that has it, or read a newer one"
        )


class OpenRemotes:
    """The remotes of the repository whose folder is `folder`, as its settings are at the moment."""

    def __init__(self, folder: Path) -> None:
        self._paths = RepositoryPaths(folder.parent)
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._remotes: OrderedDict[RemoteEnvironment, list[OpenRemote]] = OrderedDict()

    def list_for(self, pack: PackDigest, environment: RemoteEnvironment) -> Sequence[OpenRemote]:
        """Return the remotes to ask for a pack: those known to have it first, then in the order of the settings.

        They use the credentials of `environment`.
        """
        remotes = self._read(environment)
        if len(remotes) < 2:
            return remotes
        from stockroom.remotes.tracking import Tracking  # here for start-up time

        return sorted(remotes, key=lambda remote: pack not in Tracking(self._paths, remote.name).read_packs())

    def _read(self, environment: RemoteEnvironment) -> list[OpenRemote]:
        """Return all remotes, reopened if the settings have changed."""
        try:
            found = locate_settings(self._paths).stat()
        except FileNotFoundError:
            return []
        stamp = (found.st_mtime_ns, found.st_ino)
        with self._lock:
            if stamp != self._stamp:
                self._remotes.clear()
                self._stamp = stamp
            if environment not in self._remotes:
                self._remotes[environment] = self._open(environment)
                if len(self._remotes) > MAX_ENVIRONMENTS:
                    self._remotes.popitem(last=False)
            self._remotes.move_to_end(environment)
            return self._remotes[environment]

    def _open(self, environment: RemoteEnvironment) -> list[OpenRemote]:
        remotes = read_remotes(self._paths)
        return [
            OpenRemote(name, open_remote(name, settings, environment), self._paths)
            for name, settings in remotes.items()
        ]
