"""What names mean within one container of a structure: keys, paths as they are shown, and patterns of such paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Final

import numpy as np

from stockroom.content.leaf_path import iter_around, iter_paths, iter_places, join_raw
from stockroom.content.structure import ListNode, Node, StateKey, Structure, TupleNode, join_path, list_nodes
from stockroom.errors import LeafNotFoundError, near_names

_GLOB: Final = frozenset("*?[")


class NodeNames:
    """The names of what is in `node`, which stands at `path` of a structure that `owner`, as errors say it, has."""

    def __init__(self, structure: Structure, node: Node, path: str, *, owner: str) -> None:
        self._owner = owner
        self._structure = structure
        self._node = node
        self._path = path

    @cached_property
    def places(self) -> Mapping[StateKey, int]:
        """Where each key of the container stands in it, in order."""
        return self._structure.index(self._node, self._path)

    @cached_property
    def leaves(self) -> list[str]:
        """The whole paths of all leaves in it, in order."""
        return list(iter_paths(self._node, self._path))

    def relative(self, path: str) -> str:
        """A whole path as it is shown: from this container on."""
        return path.removeprefix(f"{self._path}/") if self._path else path

    def find(self, key: object) -> tuple[str, Node] | None:
        """The whole path and the node under a key of the container; a position may count from the end of a list."""
        if isinstance(key, np.integer):
            key = int(key)
        if not isinstance(key, str | int) or isinstance(key, bool):
            return None
        place = self.places.get(key)
        if place is None and isinstance(key, int) and isinstance(self._node, ListNode | TupleNode) and key < 0:
            key += len(self.places)
            place = self.places.get(key)
        return None if place is None else (join_path(self._path, key), list_nodes(self._node)[place])

    def choose(self, names: StateKey | Iterable[StateKey]) -> set[str]:
        """The whole paths of what `names` name: leaves, constants, and all containers around them.

        `LeafNotFoundError` for a name that names nothing.
        """
        inside = dict(iter_places(self._node, self._path))
        wanted: set[str] = set()
        for name in [names] if isinstance(names, str | int | np.integer) else names:
            found = self.find(name)
            chosen = [found[0]] if found is not None else list(self._iter_matches(name, inside))
            if not chosen:
                raise self.missing(name)
            for path in chosen:
                wanted.update((path, *dict(iter_places(inside[path], path)), *iter_around(path)))
        return wanted

    def missing(self, name: object) -> LeafNotFoundError:
        """The error for a name that names nothing, with names near to it, or some that are there."""
        known = list(dict.fromkeys([*map(str, self.places), *map(self.relative, self.leaves)]))
        near = near_names(str(name), known)
        hint = f"there are {', '.join(map(repr, known[:5]))}" if known else "it is empty"
        if near:
            hint = f"did you mean {', '.join(map(repr, near))}?"
        at = f" at {self._path!r}" if self._path else ""
        return LeafNotFoundError(f"{self._owner} has nothing under {name!r}{at}; {hint}")

    def _iter_matches(self, name: object, inside: Mapping[str, Node]) -> Iterator[str]:
        if not isinstance(name, str):
            return
        exact = join_raw(self._path, name)
        if exact in inside:
            yield exact
        elif not _GLOB.isdisjoint(name):
            leaves = (path for path, node in inside.items() if not list_nodes(node))
            yield from (path for path in leaves if fnmatchcase(self.relative(path), name))
