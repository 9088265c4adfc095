"""A reader for repositories and remotes of version 1, written from docs/format.md alone: no code is shared with src/.

Where it and Stockroom disagree, one of them or the document is wrong. Numbers in docstrings are sections of it.
"""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lmdb
from blake3 import blake3
from tests.golden import format_packs as packs
from tests.golden import format_records as records
from tests.golden import format_trees as trees
from tests.golden.format_msgpack import demand, read_msgpack


@dataclass
class Contents:
    """What there is, whether in a repository or on a remote."""

    objects: dict[bytes, bytes] = field(default_factory=dict)
    commits: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    branches: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, bytes] = field(default_factory=dict)
    chunks: dict[bytes, bytes | None] = field(default_factory=dict)
    """None where it is absent."""

    def add_packs(self, folder: Path) -> int:
        """9: every pack below `folder`; how many there are."""
        found = sorted(folder.glob("*/*"))
        for directory in found:
            demand(directory.name.startswith(directory.parent.name), "a pack's place")
            pack = packs.read_pack(directory)
            for digest, data in zip(pack.manifest.digests, pack.rows, strict=True):
                self.chunks[digest] = self.chunks.get(digest) or data
        return len(found)

    def read_root(self, commit: bytes) -> dict[str, bytes]:
        """6: path -> digest of the record there."""
        root = trees.read_tree(self.objects.__getitem__, self.commits[commit]["tree"], key_type="str", width=32)
        return {str(key): value for key, value in root.items()}

    def read_column(self, digest: bytes) -> tuple[dict[str, Any], dict[trees.Key, bytes | None]]:
        """5.2 and 7: a column's record, and the raw bytes of each sample."""
        column = records.read_column(self.objects[digest])
        size = packs.measure_element(column["dtype"])
        width = trees.measure_entry(column["shape"], size)
        entries = trees.read_tree(self.objects.__getitem__, column["root"], key_type=column["key_type"], width=width)
        samples = {}
        for key, value in entries.items():
            entry = trees.read_entry(value, column["shape"], size)
            samples[key] = self.read_entry(entry, packs.measure_chunk(entry.shape, size) if entry.kind == 2 else 0)
        return column, samples

    def read_entry(self, entry: trees.Entry, chunk_nbytes: int) -> bytes | None:
        """7: a tensor's raw bytes; None where they are absent."""
        if entry.kind == 0:
            return entry.payload
        if entry.kind == 1:
            data = self.chunks[entry.payload]
            demand(data is None or len(data) == entry.nbytes, "the size of a chunk")
            return data
        chunk_list = packs.read_chunk_list(self.objects[entry.payload])
        demand((chunk_list.nbytes, chunk_list.chunk_nbytes) == (entry.nbytes, chunk_nbytes), "sizes of chunks")
        parts = [self.chunks[digest] for digest in chunk_list.digests]
        if any(part is None for part in parts):
            return None
        whole = b"".join(part or b"" for part in parts)
        demand(len(whole) == entry.nbytes and blake3(whole).digest() == chunk_list.tensor_digest, "the whole tensor")
        return whole

    def read_state(self, digest: bytes) -> tuple[list[Any], dict[str, bytes | None]]:
        """5.5, 5.6: the structure's node, and the bytes of each stored leaf by path, of a state or value."""
        data = self.objects[digest]
        if data[:4] == b"SRva":
            node, payloads = records.read_value(data)
            return node, dict(payloads)
        state = records.read_state(data)
        node, stored = records.read_structure(self.objects[state["structure"]])
        entries = trees.read_tree(self.objects.__getitem__, state["root"], key_type="str", width=41)
        demand(set(entries) == set(stored), "the tree has every stored leaf and no other")
        leaves = dict(records.iter_leaves(node, None, 0, is_note=False))
        found: dict[str, bytes | None] = {}
        for path, value in entries.items():
            entry = trees.read_entry(value, [None], 1)
            demand(stored[str(path)] in (None, entry.nbytes), f"the size of leaf {path!r}")
            dtype, shape = records.find_cut(leaves[str(path)], entry.nbytes)
            chunk_nbytes = packs.measure_chunk(shape, packs.measure_element(dtype)) if entry.kind == 2 else 0
            found[str(path)] = self.read_entry(entry, chunk_nbytes)
        return node, found

    def check_history(self) -> None:
        """5.1: every ref leads to a history that is whole."""
        for tip in [*self.branches.values(), *self.tags.values()]:
            waiting = [tip]
            while waiting:
                waiting += self.commits[waiting.pop()]["parents"]


@dataclass
class Repository(Contents):
    """A repository's folder."""

    head: tuple[str | None, str | None] = (None, None)
    stage: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    operations: list[dict[str, Any]] = field(default_factory=list)
    catalog: dict[int, bytes] = field(default_factory=dict)
    locations: list[tuple[int, int, int]] = field(default_factory=list)
    remotes: dict[str, Any] = field(default_factory=dict)


def read_repository(root: Path) -> Repository:
    """2: everything in a repository that nobody writes to."""
    own = root / ".stockroom"
    demand((own / "format").read_bytes() == b"stockroom repository 1\n", "the file `format`")
    found = Repository(head=records.read_head((root / "head.stock").read_bytes()))
    databases = read_lmdb(own / "refs")
    for digest, value in databases["objects"].items():
        found.objects[digest] = records.read_at_rest(value, digest)
    for digest, value in databases["commits"].items():
        demand(blake3(value).digest() == digest, "the id of a commit")
        found.commits[digest] = records.read_commit(value)
    found.branches = {key.decode(): value for key, value in databases["branches"].items()}
    found.tags = {key.decode(): value for key, value in databases["tags"].items()}
    found.stage = {key.decode(): records.read_stage(value) for key, value in databases["stage"].items()}
    for digest, value in databases.get("dropped", {}).items():
        demand(blake3(value).digest() == digest, "the digest of a dropped stage")
        found.dropped[digest] = records.read_stage(value)
    found.operations = [records.read_operation(*item) for item in databases["operations"].items()]
    demand([o["number"] for o in found.operations] == list(range(1, len(found.operations) + 1)), "no gaps in the log")
    _check_links(found, databases)
    count = found.add_packs(own / "packs")
    _read_catalog(found, own)
    demand(len(found.catalog) == count, "every pack is registered")
    if (own / "remotes.json").exists():
        found.remotes = json.loads((own / "remotes.json").read_bytes())
    found.check_history()
    return found


def read_lmdb(folder: Path) -> dict[str, dict[bytes, bytes]]:
    """4: every database of an environment, of which a copy is read: the process may have it open already."""
    with (
        TemporaryDirectory() as copy,
        lmdb.open(shutil.copytree(folder, copy, dirs_exist_ok=True), readonly=True, lock=False, max_dbs=32) as env,
    ):
        with env.begin() as txn:
            names = [bytes(key).decode() for key, _ in txn.cursor()]
        databases = {name: env.open_db(name.encode(), create=False) for name in names}
        with env.begin() as txn:
            return {
                name: {bytes(k): bytes(v) for k, v in txn.cursor(db)}  # type: ignore[arg-type]
                for name, db in databases.items()
            }


def _check_links(found: Repository, databases: dict[str, dict[bytes, bytes]]) -> None:
    """4: a commit's generation and parents."""
    links = databases.get("links", {})
    shallow = databases.get("shallow", {})
    for commit, value in links.items():
        parents = [] if commit in shallow else found.commits[commit]["parents"]
        demand(value[4:] == b"".join(parents), "the parents in a link")
        known = [links[parent] for parent in parents]
        generation = 1 + max((struct.unpack("<I", link[:4])[0] for link in known), default=0)
        demand(value[:4] == struct.pack("<I", generation), "the generation in a link")


def _read_catalog(found: Repository, own: Path) -> None:
    """12: packs by number, and the locations in all tables."""
    databases = read_lmdb(own / "catalog")
    found.catalog = {struct.unpack(">I", key)[0]: value for key, value in databases["packs"].items()}
    numbers = {value: struct.unpack(">I", number)[0] for value, number in databases["numbers"].items()}
    demand(numbers == {digest: number for number, digest in found.catalog.items()}, "numbers lead back")
    counters = {key: struct.unpack(">Q", value)[0] for key, value in databases["meta"].items()}
    demand(counters.get(b"next pack", 0) > max(found.catalog, default=-1), "the next number of a pack")
    for key, value in databases["tables"].items():
        sequence, rows, file, inline = read_msgpack(value)
        demand(key == struct.pack(">Q", sequence) and sequence <= counters[b"generation"], "sequence of a table")
        demand(file is None or file == f"{sequence:012d}.table", "a table's file")
        table = packs.read_table(inline if file is None else (own / "index" / file).read_bytes())
        demand(len(table) == rows, "rows of a table")
        found.locations += table


@dataclass
class Remote(Contents):
    """A remote's folder."""

    states: list[dict[str, Any]] = field(default_factory=list)
    marks: dict[tuple[int, bytes], tuple[int, int]] = field(default_factory=dict)


def read_remote(folder: Path) -> Remote:
    """14: the newest state of a remote, and everything that leads from it."""
    found = Remote()
    while (file := folder / "refs" / f"{len(found.states) + 1:08d}").exists():
        found.states.append(records.read_ref_state(len(found.states) + 1, file.read_bytes()))
    demand(found.states, "there is a state")
    hint = folder / "refs" / "latest"
    demand(not hint.exists() or 1 <= int(hint.read_text()) <= len(found.states), "the hint")
    newest = found.states[-1]
    described = {}
    for digest, nbytes, *counts in newest["bundles"]:
        data = (folder / "bundles" / digest.hex()[:2] / digest.hex()).read_bytes()
        demand(len(data) == nbytes and blake3(data).digest() == digest, "size and digest of a bundle")
        bundle = records.read_bundle(data)
        demand([len(bundle[kind]) for kind in (1, 2, 3)] == counts, "counts of a bundle")
        found.objects |= {key: records.read_at_rest(value, key) for key, value in bundle[1].items()}
        for key, value in bundle[2].items():
            demand(blake3(value).digest() == key, "the id of a commit")
            found.commits[key] = records.read_commit(value)
        described |= bundle[3]
    found.branches, found.tags = newest["branches"], newest["tags"]
    for digest, payload in described.items():
        directory = folder / "packs" / digest.hex()[:2] / digest.hex()
        zarr_json, chunks, index = records.read_pack_payload(payload)
        demand(zarr_json == (directory / "zarr.json").read_bytes(), "`zarr.json` in a bundle")
        demand(chunks == (directory / "chunks").read_bytes(), "`chunks` in a bundle")
        manifest = packs.read_manifest(chunks)
        shard = (directory / manifest.shard_name).read_bytes()
        demand(index == (b"" if manifest.codec == "raw" else shard[-16 * manifest.blocks - 4 :]), "index in a bundle")
    marked: set[bytes] = set()
    if "marks" in newest:
        name = newest["marks"].hex()
        table = (folder / "marks" / name[:2] / name).read_bytes()
        demand(blake3(table).digest() == newest["marks"], "the digest of a table of marks")
        found.marks = records.read_remote_marks(table)
        marked = {digest for kind, digest in found.marks if kind == 1}
    demand(not marked & described.keys(), "what is marked is in no bundle")
    demand(found.add_packs(folder / "packs") == len(described) + len(marked), "every other pack is in a bundle")
    found.check_history()
    return found
