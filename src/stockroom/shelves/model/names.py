"""Resolves names within one container of a structure: keys, relative paths, and patterns of such paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Final

import numpy as np

from stockroom.content.nodes import ListNode, StateKey, StateNode, TupleNode, join_path, list_keys, list_nodes
from stockroom.content.structure import Structure
from stockroom.errors import LeafNotFoundError, near_names

_GLOB: Final = frozenset("*?[")


class NodeNames:
    """The names in the container at `path` of a structure; errors name `owner`, such as a model."""

    def __init__(self, structure: Structure, path: str, *, owner: str) -> None:
        self._owner = owner
        self._structure = structure
        self._path = path
        self._node = structure.nodes[path]

    @cached_property
    def keys(self) -> list[StateKey]:
        """The keys of the container, in order."""
        return list_keys(self._node)

    @cached_property
    def leaves(self) -> list[str]:
        """The full paths of all leaves in the container, in order."""
        return self._structure.list_leaves(self._path)

    def absolute(self, name: str) -> str:
        """Return the full path for a relative one."""
        return f"{self._path}/{name}" if self._path else name

    def relative(self, path: str) -> str:
        """Return a full path as shown to users, relative to this container."""
        return path.removeprefix(f"{self._path}/") if self._path else path

    def find(self, key: object) -> tuple[str, StateNode] | None:
        """Return the full path and node under a key of the container; negative positions count from a list's end."""
        if isinstance(key, np.integer):
            key = int(key)
        if not isinstance(key, str | int) or isinstance(key, bool):
            return None
        if isinstance(key, int) and key < 0 and isinstance(self._node, ListNode | TupleNode):
            key += len(self.keys)
        path = join_path(self._path, key)
        node = self._structure.nodes.get(path)
        return None if node is None else (path, node)

    def choose(self, names: StateKey | Iterable[StateKey]) -> set[str]:
        """Return the full paths of the leaves and constants that `names` select, and of all containers around them.

        Raises `LeafNotFoundError` if a name selects nothing.
        """
        inside = dict(self._structure.walk(self._path))
        wanted: set[str] = set()
        for name in [names] if isinstance(names, str | int | np.integer) else names:
            found = self.find(name)
            chosen = [found[0]] if found is not None else list(self._iter_matches(name, inside))
            if not chosen:
                raise self.missing(name)
            for path in chosen:
                wanted.update((path, *dict(self._structure.walk(path)), *_iter_around(path)))
        return wanted

    def missing(self, name: object) -> LeafNotFoundError:
        """Return the error for a name that selects nothing; the message suggests similar names, or some that exist."""
        known = list(dict.fromkeys([*map(str, self.keys), *map(self.relative, self.leaves)]))
        near = near_names(str(name), known)
        hint = f"there are {', '.join(map(repr, known[:5]))}" if known else "it is empty"
        if near:
            hint = f"did you mean {', '.join(map(repr, near))}?"
        at = f" at {self._path!r}" if self._path else ""
        return LeafNotFoundError(f"{self._owner} has nothing under {name!r}{at}; {hint}")

    def _iter_matches(self, name: object, inside: Mapping[str, StateNode]) -> Iterator[str]:
        if not isinstance(name, str):
            return
        exact = self.absolute(name)
        if exact in inside:
            yield exact
        elif not _GLOB.isdisjoint(name):
            leaves = (path for path, node in inside.items() if not list_nodes(node))
            yield from (path for path in leaves if fnmatchcase(self.relative(path), name))


def _iter_around(path: str) -> Iterator[str]:
    """Yield the paths of the containers around a path."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
