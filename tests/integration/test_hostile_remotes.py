"""Remotes that mean harm: everything they hold fits the name it is kept under, and none of it is what it should be.

Each is cloned, mostly from a web server, and read in every way. What comes is data or one of our errors, in little
time and memory, and nothing outside the clone is touched.
"""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from numcodecs import zstd
from tests.kit.forging import EMPTY_NODE, Forge, make_leaf, make_parent, make_record, serve_folder

from stockroom import CorruptionError, StockRoom, StockroomError
from stockroom.cli import main

pytestmark = pytest.mark.timeout(60)

MAX_NBYTES = 300 << 20
DEEP = 1_000_000
A_CHUNK = blake3(b"a chunk that nobody has").digest()


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Callable[[Forge, bytes], str]]:
    """Publishes a forged remote on a web server and gives its URL."""
    with serve_folder(tmp_path / "remote") as web:

        def publish(forge: Forge, tip: bytes, **fields: Any) -> str:
            forge.publish(tip, **fields)
            return web

        yield publish


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path / "remote")


def read_everything(stock: StockRoom) -> list[str]:
    """Read all that a repository says it has, in every way; the names of what could be read.

    Whatever else than one of our errors comes, or more memory than anybody would expect, fails the test.
    """
    ways: list[tuple[str, Callable[[], Any]]] = [
        ("log", lambda: list(stock.log())),
        ("status", stock.status),
        ("verify", stock.verify),
        ("changes", lambda: {path: (list(c.added), list(c.removed)) for path, c in stock.changes().items()}),
        ("presence", stock.measure_presence),
    ]
    for name in list_names(stock.data):
        ways += [(f"{name} {way}", lambda name=name, act=act: act(stock.data[name])) for way, act in COLUMN_WAYS]  # type: ignore[misc]
    for shelf in (stock.model, stock.experiment, stock.experiment.metrics, stock.experiment.artifacts):
        ways += [(name, lambda shelf=shelf, name=name: touch(shelf[name])) for name in list_names(shelf)]  # type: ignore[misc]
    given = []
    tracemalloc.start()
    for name, way in ways:
        try:
            way()
            given.append(name)
        except StockroomError:
            pass
        assert tracemalloc.get_traced_memory()[1] < MAX_NBYTES, name
    tracemalloc.stop()
    return given


def list_names(shelf: Any) -> list[str]:
    try:
        return list(shelf)
    except StockroomError:
        return []


COLUMN_WAYS: list[tuple[str, Callable[[Any], Any]]] = [
    ("len", len),
    ("keys", lambda column: list(column.keys())),
    ("first", lambda column: column[next(iter(column))]),
    ("all", lambda column: [column[key] for key in column]),
    ("take", lambda column: column.take([0])),
    ("slice", lambda column: column[0:2]),
    ("values", lambda column: list(column.values())),
    ("digest", lambda column: column.digest(next(iter(column)))),
    ("nbytes", lambda column: column.nbytes),
    ("present", lambda column: column.present()),
    ("array", lambda column: np.asarray(column)),
]


def touch(value: Any) -> None:
    if hasattr(value, "load"):
        value.load()
    elif hasattr(value, "media_type"):
        value.read()


def clone_and_read(url: str, tmp_path: Path) -> list[str]:
    """What can be read of a clone; nothing where it was refused."""
    for metadata_only in (True, False):
        target = tmp_path / f"clone {metadata_only}"
        try:
            stock = StockRoom.clone(url, target, metadata_only)
        except StockroomError:
            assert not target.exists()
            continue
        with stock:
            return read_everything(stock)
    return []


# bombs


@pytest.mark.parametrize("stated", [10, 64 << 20, (1 << 32) - 1])
def test_an_object_that_blows_up_is_refused(forge: Forge, published: Any, tmp_path: Path, stated: int) -> None:
    bomb = bytes(zstd.compress(bytes(64 << 20), 1)) * 8  # eight frames, half a GiB
    root = forge.put(b"x", at_rest=struct.pack("<BI", 1, stated) + bomb)
    url = published(forge, forge.commit({"data/x": root}))
    tracemalloc.start()
    with pytest.raises(CorruptionError, match="damaged"):
        StockRoom.clone(url, tmp_path / "clone")
    assert tracemalloc.get_traced_memory()[1] < MAX_NBYTES
    tracemalloc.stop()


def test_a_frame_of_zstd_that_does_not_state_its_size_is_refused(forge: Forge, published: Any, tmp_path: Path) -> None:
    data = make_leaf({}, 32)
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + struct.pack("<I", len(data) << 3 | 1)[:3] + data
    assert bytes(zstd.decompress(frame, bytearray(len(data)))) == data
    root = forge.put(data, at_rest=struct.pack("<BI", 1, len(data)) + frame)
    with pytest.raises(CorruptionError, match="another size"):
        StockRoom.clone(published(forge, forge.commit({"data/x": root})), tmp_path / "clone")


# absurd counts and shapes


def _lie_about(forge: Forge, root: bytes, shape: list[Any], dtype: str = "float64", keys: str = "int") -> bytes:
    return forge.commit({"data/x": forge.put_column(root, shape=shape, dtype=dtype, keys=keys)})


def make_entry(kind: int, shape: list[int], payload: bytes = A_CHUNK) -> bytes:
    return struct.pack(f"<B{len(shape)}Q", kind, *shape) + payload.ljust(32, b"\0")


def make_list(nbytes: int, chunk_nbytes: int, chunks: int) -> bytes:
    return struct.pack("<4sIQQ32s", b"SRcl", 1, nbytes, chunk_nbytes, bytes(32)) + A_CHUNK * chunks


ABSURD: dict[str, Callable[[Forge], bytes]] = {
    "a leaf that claims 4 billion items": lambda f: _lie_about(
        f, f.put(make_leaf({0: bytes(8)}, 8, count=2**32 - 1)), []
    ),
    "a parent whose child has fewer keys": lambda f: _lie_about(
        f, f.put(make_parent([(5, f.put(make_leaf({5: bytes(8)}, 8)), 1000)], 8)), []
    ),
    "a parent whose children have 2^48 keys each": lambda f: _lie_about(
        f, f.put(make_parent([(n, f.put(make_leaf({n: bytes(8)}, 8)), 1 << 48) for n in range(1000)], 8)), []
    ),
    "a child that is missing": lambda f: _lie_about(f, f.put(make_parent([(9, bytes(32), 1)], 8)), []),
    "a child of another level": lambda f: _lie_about(
        f, f.put(make_parent([(5, f.put(make_leaf({5: bytes(8)}, 8)), 1)], 8, level=31)), []
    ),
    "a child of another width": lambda f: _lie_about(
        f, f.put(make_parent([(5, f.put(make_leaf({5: bytes(4)}, 4)), 1)], 8)), []
    ),
    "keys of another type": lambda f: _lie_about(f, f.put(make_leaf({"a": bytes(8)}, 8)), []),
    "values of another width": lambda f: _lie_about(f, f.put(make_leaf({1: bytes(3)}, 3)), []),
    "a root that is no node": lambda f: _lie_about(f, f.put(b"nothing"), []),
    "a fixed shape of 2^78 elements": lambda f: _lie_about(f, f.put(make_leaf({0: A_CHUNK}, 32)), [2**39, 2**39]),
    "a fixed shape of 2^1248 elements": lambda f: _lie_about(f, f.put(make_leaf({0: A_CHUNK}, 32)), [2**39] * 32),
    "a fixed shape of 2^59 bytes": lambda f: _lie_about(f, f.put(make_leaf({0: A_CHUNK}, 32)), [2**28, 2**28]),
    "a shape whose product wraps to 0": lambda f: _lie_about(
        f, f.put(make_leaf({0: make_entry(0, [2**32, 2**32])}, 49)), [None, None]
    ),
    "a shape whose product wraps to 64": lambda f: _lie_about(
        f, f.put(make_leaf({0: make_entry(1, [2**63 + 4, 2])}, 49)), [None, None]
    ),
    "an entry of 2^60 bytes": lambda f: _lie_about(f, f.put(make_leaf({0: make_entry(2, [2**57])}, 41)), [None]),
    "a chunk of the wrong size": lambda f: _lie_about(f, f.put(make_leaf({0: make_entry(1, [9])}, 41)), [None]),
    "an entry of an unknown kind": lambda f: _lie_about(f, f.put(make_leaf({0: make_entry(77, [9])}, 41)), [None]),
    "an inline entry of a gigabyte": lambda f: _lie_about(f, f.put(make_leaf({0: make_entry(0, [2**27])}, 41)), [None]),
    "a chunk list of 2^59 bytes in one chunk": lambda f: _lie_about(
        f, f.put(make_leaf({0: make_entry(2, [2**56], f.put(make_list(2**59, 4 << 20, 1)))}, 41)), [None]
    ),
    "a chunk list of another size": lambda f: _lie_about(
        f, f.put(make_leaf({0: make_entry(2, [2**40], f.put(make_list((4 << 20) + 1, 4 << 20, 2)))}, 41)), [None]
    ),
    "a chunk list of a terabyte": lambda f: _lie_about(
        f, f.put(make_leaf({0: make_entry(2, [2**37], f.put(make_list(2**40, 4 << 20, 1 << 18)))}, 41)), [None]
    ),
    "chunks of one byte": lambda f: _lie_about(
        f,
        f.put(make_leaf({0: make_entry(2, [(4 << 17) + 8], f.put(make_list((4 << 20) + 64, 8, 524_296)))}, 41)),
        [None],
    ),
    "text that is no UTF-8": lambda f: _lie_about(
        f, f.put(make_leaf({0: make_entry(0, [3], b"\xff\xfe\xfd")}, 41)), [None], "str"
    ),
    "an object dtype": lambda f: _lie_about(f, f.put(make_leaf({0: bytes(8)}, 8)), [], "object"),
    "a dtype of fields": lambda f: _lie_about(f, f.put(make_leaf({0: bytes(8)}, 8)), [], "i4,O"),
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_counts_and_shapes_are_refused_at_little_cost(
    forge: Forge, published: Any, tmp_path: Path, name: str
) -> None:
    given = clone_and_read(published(forge, ABSURD[name](forge)), tmp_path)
    assert {"x all", "x first", "x values", "x array"}.isdisjoint(given)


def test_a_parent_that_names_another_key_than_its_child_has_is_found(
    forge: Forge, published: Any, tmp_path: Path
) -> None:
    root = forge.put(make_parent([(9, forge.put(make_leaf({5: bytes(8)}, 8)), 1)], 8))
    tip = forge.commit({"data/x": forge.put_column(root, shape=[])})
    with StockRoom.clone(published(forge, tip), tmp_path / "clone", metadata_only=True) as clone:
        assert not clone.verify().ok


# cycles, and what is not what its name says


def test_histories_that_lead_back_to_themselves_cannot_be_told(forge: Forge, published: Any, tmp_path: Path) -> None:
    """A commit that follows itself would have to hold its own digest: served under another name, it is refused."""
    tree = forge.put(EMPTY_NODE)
    tip = forge.commit({}, tree=tree)
    child = forge.commit({}, tree=tree, parents=(tip,))
    forge.commits[tip] = forge.commits[child]
    with pytest.raises(CorruptionError, match="expected digest"):
        StockRoom.clone(published(forge, tip), tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


@pytest.mark.parametrize("kind", ["tree", "column", "structure"])
def test_a_tree_that_contains_itself_cannot_be_told(forge: Forge, published: Any, tmp_path: Path, kind: str) -> None:
    wanted = forge.put(b"stands for what is to contain itself")
    if kind == "tree":
        inner = make_parent([("k", wanted, 1)], 32)
        tip = forge.commit({}, tree=wanted)
    elif kind == "column":
        inner = make_leaf({"data/x": wanted}, 32)
        tip = forge.commit({"data/x": wanted})
    else:
        inner = make_record(b"SRse", {"structure": wanted, "root": wanted, "metadata": {}})
        tip = forge.commit({"model/x": wanted})
    forge.put(inner)
    forge.objects[wanted] = struct.pack("<BI", 0, len(inner)) + inner
    with pytest.raises(CorruptionError, match="expected digest"):
        StockRoom.clone(published(forge, tip), tmp_path / "clone")


def test_a_history_of_a_thousand_merges_is_walked_once(forge: Forge, published: Any, tmp_path: Path) -> None:
    """Each commit follows two that follow the same two: 2^500 ways down, a thousand commits."""
    tree = forge.put(EMPTY_NODE)
    pair = (forge.commit({}, tree=tree, message="a"), forge.commit({}, tree=tree, message="b"))
    for n in range(500):
        pair = tuple(forge.commit({}, tree=tree, parents=pair, message=f"{side}{n}") for side in "ab")  # type: ignore[assignment]
    tip = forge.commit({}, tree=tree, parents=pair)
    with StockRoom.clone(published(forge, tip), tmp_path / "clone") as clone:
        assert sum(1 for _ in clone.log()) == 1003
        assert clone.verify().ok


def test_a_history_far_deeper_than_the_stack_is_walked(forge: Forge, tmp_path: Path) -> None:
    tree = forge.put(EMPTY_NODE)
    tip: tuple[bytes, ...] = ()
    for n in range(20_000):
        tip = (forge.commit({}, tree=tree, parents=tip, time_ns=n),)
    with StockRoom.clone(forge.publish(tip[0]), tmp_path / "clone") as clone:
        assert sum(1 for _ in clone.log()) == 20_000


# nesting


def nest(depth: int, opening: bytes, inner: bytes) -> bytes:
    return opening * depth + inner


NESTED: dict[str, Callable[[Forge], bytes]] = {
    "lists in a structure": lambda f: f.commit(
        {"model/x": _put_state(f, b"SRsu\x01\x91" + nest(DEEP, b"\x92\xa1l\x91", b"\x92\xa1c\xc0"))}
    ),
    "lists in a value": lambda f: f.commit(
        {
            "experiment/x": f.put(
                b"SRva\x01\x82\xa9structure" + nest(100_000, b"\x92\xa1l\x91", b"\x92\xa1c\xc0") + b"\xa8payloads\x90"
            )
        }
    ),
    "lists in the attrs of a column": lambda f: f.commit(
        {
            "data/x": f.put(
                b"SRco\x01\x86\xa5dtype\xa4int8\xa5shape\x90\xa8key_type\xa3int\xa5codec\xa3raw\xa4root\xc4\x20"
                + f.put(EMPTY_NODE)
                + b"\xa5attrs\x81\xa1a"
                + nest(900_000, b"\x91", b"\xc0")
            )
        }
    ),
    "maps in the metadata of a state": lambda f: f.commit(
        {
            "model/x": f.put(
                b"SRse\x01\x83\xa9structure\xc4\x20" + bytes(32) + b"\xa4root\xc4\x20" + bytes(32) + b"\xa8metadata"
                b"" + nest(300_000, b"\x81\xa1a", b"\xc0")
            )
        }
    ),
}


def _put_state(forge: Forge, structure: bytes) -> bytes:
    root = forge.put(make_leaf({}, 41))
    return forge.put(make_record(b"SRse", {"structure": forge.put(structure), "root": root, "metadata": {}}))


@pytest.mark.parametrize("name", NESTED)
def test_nesting_a_million_deep_is_refused(forge: Forge, published: Any, tmp_path: Path, name: str) -> None:
    given = clone_and_read(published(forge, NESTED[name](forge)), tmp_path)
    assert not [way for way in given if way.startswith("x")]


def test_a_commit_or_state_of_refs_nested_a_million_deep_is_refused(
    forge: Forge, published: Any, tmp_path: Path
) -> None:
    record = b"SRcm\x01\x98\xc4\x20" + bytes(32) + b"\x90" + nest(1_000_000, b"\x91", b"\xc0")
    tip = blake3(record).digest()
    forge.commits[tip] = record  # type: ignore[index]
    url = published(forge, tip)
    with pytest.raises(CorruptionError, match="commit"):
        StockRoom.clone(url, tmp_path / "clone")
    (tmp_path / "remote/refs/00000001").write_bytes(b"SRrs\x01\x97" + nest(DEEP, b"\x91", b"\xc0"))
    with pytest.raises(CorruptionError, match="ref state"):
        StockRoom.clone(url, tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


# names


TRAVERSING = [
    "../../evil",
    "..",
    "/etc/passwd",
    "a/../../../evil",
    ".git/hooks/post-checkout",
    ".stockroom/format",
    "a\0b",
]


@pytest.mark.parametrize("name", TRAVERSING)
def test_names_that_lead_elsewhere_lead_nowhere(
    forge: Forge, published: Any, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has such a name on any shelf is read or refused; files go where they are told."""
    leaf = {"": make_entry(0, [5], b"hello")}
    structure = forge.put(make_record(b"SRsu", [["s", "bytes"]]))
    fields = {"structure": structure, "root": forge.put(make_leaf(leaf, 41)), "metadata": {"media_type": "text/plain"}}
    artifact = forge.put(make_record(b"SRse", fields))
    column = forge.put_column(forge.put(make_leaf({0: bytes(8)}, 8)), shape=[])
    kinds = {"artifact": artifact, "data": column, "metric": column, "model": artifact, "experiment": artifact}
    tip = forge.commit({f"{kind}/{name}": digest for kind, digest in kinds.items()})
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    StockRoom.clone(published(forge, tip), tmp_path / "work/clone", metadata_only=True).close()
    monkeypatch.chdir(tmp_path / "work/clone")
    before = list_files(tmp_path, but=tmp_path / "work/clone/out")
    with StockRoom() as clone:
        read_everything(clone)
        for artifact_name in list_names(clone.experiment.artifacts):
            assert clone.experiment.artifacts[artifact_name].read() == b"hello"
    assert main(["exp", "export", "--to", "out"]) == 1
    for command in (
        ["export", f"data/{name}", "--to", "out.npy"],
        ["exp", "plot", name],
        ["model", "export", name, "--to", "out.safetensors"],
    ):
        assert main(command) in (0, 1, 2, 15)
    after = list_files(tmp_path, but=tmp_path / "work/clone/out")
    assert after - before <= {tmp_path / "work/clone/out.npy", tmp_path / "work/clone/out.safetensors"}
    assert not (tmp_path / "evil").exists()


def list_files(root: Path, *, but: Path) -> set[Path]:
    return {path for path in root.rglob("*") if not path.is_relative_to(but) and "agent" not in path.parts}


@pytest.mark.parametrize("name", ["../evil", "a/../../b", "/etc/passwd", "a\0b", "x.lock", "-rf", "a\nb", "\x1b[31m"])
@pytest.mark.parametrize("kind", ["branches", "tags"])
def test_names_of_branches_and_tags_that_git_would_not_have_are_refused(
    forge: Forge, published: Any, tmp_path: Path, kind: str, name: str
) -> None:
    tip = forge.commit({}, tree=forge.put(EMPTY_NODE))
    fields = {"head": None, "branches": {"main": tip}} | {kind: {name: tip}}
    with pytest.raises(CorruptionError, match="name"):
        StockRoom.clone(published(forge, tip, **fields), tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "a\rb", "\u202eevil", "line\nline"])
def test_control_characters_of_a_remote_do_not_reach_the_terminal(
    forge: Forge, published: Any, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    column = forge.put_column(forge.put(make_leaf({text: bytes(8)}, 8)), shape=[], keys="str")
    content = {f"data/x{text}": column, f"experiment/x{text}": column}
    tip = forge.commit(content, author=text, email=text, message=text, metadata={text: text})
    StockRoom.clone(published(forge, tip), tmp_path / "clone", metadata_only=True).close()
    monkeypatch.chdir(tmp_path / "clone")
    for command in ("log", "show", "ls", f"ls data/x{text}", "status", "diff", "exp show", "fsck", "reflog", "branch"):
        main(command.split(" ", 1))
        out, err = capsys.readouterr()
        for character in "\x1b\x07\r\u202e":
            assert character not in out + err, command


# a folder that is no folder of files


def test_pipes_devices_and_links_in_a_remotes_folder_neither_block_nor_lead_out(forge: Forge, tmp_path: Path) -> None:
    tip = forge.commit({}, tree=forge.put(EMPTY_NODE))
    url = forge.publish(tip)
    state = tmp_path / "remote/refs/00000001"
    kept = state.read_bytes()
    state.unlink()
    os.mkfifo(state)
    with pytest.raises(StockroomError, match="pipe or a device"):
        StockRoom.clone(url, tmp_path / "clone")
    state.unlink()
    state.symlink_to("/dev/zero")
    with pytest.raises(StockroomError, match="pipe or a device"):
        StockRoom.clone(url, tmp_path / "clone")
    state.unlink()
    state.write_bytes(kept)
    (tmp_path / "remote/refs/latest").symlink_to("/dev/zero")
    with pytest.raises(StockroomError, match="pipe or a device"):
        StockRoom.clone(url, tmp_path / "clone")


@pytest.mark.parametrize(
    ("dtype", "shape", "value", "message"),
    [
        ("float32", [None, 2], struct.pack("<BQQ", 9, 1, 2) + bytes(32), "kind 9"),
        ("float32", [None, 2], struct.pack("<BQQ", 2, 2**62, 2) + bytes(32), "does not fit"),
        ("float32", [None, 2], struct.pack("<BQQ", 0, 1, 3) + bytes(32), "does not fit"),
        ("uint8", [None, None], struct.pack("<BQQ", 0, 0, 2**63) + bytes(32), "does not fit"),
        ("float32", [None, 2], struct.pack("<BQQ", 0, 1, 2) + b"x" * 32, "not padded"),
        ("str", [None], struct.pack("<BQ", 0, 3) + b"\xff\xfe\xfd".ljust(32, b"\0"), "expected UTF-8"),
    ],
)
def test_fsck_names_the_column_of_an_entry_that_is_none(
    forge: Forge, tmp_path: Path, dtype: str, shape: list[Any], value: bytes, message: str
) -> None:
    sound = struct.pack(f"<B{len(shape)}Q", 0, *[0] * (len(shape) - 1), 0 if shape[-1] is None else shape[-1])
    root = forge.put(make_leaf({1: sound + bytes(32), 2: value}, len(value)))
    column = forge.put_column(root, dtype=dtype, shape=shape)
    url = forge.publish(forge.commit({"data/odd": column}))
    with StockRoom.clone(url, tmp_path / "clone", metadata_only=True) as stock:
        assert len(stock.data["odd"]) == 2
        (damage,) = stock.verify().damage
        assert damage.where == "data/odd"
        assert message in damage.what
        with pytest.raises(StockroomError):
            stock.data["odd"][2]
        read_everything(stock)
