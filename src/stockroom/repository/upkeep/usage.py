"""The disk usage of columns, models, branches and commits. Reads metadata; packs may be absent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stockroom.content.snapshot import Record, Snapshot
from stockroom.content.state import ValueRecord
from stockroom.content.walk import Walk
from stockroom.digest import CommitId, ObjectDigest
from stockroom.refs import iter_history, sort_parents_first
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.chunk_owners import Ledger, Tally
from stockroom.store.entry import EntryFormat, EntryKind
from stockroom.trees import Node, Tree, iter_range

_SHARED: Final = 0
"""The part for data that several branches share."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one thing in a commit, or of all of it.

    Attributes:
        nbytes: raw bytes of all its samples or leaves.
        inline_nbytes: the bytes among them that are inline in the metadata.
        found: the chunks and metadata reachable from it, equal ones counted once.
        own_nbytes: bytes on disk that nothing else in the commit refers to.
    """

    nbytes: int
    inline_nbytes: int
    found: Tally
    own_nbytes: int

    @property
    def saved_by_dedupe_nbytes(self) -> int:
        """Raw bytes saved by storing equal chunks once."""
        return self.nbytes - self.inline_nbytes - self.found.chunk_nbytes

    @property
    def saved_by_codecs_nbytes(self) -> int:
        """Bytes that codecs save on the stored chunks; negative if packs are larger than their content."""
        return self.found.chunk_nbytes - self.found.packed_nbytes


@dataclass(frozen=True, slots=True)
class BranchCost:
    """The cost of a branch beyond the others: commits and bytes on disk that are reachable only from it."""

    commits: int
    own: Tally


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of a commit and of the whole history.

    Attributes:
        items: path, such as `data/image`, -> cost.
        total: the whole commit.
        branches: name -> cost beyond the other branches and tags.
        commits: how many commits are reachable from branches and tags.
        copies_nbytes: raw bytes if each of those commits were a separate copy.
        history: the chunks and metadata reachable from them, each counted once.
    """

    items: Mapping[str, Cost]
    total: Cost
    branches: Mapping[str, BranchCost]
    commits: int
    copies_nbytes: int
    history: Tally


def measure_usage(repository: Repository, snapshot: Snapshot) -> Usage:
    """Return the usage of a snapshot, and of everything reachable from branches and tags."""
    items, total = measure_items(repository, snapshot)
    refs = repository.refs
    tips = {f"branch/{name}": tip for name, tip in refs.branches().items()}
    tips |= {f"tag/{name}": tip for name, tip in refs.tags().items()}
    numbers = {name: number for number, name in enumerate(tips, start=1)}
    parents = _read_history(repository, tips.values())
    owners = _number_owners(parents, {numbers[name]: tip for name, tip in tips.items()})
    own, history = _measure_parts(repository, owners)
    commits = Counter(owners.values())
    branches = {
        name.removeprefix("branch/"): BranchCost(commits[number], own[number])
        for name, number in numbers.items()
        if name.startswith("branch/")
    }
    sizes = RawSizes(repository)
    copies = sum(sizes.measure_commit(each) for each in owners)
    return Usage(items, total, branches, len(owners), copies, history)


def measure_items(repository: Repository, snapshot: Snapshot) -> tuple[dict[str, Cost], Cost]:
    """Return the cost of each thing in a snapshot, by path, and of all of it."""
    ledger, sizes = Ledger(repository), RawSizes(repository)
    paths = _list_records(snapshot)
    for part, (_, digest) in enumerate(paths):
        ledger.open_part(part)
        walk = _walk_into(ledger, repository)
        walk.add_record(digest)
        walk.flush()
    own, raw = ledger.measure_own(), [sizes.measure_record(snapshot, digest) for _, digest in paths]
    costs = {
        path: Cost(*raw[part], ledger.all[part], min(own[part].stored_nbytes, ledger.all[part].stored_nbytes))
        for part, (path, _) in enumerate(paths)
    }
    found = ledger.measure_all()
    total = Cost(sum(n for n, _ in raw), sum(inline for _, inline in raw), found, found.stored_nbytes)
    return costs, total


def measure_commits(repository: Repository, start: CommitId) -> Iterator[tuple[CommitId, Tally]]:
    """Yield each commit reachable from `start`, parents first, with the tally it adds to those before it."""
    ledger = Ledger(repository)
    walk = _walk_into(ledger, repository)
    for part, commit in enumerate(sort_parents_first(_read_history(repository, [start]))):
        ledger.open_part(part)
        walk.add_content(repository.refs.get_commit(commit).tree_digest)
        walk.flush()
        yield commit, ledger.new[part]


def _walk_into(ledger: Ledger, repository: Repository, after: Walk | None = None) -> Walk:
    """Return a walk that enters everything it reaches into a ledger."""
    return Walk(repository.nodes, on_objects=ledger.add_objects, on_chunks=ledger.add_chunks, after=after)


def _read_history(repository: Repository, starts: Iterable[CommitId]) -> dict[CommitId, tuple[CommitId, ...]]:
    found: dict[CommitId, tuple[CommitId, ...]] = {}
    for commit, record in iter_history(repository.refs, starts, skip=found):
        found[commit] = record.parent_ids
    return found


class RawSizes:
    """Raw bytes of the content of records; each node is measured once, however many commits share it."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._records: dict[bytes, tuple[int, int]] = {}
        self._nodes: dict[tuple[EntryKind | None, int, int, bytes], tuple[int, int]] = {}
        self._contents: dict[bytes, int] = {}
        """The sizes of root trees and of the nodes below them."""

    def measure_commit(self, commit: CommitId) -> int:
        """Return the raw bytes of all content of a commit."""
        snapshot = Snapshot(self._repository.nodes, self._repository.refs.get_commit(commit).tree_digest)
        if snapshot.root not in self._contents:
            self._contents[snapshot.root] = self._measure_content(snapshot, snapshot.tree.top)
        return self._contents[snapshot.root]

    def _measure_content(self, snapshot: Snapshot, node: Node) -> int:
        """Return the raw bytes below a node of a root tree; commits share most nodes."""
        if not node.level:
            return sum(self.measure_record(snapshot, ObjectDigest(value.tobytes()))[0] for value in node.values)
        for index, digest in enumerate(node.child_digests):
            if digest not in self._contents:
                child = snapshot.nodes.read_child(node, index)
                self._contents[digest] = self._measure_content(snapshot, child)
        return sum(self._contents[digest] for digest in node.child_digests)

    def measure_record(self, snapshot: Snapshot, digest: ObjectDigest) -> tuple[int, int]:
        """Return the raw bytes of the content of a record, and how many of them are inline in metadata."""
        if digest not in self._records:
            self._records[digest] = self._measure(snapshot, snapshot.read_record(digest))
        return self._records[digest]

    def _measure(self, snapshot: Snapshot, record: Record) -> tuple[int, int]:
        if isinstance(record, ValueRecord):
            nbytes = sum(map(len, record.payloads))
            return nbytes, nbytes
        tree, entries = snapshot.open_tree(record), record.entry_format
        if entries.item_nbytes is None:
            return self._measure_node(tree, tree.top, tree.root, entries)
        nbytes = entries.item_nbytes * tree.count
        return nbytes, nbytes if entries.kind is EntryKind.INLINE else 0

    def _measure_node(self, tree: Tree, node: Node, digest: bytes, entries: EntryFormat) -> tuple[int, int]:
        key = _read_as(entries, digest)
        known = self._nodes.get(key)
        if known is None:
            known = self._nodes[key] = self._add_up(tree, node, entries)
        return known

    def _add_up(self, tree: Tree, node: Node, entries: EntryFormat) -> tuple[int, int]:
        if not node.level:
            sizes, kinds = entries.measure(node.values), entries.decode_kinds(node.values)
            return int(sizes.sum()), int(sizes[kinds == EntryKind.INLINE].sum())
        nbytes = inline = 0
        for index, digest in enumerate(node.child_digests):
            known = self._nodes.get(_read_as(entries, digest))
            below = known or self._measure_node(tree, tree.nodes.read_child(node, index), digest, entries)
            nbytes, inline = nbytes + below[0], inline + below[1]
        return nbytes, inline


def _read_as(entries: EntryFormat, digest: bytes) -> tuple[EntryKind | None, int, int, bytes]:
    """Return a key for the measure of a node: the node, and how its values are measured."""
    return entries.kind, entries.width, entries.itemsize, digest


def _list_records(snapshot: Snapshot) -> list[tuple[str, ObjectDigest]]:
    return [
        (str(path), ObjectDigest(digest.tobytes()))
        for paths, digests in iter_range(snapshot.tree)
        for path, digest in zip(paths, digests, strict=True)
    ]


def _number_owners(parents: Mapping[CommitId, Sequence[CommitId]], tips: Mapping[int, CommitId]) -> dict[CommitId, int]:
    """Return each commit with the number, from 1, of the only tip that reaches it, or `_SHARED`."""
    owners: dict[CommitId, int] = {}

    def add(commit: CommitId, number: int) -> None:
        owners[commit] = number if owners.get(commit, number) == number else _SHARED

    for number, tip in tips.items():
        add(tip, number)
    for commit in reversed(list(sort_parents_first(parents))):  # children first
        for parent in parents[commit]:
            if parent in parents:
                add(parent, owners[commit])
    return owners


def _measure_parts(repository: Repository, owners: Mapping[CommitId, int]) -> tuple[Mapping[int, Tally], Tally]:
    """Return the tally of the things that only each part's commits refer to, and the tally of everything."""
    parts: defaultdict[int, list[CommitId]] = defaultdict(list)
    for commit, owner in owners.items():
        parts[owner].append(commit)
    ledger = Ledger(repository)
    shared = _walk_into(ledger, repository)
    for part in sorted(parts):
        walk = shared if part == _SHARED else _walk_into(ledger, repository, after=shared)
        ledger.open_part(part)
        for commit in parts[part]:
            walk.add_content(repository.refs.get_commit(commit).tree_digest)
        walk.flush()
    return ledger.measure_own(), ledger.measure_all()
