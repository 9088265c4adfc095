"""What a ref is called: its kind and its name."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from stockroom.errors import InvalidInputError

RefKind: TypeAlias = Literal["branch", "tag", "remote"]
KINDS: Final[tuple[RefKind, ...]] = ("branch", "tag", "remote")
"""In the order in which a name is looked for among them."""


class Ref(NamedTuple):
    """A branch, a tag, or a remote-tracking ref, whose name is that of the remote and that of the branch there."""

    kind: RefKind
    name: str

    def __str__(self) -> str:
        """The text for people and for the operation log: "branch/main", "tag/v1", "remote/origin/main"."""
        return f"{self.kind}/{self.name}"


def parse_ref(text: str) -> Ref:
    """The ref that `text` names; `InvalidInputError` for text of any other form."""
    kind, _, name = text.partition("/")
    for known in KINDS:
        if kind == known:
            return Ref(known, name)
    raise InvalidInputError(f"expected a ref like branch/main, tag/v1 or remote/origin/main, found {text!r}")
