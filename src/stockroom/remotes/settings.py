"""The remotes of a repository, by name, in a file of their own, `remotes.json`. It never holds a secret."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

import msgspec

from stockroom.errors import InvalidInputError, MalformedRecordError, RemoteNotFoundError
from stockroom.remotes.transport.protocol import Transport
from stockroom.remotes.transport.url import RemoteSettings, parse_remote_settings
from stockroom.remotes.trust import note_given, open_remote
from stockroom.repository.paths import RepositoryPaths
from stockroom.repository.settings_file import SettingsFile

Remotes: TypeAlias = dict[str, RemoteSettings]


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
    return remotes[_check_known(name, remotes)]


def open_transport_of(paths: RepositoryPaths, name: str) -> Transport:
    """Return the transport of a remote; raises `RemoteNotFoundError` if there is no such remote."""
    return open_remote(name, get_remote(paths, name))


def add_remote(paths: RepositoryPaths, name: str, settings: RemoteSettings) -> None:
    """Add a remote that the user gave.

    Raises `InvalidInputError` if the name is taken, `InvalidNameError` if it breaks the rules.
    """
    _check_name(name)

    def add(remotes: Remotes) -> Remotes:
        _check_free(name, remotes)
        return {**remotes, name: settings}

    _change(paths, add)
    note_given(settings)


def set_remote(paths: RepositoryPaths, name: str, settings: RemoteSettings) -> None:
    """Change a remote to one that the user gave. Raises `RemoteNotFoundError` if there is no such remote."""
    _change(paths, lambda remotes: {**remotes, _check_known(name, remotes): settings})
    note_given(settings)


def remove_remote(paths: RepositoryPaths, name: str) -> None:
    """Remove a remote from the settings. Raises `RemoteNotFoundError` if there is no such remote."""

    def remove(remotes: Remotes) -> Remotes:
        _check_known(name, remotes)
        return {each: settings for each, settings in remotes.items() if each != name}

    _change(paths, remove)


def rename_remote(paths: RepositoryPaths, old: str, new: str, *, meanwhile: Callable[[], None]) -> None:
    """Rename a remote in the settings. `meanwhile` renames the rest first, so that a killed rename can be run again.

    Raises `RemoteNotFoundError` if there is no such remote, else as `add_remote` does.
    """
    _check_name(new)

    def rename(remotes: Remotes) -> Remotes:
        _check_known(old, remotes)
        _check_free(new, {name: settings for name, settings in remotes.items() if name != old})
        meanwhile()
        return {new if name == old else name: settings for name, settings in remotes.items()}

    _change(paths, rename)


def _check_name(name: str) -> None:
    from stockroom.refs import check_name  # here for the start-up time of the fetch agent

    check_name("remote", name)
    if "/" in name:
        raise InvalidInputError(f"remote name {name!r}: must not contain '/'")


def _check_free(name: str, remotes: Remotes) -> None:
    from stockroom.refs import check_collision  # here for the start-up time of the fetch agent

    if name in remotes:
        raise InvalidInputError(f"remote {name!r} already exists, at {remotes[name].url}; remove it first")
    check_collision("remote", name, remotes)


def _check_known(name: str, remotes: Remotes) -> str:
    if name not in remotes:
        known = ", ".join(remotes) or "none"
        raise RemoteNotFoundError(f"no remote {name!r}; known remotes: {known}; `stock remote add {name} URL` adds it")
    return name


def locate_settings(paths: RepositoryPaths) -> Path:
    """Return the path of the settings file, which need not exist."""
    return paths.folder / "remotes.json"


@functools.lru_cache(64)
def _read_file(paths: RepositoryPaths, stamp: tuple[int, ...]) -> tuple[tuple[str, RemoteSettings], ...]:  # noqa: ARG001
    remotes = _open(paths).read()
    return tuple(sorted(remotes.items(), key=lambda item: (item[0] != "origin", item[0])))


def _change(paths: RepositoryPaths, change: Callable[[Remotes], Remotes]) -> None:
    _open(paths).change(change)
    _read_file.cache_clear()  # the new file may look like one that was there before


def _open(paths: RepositoryPaths) -> SettingsFile[Remotes]:
    file = locate_settings(paths)

    def decode(content: bytes) -> Remotes:
        try:
            remotes = msgspec.json.decode(content, type=Remotes)
            for name, found in remotes.items():
                if not name or "/" in name or name.startswith("."):
                    raise InvalidInputError(f"{name!r} is not a valid remote name")
                parse_remote_settings(found.url, endpoint_url=found.endpoint_url, region=found.region, base=paths.root)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise MalformedRecordError(
                f"{file}: malformed remote settings ({error}); fix the file", where=str(file)
            ) from error
        return remotes

    return SettingsFile(file, decode, _encode, {})


def _encode(remotes: Remotes) -> bytes:
    plain = {name: asdict(settings) for name, settings in remotes.items()}
    for settings in plain.values():
        if settings["branches"] is None:
            del settings["branches"]
    return msgspec.json.format(msgspec.json.encode(plain), indent=2)
