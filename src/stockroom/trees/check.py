"""Walks a whole tree and checks the assumption of look-ups: that parents describe their children correctly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stockroom.digest import ObjectDigest
from stockroom.errors import CorruptionError, MalformedRecordError
from stockroom.trees.node import Node
from stockroom.trees.tree import Tree


def check_tree(
    tree: Tree, seen: set[bytes], *, begun: set[bytes] | None = None, with_leaves: bool = True
) -> Iterator[tuple[ObjectDigest, Node | None]]:
    """Yield each node not in `seen`, with its digest, parents first; adds every node to `seen`, after all below it.

    Without `with_leaves`, leaves below others are not read, and come with None.

    A node whose nodes were not all yielded, and taken by a caller that went on, is in `begun` and not in `seen`.
    Without `begun`, a node is added to `seen` before those below it, and not visited again even if that fails half-way.

    Raises `CorruptionError` if a node is missing, damaged, or does not match its parent.
    """
    if tree.root not in seen:
        yield from _walk(tree, tree.root, tree.top, seen=seen, begun=begun, with_leaves=with_leaves)


def _walk(
    tree: Tree, digest: bytes, node: Node, *, seen: set[bytes], begun: set[bytes] | None, with_leaves: bool
) -> Iterator[tuple[ObjectDigest, Node | None]]:
    (seen if begun is None else begun).add(digest)
    yield ObjectDigest(digest), node
    if node.level:
        digests = node.child_digests
        new = [index for index, below in enumerate(digests) if below not in seen]
        if node.level == 1 and not with_leaves:
            for index in new:
                seen.add(digests[index])
                yield ObjectDigest(digests[index]), None
            new = []
        for index, child in _read_children(tree, node, new):
            if begun is None:
                seen.add(digests[index])
            _check_bounds(node, index, child)
            yield from _walk(tree, digests[index], child, seen=seen, begun=begun, with_leaves=with_leaves)
    if begun is not None:
        begun.discard(digest)
        seen.add(digest)


def _read_children(tree: Tree, node: Node, indices: list[int]) -> Iterator[tuple[int, Node]]:
    """Children and their indices, read in one request; one by one if any is damaged, so that those before it come."""
    children: Iterable[Node]
    try:
        children = tree.nodes.read_children(node, indices)
    except CorruptionError:
        children = (tree.nodes.read_child(node, index) for index in indices)
    return zip(indices, children, strict=True)


def _check_bounds(node: Node, index: int, child: Node) -> None:
    """Raise unless a child's keys end at its parent's key for it, and begin after the previous one."""
    last = child.keys[len(child) - 1]
    starts_late = index == 0 or node.keys.find(child.keys[0]) == index
    if last != node.keys[index] or not starts_late:
        raise MalformedRecordError(
            f"node {node.child_digests[index].hex()}: expected keys up to {node.keys[index]!r}, found up to {last!r}"
        )
