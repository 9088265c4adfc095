"""`remote.stock`: a small file, tracked by git beside `head.stock`, that says where a repository's data is kept.

    stockroom remote 1
    url s3://bucket/pets
    endpoint -
    region eu-west-1

`-` leaves a value to the environment. With this file, a colleague who has git's clone needs one command for the data.
It comes from elsewhere, so only kinds of remote that we know are accepted. It never holds a credential, and only
`stock clone --here` contacts a server because of it, once the user has named that server.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from stockroom.errors import FormatVersionError, InvalidInputError, MalformedRecordError
from stockroom.files import find_regular, replace_own_file
from stockroom.remotes.settings import read_remotes
from stockroom.remotes.transport.url import RemoteSettings, parse_remote_settings
from stockroom.repository.git.work_tree import find_work_tree
from stockroom.repository.head import REMOTE_NAME
from stockroom.repository.paths import RepositoryPaths

ORIGIN: Final = "origin"
_MAGIC: Final = "stockroom remote"
_VERSION: Final = 1
_MAX_NBYTES: Final = 4096
_FIELDS: Final = ("url", "endpoint", "region")


def format_remote(settings: RemoteSettings) -> str:
    """Format the text of the file. Raises `InvalidInputError` if the file cannot hold `settings`."""
    values = (settings.url, settings.endpoint_url or "-", settings.region or "-")
    lines = [f"{field} {value}" for field, value in zip(_FIELDS, values, strict=True)]
    text = "\n".join([f"{_MAGIC} {_VERSION}", *lines, ""])
    try:
        if parse_remote(text, where=REMOTE_NAME) == settings:
            return text
    except MalformedRecordError:
        pass
    raise InvalidInputError(f"{REMOTE_NAME} cannot hold the remote {settings.url!r}: its URL is too long or not plain")


def parse_remote(text: str, *, where: str) -> RemoteSettings:
    """Parse the remote that `text` names. Raises `MalformedRecordError` naming `where`, without repeating `text`."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].startswith(f"{_MAGIC} ") and lines[0] != f"{_MAGIC} {_VERSION}":
        raise FormatVersionError(f"{where}: written by a newer Stockroom: upgrade this one")
    names = [line.partition(" ")[0] for line in lines[1:4]]
    if len(text) > _MAX_NBYTES or len(lines) != 5 or lines[4] or lines[0] != f"{_MAGIC} {_VERSION}":
        raise _malformed(where, f"four lines (`{_MAGIC} {_VERSION}`, url, endpoint, region)")
    if names != list(_FIELDS) or not text.replace("\n", "").replace("\r", "").isprintable():
        raise _malformed(where, "the lines url, endpoint and region, without control characters")
    url, *others = (line.partition(" ")[2] for line in lines[1:4])
    endpoint_url, region = (None if value == "-" else value for value in others)
    settings = RemoteSettings(url, endpoint_url, region)
    _check(settings, where)
    return settings


def read_remote_file(root: Path) -> RemoteSettings | None:
    """Read the remote that the file in a work tree names, or None if there is no such file."""
    path = root / REMOTE_NAME
    if not os.path.lexists(path):
        return None
    content = find_regular(path, max_nbytes=_MAX_NBYTES)
    if content is None:
        raise _malformed(str(path), f"a file of at most {_MAX_NBYTES} bytes")
    return parse_remote(content.decode("utf-8", "replace"), where=str(path))


def publish_origin(paths: RepositoryPaths) -> bool:
    """Make the file name `origin`, or remove it if there is no `origin`. Return whether it was written.

    Does nothing outside a work tree of git, where no colleague would get the file.
    """
    if find_work_tree(paths.root) is None:
        return False
    path = paths.root / REMOTE_NAME
    settings, text = read_remotes(paths).get(ORIGIN), None
    if settings is not None:
        with suppress(InvalidInputError):  # a folder with a strange name, of use on this machine only
            text = format_remote(replace(settings, branches=None))
    if text is None:
        path.unlink(missing_ok=True)
        return False
    if find_regular(path, max_nbytes=_MAX_NBYTES) == text.encode():
        return False
    replace_own_file(path, text.encode(), through=paths.own)  # git must not see a file of passing name
    return True


def _check(settings: RemoteSettings, where: str) -> None:
    """Reject settings that Stockroom would not have written: other schemes, credentials, relative folders."""
    try:
        parsed = parse_remote_settings(
            settings.url, endpoint_url=settings.endpoint_url, region=settings.region, base=Path("/")
        )
    except (InvalidInputError, OSError, RuntimeError) as error:
        raise _malformed(where, f"a remote ({error})") from error
    is_folder = settings.url.startswith("/")
    if is_folder and os.path.normpath(settings.url) != settings.url:
        raise _malformed(where, "a folder's absolute path in its plain form")
    if not is_folder and parsed != settings:
        raise _malformed(where, "an absolute path, or a URL of s3, gs, az, http or https in its plain form")


def _malformed(where: str, expected: str) -> MalformedRecordError:
    return MalformedRecordError(
        f"{where}: expected {expected}, found something else; restore it, or give `stock clone --here` the URL",
        where=where,
    )
