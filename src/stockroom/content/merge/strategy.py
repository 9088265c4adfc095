"""Merge strategies: decisions for all conflicts or by patterns of paths."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TypeAlias

from stockroom.content.merge.conflict import CHOICES, Choice, Conflict, Decide, decide_nothing
from stockroom.errors import InvalidInputError

Strategy: TypeAlias = str | Mapping[str, str] | None
"""`ours`, `theirs` or `average` for all conflicts; or one of these per pattern of paths, such as `data/label`, and
the first pattern that matches and can decide wins. None leaves all conflicts open."""


def make_decide(strategy: Strategy) -> Decide:
    """Return the function that decides by a strategy. Raises `InvalidInputError` if the strategy is unknown.

    `average` decides only about floating tensors of models; other conflicts go to the next pattern that matches.
    """
    if strategy is None:
        return decide_nothing
    patterns = {"*": strategy} if isinstance(strategy, str) else dict(strategy)
    chosen = [(pattern, _check_choice(choice)) for pattern, choice in patterns.items()]

    def decide(conflict: Conflict) -> tuple[Choice, ...]:
        return tuple(choice for pattern, choice in chosen if _fits(pattern, conflict))

    return decide


def _check_choice(choice: str) -> Choice:
    for known in CHOICES:
        if choice == known:
            return known
    raise InvalidInputError(f"expected the strategy {', '.join(CHOICES)} or None, found {choice!r}")


def _fits(pattern: str, conflict: Conflict) -> bool:
    """Return whether a pattern matches the conflict's path, its shelf, or the path and key."""
    names = [conflict.path] if conflict.key is None else [conflict.path, f"{conflict.path}:{conflict.key}"]
    return any(name == pattern or fnmatchcase(name, pattern) or name.startswith(f"{pattern}/") for name in names)
