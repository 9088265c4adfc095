"""Resolves the revisions of a log, `dev`, `main..dev`, `^main`, `main...dev`, to the commits that a walk begins at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stockroom.digest import CommitId
from stockroom.errors import InvalidInputError
from stockroom.refs.merge_base import list_merge_bases
from stockroom.refs.store import RefStore


@dataclass(frozen=True, slots=True)
class Revisions:
    """The commits that a walk starts from, and those whose history is left out."""

    starts: tuple[CommitId, ...]
    hidden: tuple[CommitId, ...] = ()


def split_range(spec: str) -> tuple[str, str, bool] | None:
    """Return both ends of `A..B` or `A...B`, HEAD for an empty one, and whether it has three dots; None for others."""
    if ".." not in spec:
        return None
    dots = "..." if "..." in spec else ".."
    old, _, new = spec.partition(dots)
    if ".." in new or new.startswith("."):
        raise InvalidInputError(f"expected A..B or A...B, found {spec!r}")
    return old or "HEAD", new or "HEAD", dots == "..."


def resolve_revisions(refs: RefStore, specs: Iterable[str], resolve: Callable[[str], CommitId]) -> Revisions:
    """Return the walk that git's words name: `A..B` is B without A, `A...B` what only one of them has, `^A` not A."""
    starts: list[CommitId] = []
    hidden: list[CommitId] = []
    for spec in specs:
        ends = split_range(spec)
        if ends is None:
            (hidden if spec.startswith("^") else starts).append(resolve(spec.removeprefix("^")))
            continue
        old, new = resolve(ends[0]), resolve(ends[1])
        starts += (old, new) if ends[2] else (new,)
        hidden += list_merge_bases(refs, old, new) if ends[2] else (old,)
    return Revisions(tuple(starts), tuple(hidden))
