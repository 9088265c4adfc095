"""Random histories of several branches, merged again and again, against a dict of dicts and the textbook's merge.

Columns with int and str keys, schemas that change, models by leaf, series by step, values; merges back and forth, at
tips and behind them, so that many have several bases. Objects are kept in memory: all else is the product's own.

`STOCKROOM_MERGES` sets how many histories (300), `STOCKROOM_MERGE_SEED` which (0).
"""

from __future__ import annotations

import os
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from stockroom import StockRoom
from stockroom.content.column import ColumnRecord
from stockroom.content.merge.base import read_common_content
from stockroom.content.merge.content import ContentMerge, put_record
from stockroom.content.merge.strategy import make_decide
from stockroom.content.nodes import DictNode, ScalarLeaf
from stockroom.content.snapshot import Snapshot
from stockroom.content.state import STATE_ENTRIES, STATE_TREE, StateRecord, ValueRecord
from stockroom.content.structure import encode_structure
from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import MergeConflictError
from stockroom.refs import list_merge_bases
from stockroom.refs.links import Link
from stockroom.store.entry import EntryKind
from stockroom.testing.memory_nodes import MemoryNodes
from stockroom.trees import NodeCache, Tree, iter_range

HISTORIES = int(os.environ.get("STOCKROOM_MERGES", "300"))
SEED = int(os.environ.get("STOCKROOM_MERGE_SEED", "0"))
SHARDS = 8
CHOICES = (None, "ours", "theirs")
REPOSITORIES = max(4, HISTORIES // 500)

# -- contents as plain values: path -> ("value", v), or (kind, {key: value}); of models the order counts

Item = tuple[str, Any]
Content = dict[str, Item]
Place = tuple[str, Any]

COLUMNS = {
    "int64": ColumnRecord("int64", (), "int", "auto", bytes(32), {}),
    "text": ColumnRecord("str", (None,), "str", "auto", bytes(32), {}),
    "float64": ColumnRecord("float64", (), "int", "auto", bytes(32), {}),
}
LEAF = ScalarLeaf("str")
KINDS_OF_PATH = {
    "data/n": ("int64", "float64"),
    "data/large": ("int64",),
    "data/text": ("text", "int64"),
    "metric/loss": ("float64",),
    "model/net": ("state",),
    "experiment/lr": ("value",),
    "experiment/seed": ("value",),
}


def make_keys(kind: str, path: str) -> list[Any]:
    if path == "data/large":
        return list(range(2000))
    if kind == "state":
        return ["body", "head", "norm", "bias"]
    return [f"k {n}/é" for n in range(6)] if kind == "text" else list(range(-2, 6))


def make_value(kind: str, rng: random.Random) -> Any:
    number = rng.randrange(5)
    if kind in ("text", "state", "value"):
        return f"{number}" * rng.choice([1, 1, 40])
    return float(number) if kind == "float64" else number


def change(rng: random.Random, content: Content) -> Content:
    """The content with a few things added, changed and taken out."""
    changed = dict(content)
    for _ in range(rng.choice([1, 1, 2, 4])):
        path = rng.choice(list(KINDS_OF_PATH))
        kinds = KINDS_OF_PATH[path]
        kind, held = changed.get(path, (None, None))
        if kind is not None and rng.random() < 0.06:
            del changed[path]
        elif kind is None or rng.random() < 0.04:
            kind = rng.choice(kinds)
            empty = OrderedDict() if kind == "state" else {}
            changed[path] = (kind, make_value(kind, rng) if kind == "value" else vary(rng, kind, path, empty))
        elif kind == "value":
            changed[path] = (kind, make_value(kind, rng))
        else:
            changed[path] = (kind, vary(rng, kind, path, held))
    return changed


def vary(rng: random.Random, kind: str, path: str, held: dict[Any, Any]) -> dict[Any, Any]:
    varied = held.copy()
    keys = make_keys(kind, path)
    if path == "data/large" and not held:
        varied = dict.fromkeys((key for key in keys if key % 3), 0)
    for _ in range(rng.choice([1, 2, 5])):
        key = rng.choice(keys)
        if rng.random() < 0.3:
            varied.pop(key, None)
        else:
            varied[key] = make_value(kind, rng)
    return varied


# -- the oracle


def merge_items(
    base: Item | None, ours: Item | None, theirs: Item | None, side: str | None
) -> tuple[Item | None, set[Any]]:
    """What becomes of one path, and the keys in conflict, unless a side decides; None is the path as a whole."""
    if ours == theirs or theirs == base:
        return ours, set()
    if ours == base:
        return theirs, set()
    if ours is None or theirs is None or ours[0] != theirs[0] or ours[0] == "value":
        return (theirs if side == "theirs" else ours), (set() if side else {None})
    before = base[1] if base is not None and base[0] == ours[0] else {}
    merged, conflicts = type(ours[1])(), set()
    for key in dict.fromkeys([*ours[1], *theirs[1]]):
        b, o, t = (part.get(key) for part in (before, ours[1], theirs[1]))
        value = t if o == b or (side == "theirs" and t != b) else o
        if o != b and t not in (b, o) and side is None:
            conflicts.add(key)
        if value is not None:
            merged[key] = value
    return (ours[0], merged), conflicts


def merge_contents(
    base: Content, ours: Content, theirs: Content, side: str | None = None
) -> tuple[Content, set[Place]]:
    merged, conflicts = {}, set()
    for path in base.keys() | ours.keys() | theirs.keys():
        item, keys = merge_items(base.get(path), ours.get(path), theirs.get(path), side)
        conflicts |= {(path, key) for key in keys}
        if item is not None:
            merged[path] = item
    return merged, conflicts


def find_touched(before: Content, after: Content) -> set[Place]:
    """The keys that differ; of a path that came, went, or is of another kind, or a value, None."""
    touched: set[Place] = set()
    for path in before.keys() | after.keys():
        old, new = before.get(path), after.get(path)
        if old is None or new is None or old[0] != new[0] or old[0] == "value":
            touched |= {(path, None)} if old != new else set()
        else:
            keys = old[1].keys() | new[1].keys()
            touched |= {(path, key) for key in keys if old[1].get(key) != new[1].get(key)}
    return touched


def get(content: Content, place: Place) -> Any:
    path, key = place
    item = content.get(path)
    return item if key is None or item is None else item[1].get(key)


def list_places(*contents: Content) -> Iterator[Place]:
    """Every key, where all of these have the path with the same kind of keys, and else the path as a whole."""
    for path in sorted({path for content in contents for path in content}):
        kinds = {content[path][0] if path in content else None for content in contents}
        if len(kinds) > 1 or kinds == {"value"}:
            yield path, None
        else:
            for key in sorted({key for content in contents for key in content[path][1]}, key=str):
                yield path, key


# -- the same contents in the product


class Contents:
    """Writes contents as snapshots and reads snapshots as contents, all in one memory."""

    def __init__(self) -> None:
        self.objects = MemoryNodes()
        self.nodes = NodeCache(self.objects)

    def write(self, content: Content, before: Snapshot | None = None, known: Content | None = None) -> Snapshot:
        snapshot = before or Snapshot.empty(self.nodes)
        old = known or {}
        for path in sorted(content.keys() | old.keys()):
            if content.get(path) == old.get(path):
                continue
            digest = None
            if path in content:
                record = self._make_record(content[path], snapshot, old.get(path), path)
                digest = self.objects.put_object(record.encode())
            snapshot = put_record(snapshot, path, digest)
        return snapshot

    def read(self, snapshot: Snapshot) -> Content:
        content: Content = {}
        for paths, digests in iter_range(snapshot.tree):
            for path, digest in zip(paths, digests, strict=True):
                content[str(path)] = self._read_record(snapshot, snapshot.read_record(ObjectDigest(digest.tobytes())))
        return content

    def _make_record(self, item: Item, snapshot: Snapshot, before: Item | None, path: str) -> Any:
        kind, held = item
        if kind == "value":
            return ValueRecord(LEAF, (held.encode(),))
        if kind == "state":
            top = DictNode("dict", tuple(held), (LEAF,) * len(held), None)
            tree = Tree.build(self.nodes, STATE_TREE, list(held), self._encode(STATE_ENTRIES, held))
            return StateRecord(self.objects.put_object(encode_structure(top)), tree.root, {})
        record = COLUMNS[kind]
        tree, was = Tree.empty(self.nodes, record.tree_format), {}
        found = snapshot.find_digest(path)
        if before is not None and before[0] == kind and found is not None:
            tree, was = snapshot.open_tree(snapshot.read_column(found)), before[1]
        puts = {key: value for key, value in held.items() if was.get(key) != value}
        gone = [key for key in was if key not in held]
        return record.replace_root(tree.edit(list(puts), self._encode(record.entry_format, puts), deletes=gone).root)

    def _encode(self, entry_format: Any, held: dict[Any, Any]) -> np.ndarray:
        entries = []
        for value in held.values():
            data = value.encode() if isinstance(value, str) else np.array(value).tobytes()
            if len(data) <= 32:
                entries.append(entry_format.encode(EntryKind.INLINE, (len(data),), data))
            else:  # stands for the digest of a chunk that says the same
                entries.append(entry_format.encode(EntryKind.CHUNK, (len(data),), data[:1] * 32))
        return np.frombuffer(b"".join(entries), np.uint8).reshape(len(entries), entry_format.width)

    def _read_record(self, snapshot: Snapshot, record: Any) -> Item:
        if isinstance(record, ValueRecord):
            return "value", record.payloads[0].decode()
        held = {}
        for keys, values in iter_range(snapshot.open_tree(record)):
            for key, value in zip(keys, values, strict=True):
                entry = record.entry_format.decode(value.tobytes())
                held[key if isinstance(key, str) else int(key)] = self._decode(record, entry)
        if isinstance(record, StateRecord):
            assert set(snapshot.read_structure(record).leaves) == set(held)
            return "state", OrderedDict((leaf, held[leaf]) for leaf in snapshot.read_structure(record).leaves)
        return next(kind for kind, known in COLUMNS.items() if known.schema == record.schema), held

    def _decode(self, record: Any, entry: Any) -> Any:
        if isinstance(record, StateRecord) or record.is_text:
            text = entry.payload.decode()
            return text if entry.kind is EntryKind.INLINE else text[:1] * entry.nbytes
        return np.frombuffer(entry.payload, record.dtype)[0].item()


@dataclass
class Commit:
    """One commit of both: what it holds, and what the product has of it."""

    name: CommitId
    parents: tuple[CommitId, ...]
    content: Content
    snapshot: Snapshot
    generation: int
    touched: set[Place]


@dataclass
class History:
    """A graph of commits that answers as a `RefStore` does where merge bases are looked for."""

    contents: Contents = field(default_factory=Contents)
    commits: dict[CommitId, Commit] = field(default_factory=dict)

    def view_links(self, fn: Callable[[Callable[[CommitId], Link]], Any]) -> Any:
        return fn(lambda name: (self.commits[name].generation, self.commits[name].parents))

    def add(self, parents: tuple[CommitId, ...], content: Content, snapshot: Snapshot, touched: set[Place]) -> CommitId:
        name = CommitId(len(self.commits).to_bytes(32, "big"))
        generation = 1 + max((self.commits[parent].generation for parent in parents), default=0)
        self.commits[name] = Commit(name, parents, content, snapshot, generation, touched)
        return name

    def commit(self, parent: CommitId, content: Content) -> CommitId:
        before = self.commits[parent]
        snapshot = self.contents.write(content, before.snapshot, before.content)
        return self.add((parent,), content, snapshot, find_touched(before.content, content))

    def open(self, name: CommitId | None) -> Snapshot:
        return Snapshot.empty(self.contents.nodes) if name is None else self.commits[name].snapshot

    def list_ancestors(self, name: CommitId) -> set[CommitId]:
        found: set[CommitId] = set()
        waiting = [name]
        while waiting:
            at = waiting.pop()
            if at not in found:
                found.add(at)
                waiting += self.commits[at].parents
        return found

    def find_bases(self, ours: CommitId, theirs: CommitId) -> list[CommitId]:
        """By looking at every common ancestor."""
        common = self.list_ancestors(ours) & self.list_ancestors(theirs)
        behind = {other for name in common for other in self.list_ancestors(name) - {name}}
        return sorted(common - behind)


@dataclass
class Walk:
    """One random history as it is made; `tally` counts what was met."""

    rng: random.Random
    tally: Counter[str]
    history: History = field(default_factory=History)
    branches: list[CommitId] = field(default_factory=list)

    def run(self) -> None:
        start = change(self.rng, change(self.rng, {}))
        root = self.history.add((), start, self.history.contents.write(start), set())
        self.branches = [root] * self.rng.choice([2, 2, 3])
        for _ in range(self.rng.randrange(6, 18)):
            mine, other = self.rng.sample(range(len(self.branches)), 2)
            step = self.rng.random()
            if step < 0.55:
                tip = self.branches[mine]
                self.branches[mine] = self.history.commit(tip, change(self.rng, self.history.commits[tip].content))
            elif step < 0.85:
                theirs = self.branches[other]
                while self.rng.random() < 0.3 and self.history.commits[theirs].parents:
                    theirs = self.history.commits[theirs].parents[0]
                self.merge(mine, theirs)
            else:  # each merges the other as it was: from here on there are two bases
                before = self.branches[mine]
                self.merge(mine, self.branches[other])
                self.merge(other, before)

    def merge(self, mine: int, theirs: CommitId) -> None:
        ours = self.branches[mine]
        bases = self.history.find_bases(ours, theirs)
        assert list_merge_bases(self.history, ours, theirs) == bases  # type: ignore[arg-type]
        if bases == [theirs] or bases == [ours]:
            self.branches[mine] = ours if bases == [theirs] else theirs
            return
        choice = self.rng.choice(CHOICES)
        merged = self.merge_in_product(ours, theirs, bases, choice)
        check = self.check_one_base if len(bases) == 1 else self.check_several_bases
        check(ours, theirs, bases, choice, merged)
        self.tally[f"{'1 base' if len(bases) == 1 else '2 bases'}, {choice}"] += 1
        self.tally["conflicts"] += len(merged.conflicts)
        if not merged.conflicts:
            content = self.history.contents.read(merged.snapshot)
            decided = self.merge_in_product(ours, theirs, bases, None).conflicts if choice else ()
            touched = {(conflict.path, conflict.key) for conflict in decided}
            self.branches[mine] = self.history.add((ours, theirs), content, merged.snapshot, touched)

    def merge_in_product(self, ours: CommitId, theirs: CommitId, bases: list[CommitId], choice: str | None) -> Any:
        history, objects = self.history, self.history.contents.objects
        common = read_common_content(history, history.open, objects, bases)  # type: ignore[arg-type]
        merge = ContentMerge(
            common.snapshot,
            history.open(ours),
            history.open(theirs),
            objects,  # type: ignore[arg-type]
            make_decide(choice),
            disputed=common.disputed,
        )
        return merge.run()

    def check_one_base(
        self, ours: CommitId, theirs: CommitId, bases: list[CommitId], choice: str | None, merged: Any
    ) -> None:
        sides = [self.history.commits[name].content for name in (bases[0], ours, theirs)]
        content, conflicts = merge_contents(*sides, side=choice)
        assert {(conflict.path, conflict.key) for conflict in merged.conflicts} == conflicts
        assert self.history.contents.read(merged.snapshot) == content
        self.check_roots(content, merged.snapshot)

    def check_several_bases(
        self, ours: CommitId, theirs: CommitId, bases: list[CommitId], choice: str | None, merged: Any
    ) -> None:
        """Where all bases agree it is the textbook's merge; elsewhere a conflict, or what one of the sides has.

        What only one side has touched since, by a commit of its own or by deciding a conflict, is never overruled; and
        what the bases themselves are in conflict about is one again, unless both sides have the same.
        """
        before = [self.history.commits[name].content for name in bases]
        mine, yours = (self.history.commits[name].content for name in (ours, theirs))
        by_us, by_them = self.list_touched(ours, theirs), self.list_touched(theirs, ours)
        content = self.history.contents.read(merged.snapshot)
        conflicts = {(conflict.path, conflict.key) for conflict in merged.conflicts}
        if choice is None:
            for path, key in self.list_disputed(bases):
                places = {(path, key), (path, None)}
                assert places & conflicts or not places & find_touched(mine, yours)
        for place in list_places(*before, mine, yours, content):
            path, key = place
            b = [get(base, place) for base in before]
            o, t, found = (get(side, place) for side in (mine, yours, content))
            if {place, (path, None)} & conflicts:
                assert found == o
                assert o != t or place not in conflicts
                continue
            if key is None and any(other == path for other, _ in conflicts):
                assert o != t  # part of what is there is open
                continue
            assert o != t or found == o
            if key is not None:
                assert found in (o, t)
            is_ours, is_theirs = (bool({place, (path, None)} & touched) for touched in (by_us, by_them))
            if choice is None and key is not None:
                if all(value == b[0] for value in b):
                    assert found == (t if o == b[0] else o)
                    assert b[0] in (o, t) or o == t
                assert found == o or not is_ours or is_theirs
                assert found == t or not is_theirs or is_ours

    def list_disputed(self, bases: list[CommitId]) -> set[Place]:
        """What two bases that have one of their own are in conflict about, key by key."""
        behind = self.history.find_bases(*bases) if len(bases) == 2 else []
        if len(behind) != 1:
            return set()
        _, conflicts = merge_contents(*(self.history.commits[name].content for name in [*behind, *bases]))
        return {place for place in conflicts if place[1] is not None}

    def list_touched(self, mine: CommitId, other: CommitId) -> set[Place]:
        own = self.history.list_ancestors(mine) - self.history.list_ancestors(other)
        return {place for name in own for place in self.history.commits[name].touched}

    def check_roots(self, content: Content, snapshot: Snapshot) -> None:
        """Equal content has equal trees, whatever history it came by."""
        for path in self.rng.sample(sorted(content), k=min(2, len(content))):
            digest = snapshot.find_digest(path)
            assert digest is not None
            record = snapshot.read_record(digest)
            if isinstance(record, ColumnRecord):
                anew = self.history.contents.write({path: content[path]})
                assert anew.find_column(path) == record


@pytest.mark.parametrize("shard", range(SHARDS))
def test_random_histories_merge_as_the_textbook_says(shard: int) -> None:
    tally: Counter[str] = Counter()
    for number in range(shard, HISTORIES, SHARDS):
        seed = SEED * 1_000_000 + number
        try:
            Walk(random.Random(seed), tally).run()
        except Exception as error:
            raise AssertionError(f"history {seed}: {error!r}") from error
    print(dict(sorted(tally.items())))
    assert HISTORIES < 300 or all(tally[f"{bases}, {choice}"] for bases in ("1 base", "2 bases") for choice in CHOICES)


def write_in_repository(writer: StockRoom, content: Content) -> None:
    for path, (kind, held) in content.items():
        shelf, _, name = path.partition("/")
        if shelf == "data":
            if name in writer.data:
                del writer.data[name]
            record = COLUMNS[kind]
            shape = () if record.is_text else record.shape
            writer.data.create(name, dtype=record.dtype, shape=shape, keys=record.key_type).update(held)
        elif shelf == "experiment":
            writer.experiment[name] = held
        elif shelf == "model":
            writer.model[name] = dict(held)
    for shelf, mapping in (("data", writer.data), ("experiment", writer.experiment), ("model", writer.model)):
        for name in list(mapping):
            if f"{shelf}/{name}" not in content:
                del mapping[name]


def read_repository(stock: StockRoom) -> Content:
    content: Content = {}
    for name, column in stock.data.items():
        kind = {"int64": "int64", "float64": "float64", "str": "text"}[str(column.dtype)]
        values = {key: value if isinstance(value, str) else value.item() for key, value in column.items()}
        content[f"data/{name}"] = (kind, values)
    content |= {f"model/{name}": ("state", OrderedDict(state.load())) for name, state in stock.model.items()}
    return content | {f"experiment/{name}": ("value", value) for name, value in stock.experiment.items()}


@pytest.mark.parametrize("number", range(REPOSITORIES))
def test_the_same_holds_in_a_repository(stock: StockRoom, number: int) -> None:
    """Two branches of a real repository: textbook merges where there is one base; no conflict changes anything."""
    rng = random.Random(SEED * 1_000_000 + number)
    contents: dict[str, Content] = {}

    def commit(content: Content) -> None:
        kept = {path: item for path, item in content.items() if path not in ("metric/loss", "data/large")}
        with stock.enable_write("change") as writer:
            write_in_repository(writer, kept)
        contents[stock.commit_id or ""] = read_repository(stock)
        assert contents[stock.commit_id or ""] == kept

    commit(change(rng, {"data/n": ("int64", {1: 1})}))
    stock.create_branch("dev")
    for _ in range(8):
        stock.checkout(rng.choice(["main", "dev"]))
        commit(change(rng, contents[stock.commit_id or ""]))
        ours, other = stock.commit_id or "", "dev" if stock.branch == "main" else "main"
        theirs = stock.branches[other]
        refs = stock._repository.refs
        bases = list_merge_bases(refs, CommitId(bytes.fromhex(ours)), CommitId(bytes.fromhex(theirs)))
        expected, conflicts = merge_contents(contents[bases[0].hex()], contents[ours], contents[theirs])
        found: set[Place] = set()
        try:
            stock.merge(other)
        except MergeConflictError as error:
            found = {(conflict.path, conflict.key) for conflict in error.conflicts}  # type: ignore[attr-defined]
        contents[stock.commit_id or ""] = read_repository(stock)
        assert stock.status().clean
        if found:
            assert stock.commit_id == ours
        if len(bases) == 1:
            assert found == conflicts
            assert found or contents[stock.commit_id or ""] == expected
    assert stock.verify().ok
