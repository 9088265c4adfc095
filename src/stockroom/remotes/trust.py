"""The hosts that the user has named: no other host is contacted, and none gets the user's credentials.

Settings of remotes come with a folder, which may come from a stranger. The list of hosts is the user's own: it is
outside every repository, in `$XDG_STATE_HOME/stockroom/trusted-hosts` (`~/.local/state`), one per line. Hosts in
the environment count as named, and so do the providers' own hosts.
"""

from __future__ import annotations

import errno
import os
import shlex
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from stockroom.errors import AuthenticationError
from stockroom.files import find_regular
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.environment import RemoteEnvironment, read_environment
from stockroom.remotes.transport.protocol import Transport
from stockroom.remotes.transport.url import RemoteSettings, find_origin

HOSTS_VARIABLE: Final = "STOCKROOM_TRUSTED_HOSTS"
"""Names hosts, separated by commas or spaces: `minio.example.org:9000`, or with `https://` for that scheme alone."""

_ENDPOINT_VARIABLES: Final = (
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "GOOGLE_BASE_URL",
)  # fmt: skip
_MAX_NBYTES: Final = 1 << 20


def open_remote(name: str, settings: RemoteSettings, environment: RemoteEnvironment | None = None) -> Transport:
    """Return the transport for a remote in a repository's settings. Its first use may raise, as `check_named` does.

    Without `environment`, the variables of this process count.
    """
    check = partial(check_named, name, settings, environment)
    return open_transport(settings, before_contact=check, environment=environment)


def check_named(name: str, settings: RemoteSettings, environment: RemoteEnvironment | None = None) -> None:
    """Raise `AuthenticationError` if a remote is on a host that the user has not named."""
    if not is_named(settings, environment):
        raise AuthenticationError(
            f"remote {name!r} is on {find_origin(settings)}, a host that only this folder's settings name: nothing "
            f"was sent there; if you trust it with your credentials, run "
            f"`stock remote trust {shlex.quote(name)}`"
        )


def is_named(settings: RemoteSettings, environment: RemoteEnvironment | None = None) -> bool:
    """Return whether a remote is a folder, or on a provider's own host or one that the user has named."""
    origin = find_origin(settings)
    if origin is None:
        return True
    user = read_environment() if environment is None else environment
    return origin in _read_named(user) or _is_in_environment(origin, user)


def name_host(settings: RemoteSettings) -> None:
    """Add the host of a remote to those that the user has named. Raises `OSError` if the list cannot be written."""
    origin = find_origin(settings)
    environment = read_environment()
    if origin is None or origin in _read_named(environment):
        return
    path = locate_named(environment)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, f"{origin}\n".encode())  # in one piece: others may add lines at the same time
    finally:
        os.close(fd)


def note_given(settings: RemoteSettings) -> None:
    """Add the host of a remote that the user has just given. If the list cannot be written, the first contact says."""
    with suppress(OSError):
        name_host(settings)


def locate_named(environment: RemoteEnvironment) -> Path:
    """Return the path of the list, which need not exist. Raises `FileNotFoundError` if the user has no home folder."""
    given = environment.get("XDG_STATE_HOME", "")
    base = Path(given) if given.startswith("/") else environment.expand("~/.local/state")
    if not base.is_absolute():  # a relative one would lie in the folder of a stranger
        raise FileNotFoundError(errno.ENOENT, f"no home folder: name the host in {HOSTS_VARIABLE}")
    return base / "stockroom/trusted-hosts"


def _read_named(environment: RemoteEnvironment) -> set[str]:
    try:
        content = find_regular(locate_named(environment), max_nbytes=_MAX_NBYTES) or b""
    except FileNotFoundError:
        return set()
    return set(content.decode("utf-8", "replace").split("\n"))


def _is_in_environment(origin: str, environment: RemoteEnvironment) -> bool:
    endpoints = (environment.get(name) for name in _ENDPOINT_VARIABLES)
    if origin in {find_origin(RemoteSettings(url)) for url in endpoints if url and "://" in url}:
        return True
    given = environment.get(HOSTS_VARIABLE, "").replace(",", " ").split()
    scheme = origin.partition("://")[0]
    return origin in {find_origin(RemoteSettings(text if "://" in text else f"{scheme}://{text}")) for text in given}
