"""Masks secrets in texts: in URLs, in headers, and the values of secret variables of the environment.

Errors of other libraries repeat addresses and headers, and errors of ours repeat those.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
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


def mask_urls(text: str, *environments: Mapping[str, str]) -> str:
    """Return `text` with secrets of URLs replaced by `***`: users, passwords, queries and fragments.

    Passwords in URLs of this process's environment, and of `environments`, are replaced wherever they are.
    """
    text = _hide(text, _iter_passwords(os.environ, *environments))
    text = _USER_IN_URL.sub(f"{_HIDDEN}@", text)
    return _FRAGMENT_IN_URL.sub(rf"\1#{_HIDDEN}", _QUERY_IN_URL.sub(rf"\1?{_HIDDEN}", text))


def mask_secrets(text: str, *environments: Mapping[str, str]) -> str:
    """Return another library's text masked, also values of headers, parameters and variables with secret names."""
    variables = (item for found in (os.environ, *environments) for item in found.items())
    secret = (value for name, value in variables if _SECRET_VARIABLES.search(name))
    text = _hide(mask_urls(text, *environments), (value for value in secret if len(value) >= _MIN_LENGTH))
    return _NAMED.sub(rf"\1\2{_HIDDEN}", text)


def _hide(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(set(secrets), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _iter_passwords(*environments: Mapping[str, str]) -> Iterator[str]:
    """Yield the passwords in URLs of environments, alone and with their users, in every form."""
    for name, value in (item for found in environments for item in found.items()):
        if "://" not in value and not _URL_VARIABLES.search(name):
            continue
        before, _, _ = value.rpartition("@")
        user, _, password = before.rpartition("://")[2].partition(":")
        if len(password) >= _MIN_PASSWORD_LENGTH:
            for secret in (f"{user}:{password}", password):
                yield from (secret, unquote(secret), quote(unquote(secret), safe=":"))
