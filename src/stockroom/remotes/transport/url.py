"""The settings that name a remote: its URL, and its server if the URL does not say. Never a secret."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from stockroom.errors import InvalidInputError

OBJECT_STORE_SCHEMES: Final = ("s3", "gs", "az")
WEB_SCHEMES: Final = ("http", "https")
_SECRET_IN_NO_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*:[^\s]*@")
_PORTS: Final = {"http": 80, "https": 443}
_BUCKET: Final = re.compile(r"[A-Za-z0-9._$-]+")
_REGION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_UNSAFE_IN_HOST: Final = re.compile(r"[\\%\s]")
"""Characters that readers of URLs take differently, so that they see different hosts."""
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MISTYPED: Final = re.compile(r"(s3|gs|az|https?|file)(?::/?|//+|;//|/:/)(?!/)", re.IGNORECASE)
"""The start of a URL that lacks a character of its `://`."""
_SSH: Final = re.compile(r"[^/:]+@[^/]*:|ssh:|[A-Za-z0-9][A-Za-z0-9.-]+:")
"""The start of what git and scp take for a path on another machine."""


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """A remote as configured. An `endpoint_url` or `region` of None is left to the environment.

    A single-branch clone follows only some `branches`; None is all.
    """

    url: str
    endpoint_url: str | None = None
    region: str | None = None
    branches: tuple[str, ...] | None = None


def parse_remote_settings(
    url: str | os.PathLike[str], *, endpoint_url: str | None = None, region: str | None = None, base: Path
) -> RemoteSettings:
    """Parse the settings of a remote as a user gives them. A folder becomes an absolute path, resolved from `base`.

    Raises:
        InvalidInputError: the URL is of no known kind, or carries credentials (which are not repeated).
    """
    url = os.fspath(url) if isinstance(url, os.PathLike) else url
    if not isinstance(url, str) or not url or "\0" in url:
        raise InvalidInputError(f"expected the URL or folder of a remote, found {url!r}")
    match = _SCHEME.match(url)
    if match is None:
        return _parse_folder(url, base)
    scheme = match[1].lower()
    if scheme == "file":
        parts = _split(url, "remote")
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise InvalidInputError("expected file:///absolute/path, found a file URL with a host or without a path")
        return RemoteSettings(str(Path(unquote(parts.path)).resolve()))
    if scheme not in OBJECT_STORE_SCHEMES + WEB_SCHEMES:
        raise InvalidInputError(
            f"expected a folder or a URL of file, s3, gs, az, http or https, found scheme {match[1]!r}"
        )
    _check_no_secrets(url, "remote")
    host = _split(url, "remote").netloc
    if not host:
        raise InvalidInputError(f"expected a bucket or host after {scheme}://, found none")
    if scheme in OBJECT_STORE_SCHEMES and not _BUCKET.fullmatch(host):
        raise InvalidInputError("expected a bucket of letters, digits, '.', '_', '$' and '-', found other characters")
    _check_host(url, "remote")
    if endpoint_url is not None:
        _check_endpoint(endpoint_url)
    if region is not None and not _REGION.fullmatch(region):  # it becomes part of a host's name
        raise InvalidInputError("expected the name of a region such as eu-west-1, found other characters")
    return RemoteSettings(scheme + url[len(scheme) :].rstrip("/"), endpoint_url, region)


def _parse_folder(text: str, base: Path) -> RemoteSettings:
    if _SECRET_IN_NO_URL.match(text):
        raise InvalidInputError(
            "expected the URL or folder of a remote, found apparent credentials before an '@': leave them out, "
            "and write URLs with '://' (a folder of such a name is ./NAME)"
        )
    mistyped, is_there = _MISTYPED.match(text), os.path.lexists(base / text)
    if mistyped and not is_there:
        raise InvalidInputError(
            f"expected {mistyped[1].lower()}://..., found {mistyped[0]}... (a folder of such a name is ./NAME)"
        )
    if _SSH.match(text) and not is_there:
        raise InvalidInputError(
            "expected a folder or a URL of file, s3, gs, az, http or https, found a path on another machine: ssh is "
            "not supported; mount the folder here (one with a colon in its name is ./NAME)"
        )
    folder = str((base / Path(text).expanduser()).resolve())
    try:
        folder.encode()  # settings are JSON
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"expected a remote in a folder whose path is UTF-8, found {folder!a}; rename the folder, or link to it"
        ) from error
    return RemoteSettings(folder)


def find_origin(settings: RemoteSettings) -> str | None:
    """Return the server of a remote, as `https://host:port` without a default port.

    None for folders, and for object stores without an endpoint: those are on their provider's host, or on one that the
    environment names.
    """
    url = settings.url if settings.url.startswith(("http://", "https://")) else settings.endpoint_url
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return url  # nothing that anybody can have named
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" if port in (None, _PORTS.get(scheme)) else f"{scheme}://{host}:{port}"


def _split(url: str, what: str) -> SplitResult:
    """Split a URL. Raises `InvalidInputError`, without repeating the URL, if it is malformed."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise InvalidInputError(f"cannot parse the {what} URL ({error})") from None


def _check_endpoint(endpoint_url: str) -> None:
    _check_no_secrets(endpoint_url, "endpoint")
    parts = _split(endpoint_url, "endpoint")
    if parts.scheme not in WEB_SCHEMES or not parts.netloc:
        raise InvalidInputError("expected an endpoint such as https://host:port")
    _check_host(endpoint_url, "endpoint")


def _check_host(url: str, what: str) -> None:
    parts = _split(url, what)
    try:
        _ = parts.port
    except ValueError as error:
        raise InvalidInputError(f"the {what} URL cannot be understood ({error})") from None
    if _UNSAFE_IN_HOST.search(parts.netloc):
        raise InvalidInputError(f"expected a host in the {what} URL, found characters that no host has")


def _check_no_secrets(url: str, what: str) -> None:
    """Reject user:password@, queries and fragments, without repeating them."""
    parts = _split(url, what)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidInputError(
            f"the {what} URL contains credentials or a query: remove them; keys are read from the environment or the "
            "provider's own files (for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)"
        )
