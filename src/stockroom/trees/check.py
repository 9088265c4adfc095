"""Walks a whole tree and checks the assumption of look-ups: that parents describe their children correctly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from stockroom.digest import ObjectDigest
from stockroom.errors import CorruptionError, MalformedRecordError
from stockroom.trees.node import Node
from stockroom.trees.tree import Tree


def check_tree(tree: Tree, seen: set[bytes], *, begun: set[bytes] | None = None) -> Iterator[tuple[ObjectDigest, Node]]:
    """Yield each node not in `seen`, with its digest, parents first; adds every node to `seen`, after all below it.

    A node whose nodes were not all yielded, and taken by a caller that went on, is in `begun` and not in `seen`.
    Without `begun`, a node is added to `seen` before those below it, and not visited again even if that fails half-way.

    Raises `CorruptionError` if a node is missing, damaged, or does not match its parent.
    """
    if tree.root not in seen:
        yield from _walk(tree, tree.root, tree.top, seen=seen, begun=begun)


def _walk(
    tree: Tree, digest: bytes, node: Node, *, seen: set[bytes], begun: set[bytes] | None
) -> Iterator[tuple[ObjectDigest, Node]]:
    (seen if begun is None else begun).add(digest)
    yield ObjectDigest(digest), node
    if node.level:
        digests = node.child_digests
        for index, child in _read_children(tree, node, [i for i, below in enumerate(digests) if below not in seen]):
            if begun is None:
                seen.add(digests[index])
            _check_bounds(node, index, child)
            yield from _walk(tree, digests[index], child, seen=seen, begun=begun)
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
    starts_late = index == 0 or not child.keys.count_up_to(node.keys[index - 1])
    if last != node.keys[index] or not starts_late:
        raise MalformedRecordError(
            f"node {node.child_digests[index].hex()}: expected keys up to {node.keys[index]!r}, found up to {last!r}"
        )
