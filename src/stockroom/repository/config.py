"""A repository's own settings: who commits, how absent data is fetched, upstreams. Remotes are stored elsewhere.

A setting has a key, such as `user.name`, and a value that is typed as one word. An unset one has its default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from stockroom.errors import InvalidInputError, MalformedRecordError, did_you_mean, near_names
from stockroom.repository.settings_file import SettingsFile

_MAX_TEXT: Final = 1000
_BOOLS: Final = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
MAX_TIMEOUT_S: Final = 1e6


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings; None is unset. `upstreams` maps a branch to its upstream, as `origin/main` (`upstream`)."""

    name: str | None = None
    email: str | None = None
    lazy_fetch: bool | None = None
    fetch_timeout_s: float | None = None
    upstreams: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name, its field in `Settings`, the parser of a typed value, and its help."""

    name: str
    field: str
    parse: Callable[[str], Any]
    help: str


def read_settings(file: Path) -> Settings:
    """Return the settings in a file, empty if it is missing. Raises `MalformedRecordError` if it cannot be read."""
    return _open(file).read()


def change_settings(file: Path, change: Callable[[Settings], Settings]) -> Settings:
    """Replace the settings in a file by `change` of them, and return them; changes of other processes are kept."""
    return _open(file).change(change)


def _open(file: Path) -> SettingsFile[Settings]:
    def decode(content: bytes) -> Settings:
        try:
            return msgspec.json.decode(content, type=Settings)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedRecordError(
                f"{file}: expected JSON with name and email ({error}); fix or remove the file", where=str(file)
            ) from error

    return SettingsFile(file, decode, msgspec.json.encode, Settings())


def get_setting(name: str) -> Setting:
    """Return the setting with this name. Raises `InvalidInputError` with similar names if there is none."""
    key = next((key for key in KEYS if key.name == name.lower()), None)
    if key is not None:
        return key
    known = [key.name for key in KEYS]
    hint = did_you_mean(near_names(name.lower(), known, 2), quote=str) or f"there are {', '.join(known)}"
    raise InvalidInputError(f"no setting {name!r}; {hint}")


def change_setting(settings: Settings, key: Setting, text: str | None) -> Settings:
    """Return settings with one set from `text`, or unset for None. Raises `InvalidInputError` if `text` is invalid."""
    value = None if text is None else key.parse(text)
    return msgspec.structs.replace(settings, **{key.field: value})


def _parse_text(text: str) -> str:
    stripped = text.strip()
    if not 0 < len(stripped) <= _MAX_TEXT or not stripped.isprintable() or "<" in stripped or ">" in stripped:
        raise InvalidInputError(f"expected one line of text without < and >, found {text[:100]!r}")
    return stripped


def _parse_bool(text: str) -> bool:
    if text.lower() not in _BOOLS:
        raise InvalidInputError(f"expected true or false, found {text!r}")
    return _BOOLS[text.lower()]


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < MAX_TIMEOUT_S:
        raise InvalidInputError(f"expected seconds between 0 and {MAX_TIMEOUT_S:.0f}, found {text!r}")
    return seconds


KEYS: Final = (
    Setting("user.name", "name", _parse_text, "Your name, recorded in commits."),
    Setting("user.email", "email", _parse_text, "Your email, recorded in commits."),
    Setting("fetch.lazy", "lazy_fetch", _parse_bool, "Download missing samples when they are read."),
    Setting("fetch.timeout", "fetch_timeout_s", _parse_seconds, "Seconds that a read waits without progress."),
)
"""All settings."""
