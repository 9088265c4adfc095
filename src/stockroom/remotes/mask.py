"""Masks secrets in texts: in URLs, in headers, and the values of secret variables of the environment.

Errors of other libraries repeat addresses and headers, and errors of ours repeat those.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, unquote

_SECRET_VARIABLES: Final = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|ACCESS_KEY|ACCOUNT_KEY|API_?KEY|(?:^|_)SAS(?:_|$)|CREDENTIAL|SIGNATURE",
    re.IGNORECASE,
)
_URL_VARIABLES: Final = re.compile(r"URL|ENDPOINT|PROXY", re.IGNORECASE)
_USER_IN_URL: Final = re.compile(r"(?<=://)[^\s/?#\"'<>`]*@")
_QUERY_IN_URL: Final = re.compile(r"(://[^\s?#\"'<>`]*)[?][^\s#\"'<>`]*")
_FRAGMENT_IN_URL: Final = re.compile(r"(://[^\s#\"'<>`]*)#[^\s\"'<>`]+")
_NAMED: Final = re.compile(
    r"(?i)(signature|credential|authorization|password|passwd|token|secret|x-amz-[a-z-]*|key)(=|: ?)[^\s,&;\"']+"
)
_MIN_LENGTH: Final = 8
_MIN_PASSWORD_LENGTH: Final = 4
_HIDDEN: Final = "***"


def mask_urls(text: str) -> str:
    """Return `text` with secrets of URLs replaced by `***`: users, passwords, queries and fragments.

    Passwords in URLs of the environment are replaced wherever they are.
    """
    text = _hide(text, _iter_passwords())
    text = _USER_IN_URL.sub(f"{_HIDDEN}@", text)
    return _FRAGMENT_IN_URL.sub(rf"\1#{_HIDDEN}", _QUERY_IN_URL.sub(rf"\1?{_HIDDEN}", text))


def mask_secrets(text: str) -> str:
    """Return another library's text masked, also values of headers, parameters and variables with secret names."""
    secret = (value for name, value in os.environ.items() if _SECRET_VARIABLES.search(name))
    text = _hide(mask_urls(text), (value for value in secret if len(value) >= _MIN_LENGTH))
    return _NAMED.sub(rf"\1\2{_HIDDEN}", text)


def _hide(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _iter_passwords() -> Iterator[str]:
    """Yield the passwords in URLs of the environment, alone and with their users, in every form."""
    for name, value in os.environ.items():
        if "://" not in value and not _URL_VARIABLES.search(name):
            continue
        before, _, _ = value.rpartition("@")
        user, _, password = before.rpartition("://")[2].partition(":")
        if len(password) >= _MIN_PASSWORD_LENGTH:
            for secret in (f"{user}:{password}", password):
                yield from (secret, unquote(secret), quote(unquote(secret), safe=":"))
