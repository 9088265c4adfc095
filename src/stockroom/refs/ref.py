"""Refs: the kind and the name of a branch, tag or remote-tracking branch."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from stockroom.errors import InvalidInputError

RefKind: TypeAlias = Literal["branch", "tag", "remote"]
KINDS: Final[tuple[RefKind, ...]] = ("branch", "tag", "remote")
"""In the order in which a name is looked up."""


class Ref(NamedTuple):
    """A branch, a tag, or a remote-tracking branch, whose name is `remote/branch`."""

    kind: RefKind
    name: str

    def __str__(self) -> str:
        """Return the text for people and for the operation log: "branch/main", "tag/v1", "remote/origin/main"."""
        return f"{self.kind}/{self.name}"


def parse_ref(text: str) -> Ref:
    """Parse the text form of a ref; raises `InvalidInputError` for any other text."""
    kind, _, name = text.partition("/")
    for known in KINDS:
        if kind == known:
            return Ref(known, name)
    raise InvalidInputError(f"expected a ref like branch/main, tag/v1 or remote/origin/main, found {text!r}")
