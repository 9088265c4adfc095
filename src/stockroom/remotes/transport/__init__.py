"""Moves files to and from a remote: one protocol for a folder, object stores and web servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stockroom.remotes.transport.environment import RemoteEnvironment
from stockroom.remotes.transport.protocol import Transport
from stockroom.remotes.transport.url import OBJECT_STORE_SCHEMES, WEB_SCHEMES, RemoteSettings


def open_transport(
    settings: RemoteSettings,
    *,
    before_contact: Callable[[], None] | None = None,
    environment: RemoteEnvironment | None = None,
) -> Transport:
    """Return the transport for a remote's URL. Opening it contacts no server.

    `before_contact` is called before the first request to a server, and may refuse it by raising. The variables of
    `environment` give credentials and proxies, by default those of this process.
    """
    scheme, separator, _ = settings.url.partition("://")
    if not separator:
        return _open_folder(Path(settings.url))
    assert scheme in OBJECT_STORE_SCHEMES + WEB_SCHEMES
    from stockroom.remotes.transport.object_store import ObjectStoreTransport  # here for start-up time

    return ObjectStoreTransport(settings, before_contact=before_contact, environment=environment)


def _open_folder(folder: Path) -> Transport:
    """Return the transport for a folder: a remote, also one to be created, or a repository that somebody works in."""
    from stockroom.remotes.transport.directory import DirectoryTransport  # here for start-up time
    from stockroom.remotes.transport.working_repository import WorkingRepositoryTransport, find_working_repository

    paths = find_working_repository(folder)
    return DirectoryTransport(folder) if paths is None else WorkingRepositoryTransport(paths)
