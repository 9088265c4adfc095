"""Merging, which must cost what changed whatever the size of the data; and finding where two lines of history part."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from materials import Materials, write_durably
from row import SECONDS, Row
from stockroom import StockRoom
from stockroom.digest import CommitId, ObjectDigest
from stockroom.kv import Environment
from stockroom.refs import DATABASES, CommitRecord, ObjectStore, RefChange, RefStore, list_merge_bases

CHANGES = 100
ROUNDS = 15
COMMITS = 20_000
LINES = 4
MERGE_EVERY = 5
APART = 400


def merge_branches(materials: Materials) -> Iterator[Row]:
    """A merge of two branches, 100 changes each, by a handle that has read nothing yet; and the nodes it touches."""
    for count in materials.sizes.histories:
        path = materials.open_history(count).path
        _make_branches(materials, path, count)
        work = f"merge of {CHANGES} and {CHANGES} changes in {count:,}"
        pair = materials.stopwatch.compare(
            lambda _: write_durably(materials.folder / "one-small-file"),
            _Merges(path),
            rounds=ROUNDS,
            after=_take_back,
        )
        yield Row(work, SECONDS, pair.product.median_s, pair.limit.median_s, at_most=100e-3, rounds=ROUNDS)
        yield Row(f"{work}: nodes read and written", "nodes", _count_nodes(path), at_most=8 * CHANGES)


def merge_bases(materials: Materials) -> Iterator[Row]:
    """The merge base in a history of 20,000 commits with merges: of branches a few hundred apart, and at worst."""
    folder = materials.folder / "long-history"
    folder.mkdir()
    with Environment.open(folder, databases=DATABASES, metasync=False) as env:
        refs = RefStore(env)
        names = _make_long_history(refs, ObjectStore(env))
        near, far = names[-1], names[-1 - APART]
        for work, ours, theirs in (
            (f"merge base, {APART} commits behind a tip of {COMMITS:,}", near, _add(refs, [far])),
            (f"merge base, all of {COMMITS:,} commits walked", near, _add(refs, [names[0]])),
        ):
            times = materials.stopwatch.repeat(
                lambda _, ours=ours, theirs=theirs: _find_base(refs, ours, theirs),  # type: ignore[misc]
                rounds=ROUNDS,
            )
            yield Row(work, SECONDS, times.median_s, at_most=50e-3, rounds=ROUNDS)


class _Merges:
    """Merges `right` into `left`, each time by a handle of its own; gives that handle, to take the merge back with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = StockRoom(path)
        self._opened.checkout("left")

    def __call__(self, _: int) -> StockRoom:
        stock = StockRoom(self._path)
        assert stock.merge("right").outcome == "merged"
        return stock


def _take_back(stock: object) -> None:
    if isinstance(stock, StockRoom):
        stock.undo()
        stock.close()


def _make_branches(materials: Materials, path: Path, count: int) -> None:
    keys = materials.random.choice(count, 2 * CHANGES, replace=False).tolist()
    with StockRoom(path) as stock:
        for branch, some in (("left", keys[:CHANGES]), ("right", keys[CHANGES:])):
            stock.checkout("main")
            stock.checkout(branch, create=True)
            with stock.enable_write(f"Change {CHANGES} samples"):
                column = stock.data["sample"]
                for key in some:
                    column[key] = materials.make_tiny()


def _count_nodes(path: Path) -> int:
    """Objects read from the store and put into it by one merge, by a handle that has read nothing yet."""
    touched: set[bytes] = set()
    get, get_many, put = ObjectStore.get_object, ObjectStore.get_objects, ObjectStore.put_object

    def count_get(self: ObjectStore, digest: ObjectDigest) -> bytes:
        touched.add(digest)
        return get(self, digest)

    def count_get_many(self: ObjectStore, digests: Sequence[ObjectDigest]) -> list[bytes]:
        touched.update(digests)
        return get_many(self, digests)

    def count_put(self: ObjectStore, data: bytes) -> ObjectDigest:
        digest = put(self, data)
        touched.add(digest)
        return digest

    with StockRoom(path) as stock:
        ObjectStore.get_object, ObjectStore.get_objects, ObjectStore.put_object = count_get, count_get_many, count_put
        try:
            stock.merge("right")
        finally:
            ObjectStore.get_object, ObjectStore.get_objects, ObjectStore.put_object = get, get_many, put
        left, right = (_read_samples(path, ref) for ref in ("HEAD^1", "HEAD^2"))
        assert (_read_samples(path, "HEAD") == np.where(left == _read_samples(path, "main"), right, left)).all()
        stock.undo()
        stock.checkout("main")
    return len(touched)


def _read_samples(path: Path, ref: str) -> np.ndarray:
    with StockRoom(path, ref=None if ref == "HEAD" else ref) as stock:
        samples: np.ndarray = stock.data["sample"].take(np.arange(len(stock.data["sample"])))
        return samples


def _make_long_history(refs: RefStore, objects: ObjectStore) -> list[CommitId]:
    """Some lines that fork, go on side by side and merge one another now and then; the last commit merges them all."""
    rng = random.Random(0)
    tree = objects.put_object(b"content")
    objects.flush()
    records = [_make_record(tree, [], 0)]
    tips = [records[0].commit_id] * LINES
    for number in range(1, COMMITS):
        line, other = rng.randrange(LINES), rng.randrange(LINES)
        merges = number % MERGE_EVERY == 0 and tips[other] != tips[line]
        records.append(_make_record(tree, [tips[line], tips[other]] if merges else [tips[line]], number))
        tips[line] = records[-1].commit_id
    records.append(_make_record(tree, list(dict.fromkeys(tips)), COMMITS))
    for start in range(0, len(records), 2000):
        refs.apply(RefChange(kind="bench", commits=tuple(records[start : start + 2000])))
    return [record.commit_id for record in records]


def _add(refs: RefStore, parents: Sequence[CommitId]) -> CommitId:
    record = _make_record(refs.get_commit(parents[0]).tree, parents, -1)
    refs.apply(RefChange(kind="bench", commits=(record,)))
    return record.commit_id


def _make_record(tree: bytes, parents: Sequence[CommitId], number: int) -> CommitRecord:
    return CommitRecord(
        tree=tree,
        parents=tuple(parents),
        author="Bench",
        email="bench@example.org",
        time_ns=number,
        offset_minutes=0,
        message=f"commit {number}",
        metadata={},
    )


def _find_base(refs: RefStore, ours: CommitId, theirs: CommitId) -> None:
    assert list_merge_bases(refs, ours, theirs) == list(refs.get_commit(theirs).parent_ids)
