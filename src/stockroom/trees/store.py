"""Storage of nodes: the protocol of the object store, and a cache of decoded nodes in front of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol, final, runtime_checkable

from stockroom.digest import ObjectDigest
from stockroom.errors import MalformedRecordError
from stockroom.trees.node import Node, child_counts, child_digest, child_digests, decode_node

DEFAULT_CAPACITY = 1024  # nodes, about 16 KiB each


@runtime_checkable
class NodeStore(Protocol):
    """Objects by digest. It verifies every object it reads, and may compress objects."""

    def get_object(self, digest: ObjectDigest) -> bytes:
        """Return the bytes stored under `digest`; raises if there are none."""
        ...

    def get_objects(self, digests: Sequence[ObjectDigest]) -> list[bytes]:
        """Return the bytes stored under each of `digests`, in their order."""
        ...

    def put_object(self, data: bytes) -> ObjectDigest:
        """Store `data` and return its digest; storing it again changes nothing."""
        ...


@final
class NodeCache:
    """A node store that caches recently used nodes decoded; itself a `NodeStore`.

    Threads may share one without a lock, so no fork can leave one locked: each step on the map is one call into C, and
    losing a race only costs decoding a node twice.
    """

    __slots__ = ("_capacity", "_nodes", "_store")

    def __init__(self, store: NodeStore, *, capacity: int = DEFAULT_CAPACITY, sharing: NodeCache | None = None) -> None:
        """Put a cache in front of `store`, or share the decoded nodes of another, which are equal by digest."""
        self._store = store
        self._capacity = capacity
        self._nodes: OrderedDict[bytes, Node | bytes] = OrderedDict() if sharing is None else sharing._nodes

    def get_object(self, digest: ObjectDigest) -> bytes:
        """Return the bytes stored under `digest`, from the store itself."""
        return self._store.get_object(digest)

    def get_objects(self, digests: Sequence[ObjectDigest]) -> list[bytes]:
        """Return the bytes stored under each of `digests`, from the store itself."""
        return self._store.get_objects(digests)

    def put_object(self, data: bytes) -> ObjectDigest:
        """Store `data` in the store itself and return its digest."""
        return self._store.put_object(data)

    def read(self, digest: bytes) -> Node:
        """Return the node stored under `digest`; raises `MalformedRecordError` if the bytes are not a node."""
        node = self._cached(digest)
        return node if node is not None else self._keep(digest, self._store.get_object(ObjectDigest(digest)))

    def read_child(self, parent: Node, index: int) -> Node:
        """Return the child at `index`; raises `MalformedRecordError` if it does not match its parent."""
        digest = child_digest(parent.values[index])
        child = self.read(digest)
        if index not in parent.checked_children:
            _check_child(child, parent, index, int(child_counts(parent.values[index : index + 1])[0]))
        return child

    def read_children(self, parent: Node, indices: Iterable[int]) -> list[Node]:
        """Return the children at `indices`, as `read_child`; one request to the store for those not yet decoded."""
        chosen = list(indices)
        values = parent.values[chosen]
        digests, counts = child_digests(values), child_counts(values).tolist()
        nodes = [self._cached(digest) for digest in digests]
        absent = [ObjectDigest(digest) for digest, node in zip(digests, nodes, strict=True) if node is None]
        fetched = iter(self._store.get_objects(absent) if absent else [])
        children = []
        for index, count, digest, node in zip(chosen, counts, digests, nodes, strict=True):
            child = self._keep(digest, next(fetched)) if node is None else node
            _check_child(child, parent, index, count)
            children.append(child)
        return children

    def write(self, node: Node) -> ObjectDigest:
        """Store `node` and return its digest. Its first reader parses it back from the bytes, which are cached."""
        data = node.encode()
        digest = self._store.put_object(data)
        self._add(digest, data)
        return digest

    def _cached(self, digest: bytes) -> Node | None:
        node = self._nodes.get(digest)
        if node is None:
            return None
        if isinstance(node, bytes):
            node = self._keep(digest, node)
        try:
            self._nodes.move_to_end(digest)
        except KeyError:  # dropped by another thread
            self._nodes[digest] = node
        return node

    def _keep(self, digest: bytes, data: bytes) -> Node:
        node = decode_node(data)
        self._add(digest, node)
        return node

    def _add(self, digest: bytes, node: Node | bytes) -> None:
        self._nodes[digest] = node
        while len(self._nodes) > self._capacity:
            try:
                self._nodes.popitem(last=False)
            except KeyError:  # emptied by another thread
                break


def cached(store: NodeStore) -> NodeCache:
    """Return `store` with a cache of decoded nodes; `store` itself if it already is one."""
    return store if isinstance(store, NodeCache) else NodeCache(store)


def _check_child(child: Node, parent: Node, index: int, count: int) -> None:
    if child.level + 1 != parent.level or child.format is not parent.format or child.count != count:
        raise MalformedRecordError(
            f"node: expected a child of level {parent.level - 1} with {count} keys, {parent.format}; "
            f"found level {child.level} with {child.count} keys, {child.format}"
        )
    parent.checked_children.add(index)
