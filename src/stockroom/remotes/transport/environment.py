"""The variables that remotes are opened with: credentials, proxies, and where the user's files are.

They may be those of another process, since the fetch agent opens remotes for its clients. Nothing shows their values.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

_READ: Final = re.compile(
    r"(?:AWS|GOOGLE|AZURE|CLOUDSDK|IDENTITY|MSI)_\w+|(?:https?|all|no)_proxy|(?:HTTPS?|ALL|NO)_PROXY"
    r"|HOME|XDG_STATE_HOME|BOTO_CONFIG|GCE_METADATA_HOST|STOCKROOM_TRUSTED_HOSTS"
)
_PATHS: Final = frozenset({
    "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_CONFIG_DIR", "AZURE_FEDERATED_TOKEN_FILE", "CLOUDSDK_CONFIG",
    "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH",
})  # fmt: skip
"""Variables that name a file or folder, perhaps relative to the current folder."""


@functools.lru_cache(maxsize=4096)  # a process asks before each request
def _is_read(name: str) -> bool:
    return _READ.fullmatch(name) is not None


class RemoteEnvironment(Mapping[str, str]):
    """Those of `variables` that remotes read. It is immutable, and a key of dictionaries."""

    __slots__ = ("_hash", "_variables")

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = {name: value for name, value in variables.items() if _is_read(name)}
        self._hash = hash(frozenset(self._variables.items()))

    def __getitem__(self, name: str) -> str:
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"environment of {len(self)} variables"

    def expand(self, path: str) -> Path:
        """Return `path` with `~` as the home folder; it stays relative without one."""
        home = self.get("HOME", "")
        return Path(home + path[1:] if home and path.startswith("~/") else path)

    def list_files(self, *choices: str) -> list[Path]:
        """Return the files that variables name. A choice is `VARIABLE`, or `VARIABLE:DEFAULT`."""
        named = (choice.partition(":") for choice in choices)
        paths = (self.get(name) or default for name, _, default in named)
        return [self.expand(path) for path in paths if path]

    def list_proxies(self) -> dict[str, str]:
        """Return proxies by scheme, and under `no` the hosts without one. Lower case wins."""
        names = sorted(name for name in self if name.lower().endswith("_proxy"))  # upper case comes first
        found = {name.lower().removesuffix("_proxy"): self[name] for name in names}
        return {scheme: value for scheme, value in found.items() if value}


def read_environment() -> RemoteEnvironment:
    """Return the variables of this process. Relative paths become absolute."""
    read = dict(RemoteEnvironment(os.environ))
    for name in _PATHS & read.keys():
        if read[name] and not read[name].startswith("~"):
            with suppress(FileNotFoundError):  # the current folder is gone
                read[name] = os.path.abspath(read[name])  # noqa: PTH100 - a link keeps its name
    home = os.path.expanduser("~")  # noqa: PTH111 - never raises
    return RemoteEnvironment(read if read.get("HOME") or not home.startswith("/") else {**read, "HOME": home})
