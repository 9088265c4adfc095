"""Paths of what is in a structure: the keys and positions that lead to it, joined by `/`."""

from __future__ import annotations

from collections.abc import Iterator

from stockroom.content.structure import Constant, DictNode, ListNode, Node, TupleNode
from stockroom.shelves.model.leaf_values import iter_parts


def join_raw(path: str, name: str) -> str:
    """The path of what is at `name`, itself a path, within the container at `path`."""
    return f"{path}/{name}" if path else name


def iter_paths(node: Node, path: str, *, wraps: bool = False) -> Iterator[str]:
    """The paths of the leaves in a node; with `wraps` not of those in dicts."""
    if isinstance(node, DictNode | ListNode | TupleNode):
        if not (wraps and isinstance(node, DictNode)):
            for _, at, part in iter_parts(node, path):
                yield from iter_paths(part, at, wraps=wraps)
    elif not isinstance(node, Constant):
        yield path


def iter_places(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """Everything in a container, at any depth, by path."""
    for _, at, part in iter_parts(node, path):
        yield at, part
        yield from iter_places(part, at)


def iter_around(path: str) -> Iterator[str]:
    """The paths of the containers around a path."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
