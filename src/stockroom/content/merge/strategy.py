"""Merge strategies: who decides conflicts, for everything or by patterns of paths."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TypeAlias

from stockroom.content.merge.conflict import CHOICES, Choice, Conflict, Decide, decide_nothing
from stockroom.errors import InvalidInputError

Strategy: TypeAlias = str | Mapping[str, str] | None
"""`ours`, `theirs` or `average` for all conflicts; or such a choice for each pattern of paths, as `data/label`, of
which the first that fits and can decide does; None leaves them all."""


def make_decide(strategy: Strategy) -> Decide:
    """What decides conflicts by a strategy; `InvalidInputError` for one that is not known.

    `average` decides about floating tensors of models only: the rest is left to the next pattern that fits.
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
    """Whether a pattern names the conflict's path, its shelf, or the path and key."""
    names = [conflict.path] if conflict.key is None else [conflict.path, f"{conflict.path}:{conflict.key}"]
    return any(name == pattern or fnmatchcase(name, pattern) or name.startswith(f"{pattern}/") for name in names)
