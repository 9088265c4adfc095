"""A repository's own settings: who commits, and how what is not on this machine is brought. Remotes are apart.

A setting has a key, such as `user.name`, and a value that a person types as one word. What is not set has its default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from stockroom.errors import InvalidInputError, MalformedRecordError, did_you_mean, near_names
from stockroom.files import read_own_file, replace_own_file

_MAX_TEXT: Final = 1000
_BOOLS: Final = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
MAX_TIMEOUT_S: Final = 1e6


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is set here; None is what nobody has set."""

    name: str | None = None
    email: str | None = None
    lazy_fetch: bool | None = None
    fetch_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: what it is called, its field in `Settings`, what reads a typed value, and what it does."""

    name: str
    field: str
    parse: Callable[[str], Any]
    help: str


def read_settings(file: Path) -> Settings:
    """What is set in a file, nothing if there is none; `MalformedRecordError` if it cannot be read."""
    try:
        return msgspec.json.decode(read_own_file(file), type=Settings)
    except FileNotFoundError:
        return Settings()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRecordError(
            f"{file}: expected JSON with name and email ({error}); mend or remove the file", where=str(file)
        ) from error


def write_settings(file: Path, settings: Settings) -> None:
    """Put settings in the place of those in a file."""
    replace_own_file(file, msgspec.json.encode(settings))


def find_key(name: str) -> Key:
    """The setting of that name; `InvalidInputError` with names near to it."""
    key = next((key for key in KEYS if key.name == name.lower()), None)
    if key is not None:
        return key
    known = [key.name for key in KEYS]
    hint = did_you_mean(near_names(name.lower(), known, 2), quote=str) or f"there are {', '.join(known)}"
    raise InvalidInputError(f"no setting {name!r}; {hint}")


def change_setting(settings: Settings, key: Key, text: str | None) -> Settings:
    """Settings in which one is what `text` says, or, for None, not set; `InvalidInputError` if it cannot be that."""
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
        raise InvalidInputError(f"expected seconds above 0, found {text!r}")
    return seconds


KEYS: Final = (
    Key("user.name", "name", _parse_text, "Who commits here."),
    Key("user.email", "email", _parse_text, "Their email."),
    Key("fetch.lazy", "lazy_fetch", _parse_bool, "Whether what is not here is brought when it is read."),
    Key("fetch.timeout", "fetch_timeout_s", _parse_seconds, "Seconds that a read waits while nothing arrives."),
)
"""Every setting there is."""
