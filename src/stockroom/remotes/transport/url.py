"""The settings that name a remote: its URL, and its server if the URL does not say. Never a secret."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from stockroom.errors import InvalidInputError

OBJECT_STORE_SCHEMES: Final = ("s3", "gs", "az")
WEB_SCHEMES: Final = ("http", "https")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """A remote as configured. An `endpoint_url` or `region` of None is left to the environment."""

    url: str
    endpoint_url: str | None = None
    region: str | None = None


def parse_remote_settings(
    url: str, *, endpoint_url: str | None = None, region: str | None = None, base: Path
) -> RemoteSettings:
    """Parse the settings of a remote as a user gives them. A folder becomes an absolute path, resolved from `base`.

    Raises:
        InvalidInputError: the URL is of no known kind, or carries credentials (which are not repeated).
    """
    if not isinstance(url, str) or not url or "\0" in url:
        raise InvalidInputError(f"expected the URL or folder of a remote, found {url!r}")
    match = _SCHEME.match(url)
    if match is None:
        return RemoteSettings(str((base / Path(url).expanduser()).resolve()))
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
    if not _split(url, "remote").netloc:
        raise InvalidInputError(f"expected a bucket or host after {scheme}://, found none")
    if endpoint_url is not None:
        _check_endpoint(endpoint_url)
    return RemoteSettings(url.rstrip("/"), endpoint_url, region)


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


def _check_no_secrets(url: str, what: str) -> None:
    """Reject user:password@, queries and fragments, without repeating them."""
    parts = _split(url, what)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidInputError(
            f"the {what} URL contains credentials or a query: remove them; keys are read from the environment or the "
            "provider's own files (for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile)"
        )
