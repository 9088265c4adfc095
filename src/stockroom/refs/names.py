"""Rules for the names of branches and tags: git's rules, and some that keep names distinct from digests and flags.

They mirror `git check-ref-format --allow-onelevel`, so a stock branch can always be a git branch.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from stockroom.errors import InvalidNameError

MAX_NAME_NBYTES: Final = 200

_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")
_FULL_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")


def check_name(kind: str, name: str) -> None:
    """Raise `InvalidNameError`, naming the broken rule, unless `name` is valid for a `kind` ("branch", "tag")."""
    broken = find_broken_rule(name)
    if broken is not None:
        raise InvalidNameError(f"{kind} name {name!r}: {broken}; choose another name")


def check_free_name(kind: str, name: object) -> None:
    """Raise `InvalidNameError` unless `name` is printable text: the only rule for names that are no refs or files."""
    broken = None
    if not isinstance(name, str):
        broken = "must be a str"
    elif not name or name != name.strip():
        broken = "must not be empty, nor begin or end with a space"
    elif not name.isprintable():
        broken = "must not contain control characters or lone surrogates"
    elif len(name.encode()) > MAX_NAME_NBYTES:
        broken = f"must be at most {MAX_NAME_NBYTES} bytes of UTF-8"
    if broken is not None:
        raise InvalidNameError(f"{kind} name {name!r}: {broken}; choose another name")


def find_broken_rule(name: str) -> str | None:
    """Return the first rule that `name` breaks, as words that follow "name 'x':"; None for a valid name."""
    for broken, rule in _whole_name_rules(name):
        if broken:
            return rule
    for part in name.split("/"):
        if not part:
            return "must not begin or end with '/', nor contain '//'"
        if part.startswith("."):
            return "no part of it may begin with '.'"
        if part.endswith(".lock"):
            return "no part of it may end with '.lock'"
    return None


def _whole_name_rules(name: str) -> list[tuple[bool, str]]:
    encodable = not any("\ud800" <= character <= "\udfff" for character in name)
    nbytes = len(name.encode("utf-8", "replace"))
    return [
        (not name, "must not be empty"),
        (not encodable, "must not contain lone surrogates"),
        (nbytes > MAX_NAME_NBYTES, f"must be at most {MAX_NAME_NBYTES} bytes of UTF-8, is {nbytes}"),
        (name in ("HEAD", "@"), "is reserved for the current commit"),
        (name.startswith("-"), "must not begin with '-', which begins a flag"),
        (
            _FORBIDDEN.search(name) is not None,
            "must not contain spaces, control characters or any of ~^:?*[\\",
        ),
        (".." in name, "must not contain '..'"),
        ("@{" in name, "must not contain '@{'"),
        (name.endswith("."), "must not end with '.'"),
        (_FULL_DIGEST.fullmatch(name) is not None, "must not look like a full digest"),
    ]


def check_collision(kind: str, name: str, existing: Iterable[str]) -> None:
    """Raise `InvalidNameError` if another name differs from `name` only in case or in Unicode's composition.

    Two such names would be one file on some file systems, so git cannot hold both everywhere.
    """
    other = find_colliding(name, existing)
    if other is not None:
        raise InvalidNameError(
            f"{kind} name {name!r}: differs from the existing {other!r} only in case or Unicode composition; "
            "choose another name"
        )


def find_colliding(name: str, existing: Iterable[str]) -> str | None:
    """Return another name that differs from `name` only in case or in Unicode's composition, or None."""
    folded = fold_name(name)
    return next((other for other in existing if other != name and fold_name(other) == folded), None)


class FoldedNames:
    """Names by the form in which they are equal that collide: a look-up costs the same however many there are."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names: dict[str, set[str]] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Add a name."""
        self._names.setdefault(fold_name(name), set()).add(name)

    def discard(self, name: str) -> None:
        """Remove a name, if it is here."""
        self._names.get(fold_name(name), set()).discard(name)

    def find_colliding(self, name: str) -> str | None:
        """Return another name that collides with `name`, or None."""
        return next((other for other in self._names.get(fold_name(name), ()) if other != name), None)


def fold_name(name: str) -> str:
    """Return the form in which names are equal that collide."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
