"""The remotes of a repository, by name, in a file of their own, `remotes.json`. It never holds a secret."""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec

from stockroom.errors import InvalidInputError, MalformedRecordError, RemoteNotFoundError
from stockroom.files import read_own_file, replace_own_file
from stockroom.remotes.transport.url import RemoteSettings, parse_remote_settings
from stockroom.repository.paths import RepositoryPaths


def read_remotes(paths: RepositoryPaths) -> dict[str, RemoteSettings]:
    """Read the remotes by name, `origin` first. Raises `MalformedRecordError` if the settings cannot be read."""
    try:
        found = locate_settings(paths).stat()
    except FileNotFoundError:
        return {}
    return dict(_read_file(paths, (found.st_mtime_ns, found.st_ino, found.st_size)))


def get_remote(paths: RepositoryPaths, name: str) -> RemoteSettings:
    """Return the settings of one remote. Raises `RemoteNotFoundError` if there is no such remote."""
    remotes = read_remotes(paths)
    if name not in remotes:
        known = ", ".join(remotes) or "none"
        raise RemoteNotFoundError(f"no remote {name!r}; there are: {known}; `stock remote add {name} URL` adds it")
    return remotes[name]


def add_remote(paths: RepositoryPaths, name: str, settings: RemoteSettings) -> None:
    """Add a remote. Raises `InvalidInputError` if the name is taken, `InvalidNameError` if it breaks the rules."""
    from stockroom.refs import check_name  # here for the start-up time of the fetch agent

    check_name("remote", name)
    if "/" in name:
        raise InvalidInputError(f"remote name {name!r}: must not contain '/'")
    remotes = read_remotes(paths)
    if name in remotes:
        raise InvalidInputError(f"remote {name!r} exists already, at {remotes[name].url}; remove it first")
    _write(paths, {**remotes, name: settings})


def set_remote(paths: RepositoryPaths, name: str, settings: RemoteSettings) -> None:
    """Change the settings of a remote. Raises `RemoteNotFoundError` if there is no such remote."""
    get_remote(paths, name)
    _write(paths, {**read_remotes(paths), name: settings})


def remove_remote(paths: RepositoryPaths, name: str) -> None:
    """Remove a remote from the settings. Raises `RemoteNotFoundError` if there is no such remote."""
    get_remote(paths, name)
    remotes = read_remotes(paths)
    del remotes[name]
    _write(paths, remotes)


def locate_settings(paths: RepositoryPaths) -> Path:
    """Return the path of the settings file, which need not exist."""
    return paths.folder / "remotes.json"


@functools.lru_cache(64)
def _read_file(paths: RepositoryPaths, stamp: tuple[int, ...]) -> tuple[tuple[str, RemoteSettings], ...]:  # noqa: ARG001
    file = locate_settings(paths)
    try:
        remotes = msgspec.json.decode(read_own_file(file), type=dict[str, RemoteSettings])
        for name, found in remotes.items():
            if not name or "/" in name or name.startswith("."):
                raise InvalidInputError(f"{name!r} is no name for a remote")
            parse_remote_settings(found.url, endpoint_url=found.endpoint_url, region=found.region, base=paths.root)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedRecordError(
            f"{file}: malformed settings of remotes ({error}); mend the file", where=str(file)
        ) from error
    return tuple(sorted(remotes.items(), key=lambda item: (item[0] != "origin", item[0])))


def _write(paths: RepositoryPaths, remotes: dict[str, RemoteSettings]) -> None:
    replace_own_file(locate_settings(paths), msgspec.json.format(msgspec.json.encode(remotes), indent=2))
