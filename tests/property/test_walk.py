"""What gc keeps, fsck checks, du counts and push sends: one set of commits, objects and chunks, whatever was written.

The reference is a walk of its own, written from docs/format.md on the golden tests' decoders: it shares no code with
`src/`, skips nothing and stops nowhere. Random histories hold every kind of record, entry and root.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.golden import format_packs as packs
from tests.golden import format_records as records
from tests.golden import format_trees as trees
from tests.golden.format_reader import read_lmdb

from stockroom import ConflictError, InvalidInputError, NotFoundError, NothingToCommitError, StockRoom
from stockroom.digest import CommitId
from stockroom.remotes.push_plan import plan_push
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.gc import plan_gc
from stockroom.repository.upkeep.usage import measure_usage
from stockroom.repository.upkeep.verify import VerifyScope, verify_repository

WRITES = ["fixed", "ragged", "text", "digests", "tall", "edit", "delete", "model", "experiment", "large"]
MOVES = ["branch", "main", "drop branch", "tag", "merge", "undo", "abandon", "push"]
ENDS = ["stage", "session", "unfinished merge", "unfinished pick", "drop branch", "detach", "clone", "nothing"]


REFUSALS = (ConflictError, InvalidInputError, NotFoundError, NothingToCommitError)


def steps(names, **sizes):
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 3)), **sizes)


HISTORIES = st.tuples(
    steps(WRITES, min_size=1, max_size=3),
    steps(WRITES + MOVES, min_size=2, max_size=10),
    steps(ENDS, max_size=3, unique_by=lambda step: step[0]),
).map(lambda parts: [step for part in parts for step in part])
EVERYTHING = [*((name, 1) for name in WRITES), ("branch", 1), *((name, 2) for name in WRITES if name != "edit")]
EVERYTHING += [("tag", 1), ("main", 0), ("edit", 2), ("merge", 1), ("push", 0), ("undo", 0), ("clone", 1)]
EVERYTHING += [("branch", 1), ("edit", 3), ("main", 0), ("session", 1), ("unfinished merge", 1), ("drop branch", 1)]


def rows(n: int, count: int = 6) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (count, 100), np.uint8)


class World:
    """A repository in which steps are taken; what cannot be done as things stand is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with StockRoom.init(path) as stock, stock.enable_write("first"):
            stock.data["base"] = rows(0)

    def step(self, what: str, n: int) -> None:
        with StockRoom(self.path) as stock:
            if what not in WRITES:
                with suppress(*REFUSALS):
                    getattr(self, f"do_{what.replace(' ', '_')}")(stock, n)
                return
            with suppress(NotFoundError, NothingToCommitError), stock.enable_write(f"{what} {n}"):
                self.write(stock, what, n)

    def write(self, to: StockRoom, what: str, n: int) -> None:
        getattr(self, f"write_{what}")(to, n)

    def write_fixed(self, to: StockRoom, n: int) -> None:
        to.data["images"] = rows(n)
        to.data["labels"] = np.arange(n * 3, dtype=np.int64)
        to.data["points"] = rows(n, 4)[:, :32].view(np.float32)  # just inline
        to.data["wide"] = rows(n, 4)[:, :36].view(np.float32)

    def write_ragged(self, to: StockRoom, n: int) -> None:
        to.data["ragged"] = [rows(n)[row, : 5 + 12 * row] for row in range(6)]  # inline and chunks
        grid = to.data["grid"] if "grid" in to.data else to.data.create("grid", dtype="int16", shape=(None, 3))
        grid[n] = np.full((n * 7, 3), n, np.int16)

    def write_text(self, to: StockRoom, n: int) -> None:
        to.data["text"] = [f"short {n}", f"long {n} " * 20, "", "é" * n]
        to.data["blobs"] = {f"key {key}": rows(n)[key].tobytes()[: 20 * key] for key in range(4)}

    def write_digests(self, to: StockRoom, n: int) -> None:
        """Samples that are the digests of others, in nodes that are the same."""
        to.data["images"] = rows(n)
        hexes = [to.data["images"].digest(key) for key in range(6)]
        to.data["hash"] = np.stack([np.frombuffer(bytes.fromhex(text), np.uint8) for text in hexes])

    def write_tall(self, to: StockRoom, n: int) -> None:
        """Trees of more than one level, which from one `n` to the next share most nodes."""
        tall = rows(7, 1500)[:, :40]
        tall[n * 400] = n
        to.data["tall"] = tall
        to.data["tall_labels"] = np.arange(1500 + n, dtype=np.int64)

    def write_edit(self, to: StockRoom, n: int) -> None:
        to.data["base"][n] = rows(n + 10)[0]

    def write_delete(self, to: StockRoom, n: int) -> None:
        for name in list(to.data)[n : n + 1]:
            del to.data[name]

    def write_model(self, to: StockRoom, n: int) -> None:
        memory = torch.arange(100, dtype=torch.float32) + n
        to.model["net"] = {
            "weight": rows(n), "tied": memory, "again": memory, "row": memory[3:40], "column": memory[::2],
            "step": n, "note": "text" * 30 * n, "same": rows(99), "none": None, "small": torch.tensor(n),
        }  # fmt: skip

    def write_experiment(self, to: StockRoom, n: int) -> None:
        to.experiment["note"] = f"run {n}"
        to.experiment["nested"] = {"lr": 0.1 * n, "layers": [n, {"x": rows(n)}]}  # too large for a value record
        to.experiment.log({"loss": 1.0 / (n + 1), f"only-{n}": n}, step=n)
        to.experiment.artifact("figure.bin", rows(n).tobytes() * (1 + n))

    def write_large(self, to: StockRoom, n: int) -> None:
        large = np.full(5 << 20, n % 2, np.uint8)  # both of its chunks are the same but for their lengths
        to.data["large"] = [large, large[: 9 + n]]
        to.model["huge"] = {"weight": large, "bias": rows(n)}

    def do_branch(self, stock: StockRoom, n: int) -> None:
        stock.checkout(f"b{n}", create=f"b{n}" not in stock.branches)

    def do_main(self, stock: StockRoom, _: int) -> None:
        stock.checkout("main")

    def do_drop_branch(self, stock: StockRoom, n: int) -> None:
        stock.delete_branch(f"b{n}", force=True)

    def do_tag(self, stock: StockRoom, n: int) -> None:
        stock.create_tag(f"v{n}", at=f"HEAD~{n}")

    def do_merge(self, stock: StockRoom, n: int) -> None:
        stock.merge(f"b{n}", strategy="theirs")

    def do_undo(self, stock: StockRoom, _: int) -> None:
        stock.undo()

    def do_push(self, stock: StockRoom, _: int) -> None:
        """To a remote whose branch is tracked from then on, wherever ours goes."""
        if not stock.remotes:
            stock.add_remote("origin", str(self.path.with_name("remote")))
        stock.push()

    def do_clone(self, stock: StockRoom, n: int) -> None:
        """A clone that has not all history, and no samples."""
        remote = self.path.with_name("remote")
        if remote.exists():
            StockRoom.clone(str(remote), self.path.with_name("clone"), True, depth=1 + n).close()

    def do_abandon(self, stock: StockRoom, n: int) -> None:
        """Change what is staged, and drop the change: chunks and objects that nothing refers to."""
        with StockRoom(self.path, enable_write=True) as writer:
            writer.data["abandoned"] = rows(n + 40)
            writer.flush()
            writer.reset(undoable=False)

    def do_detach(self, stock: StockRoom, n: int) -> None:
        stock.checkout(f"HEAD~{n}")

    def do_stage(self, stock: StockRoom, n: int) -> None:
        with StockRoom(self.path, enable_write=True) as writer:
            self.write(writer, WRITES[n], n)
            writer.data["staged"] = rows(n + 20)

    def do_session(self, stock: StockRoom, n: int) -> None:
        with stock.session(f"b{n}" if f"b{n}" in stock.branches else "main", "kept") as session:
            session.data["in_session"] = rows(n + 30)
            session.model["net"] = {"weight": rows(n + 31)}
            session.flush()
            session.close()  # what it staged outlives it

    def do_unfinished_merge(self, stock: StockRoom, n: int) -> None:
        """A merge with a conflict, of a branch that is deleted then: only the merge record refers to it."""
        stock.checkout("theirs", create=True)
        with stock.enable_write("theirs"):
            stock.data["base"][0] = rows(50 + n)[0]
            stock.data["theirs"] = rows(51 + n)
        stock.checkout("main")
        with stock.enable_write("ours"):
            stock.data["base"][0] = rows(52 + n)[0]
        stock.merge("theirs", commit=False)
        stock.delete_branch("theirs", force=True)

    def do_unfinished_pick(self, stock: StockRoom, n: int) -> None:
        """As above, but the commit is no parent of what will be committed: only its content is referred to."""
        stock.checkout("theirs", create=True)
        with stock.enable_write("theirs"):
            stock.data["base"][1] = rows(60 + n)[0]
            stock.data["picked"] = rows(61 + n)
        picked = stock.commit_id or ""
        stock.checkout("main")
        with stock.enable_write("ours"):
            stock.data["base"][1] = rows(62 + n)[0]
        stock.cherry_pick(picked, commit=False)
        stock.delete_branch("theirs", force=True)

    def do_nothing(self, stock: StockRoom, _: int) -> None:
        pass


@dataclass
class Found:
    """What one walk found."""

    commits: set[bytes] = field(default_factory=set)
    objects: set[bytes] = field(default_factory=set)
    chunks: set[bytes] = field(default_factory=set)


class Reference(Found):
    """Sections 4 to 7 of docs/format.md, followed record by record."""

    def __init__(self, databases: dict[str, dict[bytes, bytes]]) -> None:
        super().__init__()
        self.databases = databases
        self.trees: set[tuple[object, ...]] = set()

    def get(self, digest: bytes) -> bytes:
        self.objects.add(digest)
        return records.read_at_rest(self.databases["objects"][digest], digest)

    def add_commits(self, commits: Iterable[bytes]) -> Reference:
        waiting = list(commits)
        while waiting:
            digest = waiting.pop()
            if digest not in self.commits:
                self.commits.add(digest)
                commit = records.read_commit(self.databases["commits"][digest])
                self.add_root(commit["tree"])
                waiting += [] if digest in self.databases["shallow"] else commit["parents"]
        return self

    def add_stages(self) -> Reference:
        for value in self.databases["stage"].values():
            stage = records.read_stage(value)
            self.add_commits([] if stage["base"] is None else [stage["base"]])
            self.add_root(stage["root"])
            if stage["merging"] is not None:
                merging = records.read_merging(self.get(stage["merging"]))
                self.add_root(merging["theirs"])
                self.add_commits([] if merging["parent"] is None else [merging["parent"]])
        return self

    def add_root(self, root: bytes) -> None:
        for digest in self.read_tree(root, "str", 32):
            self.add_record(digest)

    def add_record(self, digest: bytes) -> None:
        data = self.get(digest)
        if data[:4] == b"SRva":
            records.read_value(data)
        elif data[:4] == b"SRse":
            state = records.read_state(data)
            self.get(state["structure"])
            self.add_entries(state["root"], "str", [None], 1)
        else:
            column = records.read_column(data)
            self.add_entries(
                column["root"], column["key_type"], column["shape"], packs.measure_element(column["dtype"])
            )

    def add_entries(self, root: bytes, key_type: str, shape: list[int | None], itemsize: int) -> None:
        for value in self.read_tree(root, key_type, trees.measure_entry(shape, itemsize), (tuple(shape), itemsize)):
            entry = trees.read_entry(value, shape, itemsize)
            if entry.kind == 1:
                self.chunks.add(entry.payload)
            elif entry.kind == 2:
                self.chunks.update(packs.read_chunk_list(self.get(entry.payload)).digests)

    def read_tree(self, root: bytes, key_type: str, width: int, read_as: object = None) -> Iterable[bytes]:
        if (root, read_as) in self.trees:  # read to its end, and in this way, before
            return ()
        self.trees.add((root, read_as))
        return trees.read_tree(self.get, root, key_type=key_type, width=width).values()

    def list_tips(self, *names: str) -> list[bytes]:
        return [tip for name in names for tip in self.databases.get(name, {}).values()]


def read_reference(path: Path) -> Reference:
    databases = read_lmdb(path / ".stockroom" / "refs")
    for name in ("branches", "tags", "remotes", "stage", "shallow"):
        databases.setdefault(name, {})
    return Reference(databases)


class Watched:
    """A repository, newly opened, that notes which commits, objects and chunks are asked for."""

    def __init__(self, path: Path) -> None:
        self.found = Found()
        self.encoded: set[bytes] = set()
        self.repository = Repository.open(path)
        objects, tensors = self.repository.objects, self.repository.tensors
        self.watch(self.repository.refs, "get_commit", lambda commit: self.found.commits.add(commit))
        self.watch(objects, "get_object", lambda digest: self.found.objects.add(digest))
        self.watch(objects, "get_objects", lambda digests: self.found.objects.update(digests))
        self.watch(objects, "get_encoded", lambda digests: self.encoded.update(digests))
        for name in ("locate", "iter_copies", "list_packs"):
            self.watch(tensors, name, lambda digests: self.found.chunks.update(split(digests)))

    @staticmethod
    def watch(owner: Any, name: str, note: Any) -> None:
        method = getattr(owner, name)

        def call(what: Any, *args: Any, **options: Any) -> Any:
            note(what)
            return method(what, *args, **options)

        setattr(owner, name, call)


def split(digests: np.ndarray) -> Iterator[bytes]:
    return (digest.tobytes() for digest in digests.reshape(-1, 32))


@contextmanager
def watching(path: Path) -> Iterator[Watched]:
    watched = Watched(path)
    try:
        yield watched
    finally:
        watched.repository.close()


def check_gc(path: Path, reference: Reference) -> None:
    with watching(path) as watched:
        plan = plan_gc(watched.repository, grace=timedelta(0))
        assert plan.reach.commits == reference.commits
        known = {bytes(digest) for digest in watched.repository.objects.iter_digests()}
        assert {digest for digest in known if plan.reach.has_object(digest)} == reference.objects
        assert watched.found.objects <= reference.objects  # of structures it reads nothing
        assert watched.found.chunks == reference.chunks
        live = set()
        for digest, number in plan.packs.items():
            is_live = plan.reach.find_live(number)
            if is_live is not None:
                live.update(split(watched.repository.tensors.cache.get(number).manifest.digests[is_live]))
            assert plan.is_live(digest) == (is_live is not None)
        assert live == reference.chunks


def check_fsck(path: Path, reference: Reference) -> None:
    with watching(path) as watched:
        report = verify_repository(watched.repository, scope=VerifyScope(connectivity_only=True))
        assert report.damage == []
        assert report.commits == len(reference.commits)
        assert watched.found == Found(reference.commits, reference.objects, reference.chunks)


def check_usage(path: Path, reference: Reference) -> None:
    with watching(path) as watched:
        tip = min(reference.list_tips("branches", "tags"), default=None)
        snapshot = watched.repository.open_snapshot(None if tip is None else CommitId(tip))
        usage = measure_usage(watched.repository, snapshot)
        found = Found(watched.found.commits, watched.encoded, watched.found.chunks)
        assert found == Found(reference.commits, reference.objects, reference.chunks)
        assert usage.commits == len(reference.commits)
        assert usage.history.chunks == len(reference.chunks)
        sizes = [len(reference.databases["objects"][digest]) for digest in reference.objects]
        assert usage.history.metadata_nbytes == sum(sizes)


def check_push(path: Path, tips: list[bytes], known: list[bytes]) -> None:
    wanted, held = read_reference(path).add_commits(tips), read_reference(path).add_commits(known)
    with watching(path) as watched:
        contents = plan_push(watched.repository, list(map(CommitId, tips)), list(map(CommitId, known)))
        assert set(contents.commits) == wanted.commits - held.commits
        parents = {commit: watched.repository.refs.get_commit(commit).parent_ids for commit in contents.commits}
        sent = set(held.commits)
        for commit, before in parents.items():
            assert sent.issuperset(wanted.commits.intersection(before))
            sent.add(commit)
        assert wanted.objects - held.objects <= set(contents.objects) <= wanted.objects
        assert wanted.chunks - held.chunks <= watched.found.chunks <= wanted.chunks
        if not known:
            assert watched.found.chunks == wanted.chunks
        numbers = {digest: number for number, digest in watched.repository.tensors.catalog.read_packs().items()}
        cache = watched.repository.tensors.cache
        offered = {chunk for pack in contents.packs for chunk in split(cache.get(numbers[pack]).manifest.digests)}
        assert watched.found.chunks <= offered


@settings(max_examples=12)
@example(EVERYTHING)
@example([("edit", 1), ("unfinished pick", 1)])
@given(HISTORIES)
def test_gc_fsck_du_and_push_reach_the_same(history):
    folder = Path(tempfile.mkdtemp(prefix="stockroom-walk-"))
    try:
        world = World(folder / "repo")
        for what, n in history:
            world.step(what, n)
        for path in (world.path, world.path.with_name("clone")):
            if path.exists():
                check(path)
    finally:
        shutil.rmtree(folder)


def check(path: Path) -> None:
    with StockRoom(path) as stock:
        head = [] if stock.commit_id is None else [bytes.fromhex(stock.commit_id)]
    roots = read_reference(path)
    tips = roots.list_tips("branches", "tags", "remotes")
    check_gc(path, roots.add_commits([*tips, *head]).add_stages())
    check_fsck(path, read_reference(path).add_commits([*tips, *head]).add_stages())
    check_usage(path, read_reference(path).add_commits(roots.list_tips("branches", "tags")))
    check_push(path, tips, [])
    main = roots.databases["branches"].get(b"main")
    if main is not None:
        commit = records.read_commit(roots.databases["commits"][main])
        check_push(path, tips, [main])
        check_push(path, [main], [] if main in roots.databases["shallow"] else commit["parents"])
