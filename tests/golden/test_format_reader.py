"""docs/format.md against the product: a reader written from the document alone finds what Stockroom says is there.

`format_reader` and the modules beside it import nothing of Stockroom. Frozen files and a repository written just now
are read by both, and what they find is compared.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from tests.golden import format_packs as packs
from tests.golden import format_records as records
from tests.golden import format_trees as trees
from tests.golden.format_msgpack import BadFormatError, read_msgpack
from tests.golden.format_reader import Contents, read_remote, read_repository

from stockroom import StockRoom

HERE = Path(__file__).parent
DATA = HERE / "data"
READERS = sorted(HERE.glob("format_*.py"))
RNG = np.random.default_rng(7)
BIG = RNG.integers(0, 256, (3, 1_500_001), np.uint8)
COLUMNS: dict[str, Any] = {
    "image": RNG.integers(0, 255, (40, 8, 9), dtype=np.uint8),
    "steps": np.arange(400 * 64, dtype=np.int32).reshape(400, 64) // 9,
    "label": np.arange(2000, dtype=np.int64) - 5,
    "flag": np.array([True, False, True]),
    "half": np.arange(600).reshape(6, 100).astype(ml_dtypes.bfloat16),
    "when": np.array(["2026-07-01", "NaT"], "datetime64[D]"),
    "wave": (np.arange(64) * (1 + 2j)).reshape(4, 16),
    "empty": np.zeros((3, 0, 2), np.float32),
}


def fill(stock: StockRoom) -> None:
    with stock.enable_write("First"):
        for name, values in COLUMNS.items():
            stock.data[name] = values
        stock.data["caption"] = {"b/c": "grüße", "a": "x" * 500, "\ud800": "", "-7": "\udcff"}
        stock.data.create("sizes", dtype="float64", shape=(None, 3))
        stock.data["sizes"].update({-3: np.ones((1, 3)), 0: np.zeros((0, 3)), 1 << 40: np.full((70, 3), 0.5)})
        stock.data["big"] = {"big": BIG}
        for codec in ("raw", "lz4", "zstd", "blosc"):
            stock.data.create(f"as_{codec}", dtype="int32", shape=(64,), codec=codec)
            stock.data[f"as_{codec}"].update(dict(enumerate(COLUMNS["steps"] + 7)))
        stock.model["net"] = {"w": torch.arange(5000.0), "tied": [None, 3, "x", b"y", 1j, -(1 << 80)], 7: np.float16(2)}
        stock.experiment["lr"] = 0.1
        for step in range(20):
            stock.experiment.log({"loss": 1 / (1 + step)}, step=step)
        stock.experiment.artifact("notes/a.txt", b"words", media_type="text/plain")
    with stock.enable_write("Second"):
        stock.data["label"][5] = 1000
        del stock.data["label"][6]
    stock.create_tag("v1", at="HEAD~1")
    stock.create_branch("dev", at="HEAD~1")
    stock.create_branch("gone")
    stock.undo()


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StockRoom]:
    folder = tmp_path_factory.mktemp("format")
    with StockRoom.init(folder / "repo") as made:
        fill(made)
        made.add_remote("origin", str(folder / "remote"))
        made.push(tags=True)
        yield made


def test_the_reader_shares_no_code_with_the_product() -> None:
    for file in READERS:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if "stockroom" in name], file.name


def compare(stock: StockRoom, found: Contents) -> None:
    """That a reader of the format finds what the product gives, commit by commit."""
    logged = list(stock.log())
    assert {commit.id for commit in logged} <= {digest.hex() for digest in found.commits}
    for commit in logged:
        record = found.commits[bytes.fromhex(commit.id)]
        assert (record["message"], record["author"]) == (commit.message, commit.author)
        with StockRoom(stock.path, ref=commit.id) as at:
            compare_content(at, found, found.read_root(bytes.fromhex(commit.id)))


def compare_content(stock: StockRoom, found: Contents, root: dict[str, bytes]) -> None:
    names = [*(f"data/{name}" for name in stock.data), *(f"model/{name}" for name in stock.model)]
    names += [f"metric/{name}" for name in stock.experiment.metrics]
    names += [f"artifact/{name}" for name in stock.experiment.artifacts]
    names += [f"experiment/{name}" for name in stock.experiment]
    assert sorted(root) == sorted(names)
    for path, digest in root.items():
        shelf, _, name = path.partition("/")
        if shelf == "data":
            _, samples = found.read_column(digest)
            assert list(samples) == [k if isinstance(k, str) else int(k) for k in stock.data[name].keys()]  # noqa: SIM118
            for key, raw in samples.items():
                assert raw == encode(stock.data[name][key]), (name, key)
        elif shelf == "metric":
            _, samples = found.read_column(digest)
            steps, values = stock.experiment.metrics[name]
            assert list(samples) == steps.tolist()
            assert b"".join(raw or b"" for raw in samples.values()) == values.astype("<f8").tobytes()
        elif shelf == "artifact":
            node, leaves = found.read_state(digest)
            assert (node, leaves) == (["s", "bytes"], {"": stock.experiment.artifacts[name].read()})
        else:
            node, leaves = found.read_state(digest)
            value = stock.model[name].load(as_numpy=True) if shelf == "model" else stock.experiment[name]
            compare_state(node, leaves, value)


def encode(sample: Any) -> bytes:
    if isinstance(sample, str):
        return sample.encode("utf-8", "surrogatepass")
    return sample if isinstance(sample, bytes) else np.asarray(sample).tobytes()


def compare_state(node: list[Any], leaves: dict[str, bytes | None], value: Any) -> None:
    """That each leaf of `value` has the bytes that 5.7 says."""
    described = dict(records.iter_leaves(node, None, 0, is_note=False))
    for path, leaf in described.items():
        held = value
        for part in path.split("/") if path else []:
            plain = part.removeprefix("~2").replace("~1", "/").replace("~0", "~")
            if isinstance(held, list | tuple):
                held = held[int(plain)]
            else:
                held = held[int(plain) if plain == part and plain.lstrip("-").isdigit() else plain]
        at = records.read_text(leaf[1]) if leaf[0] == "=" else path
        own = described[at]
        raw = leaves.get(at)
        if own[0] == "v":
            raw = records.read_view(own, leaves[records.read_text(own[6])] or b"")
        assert raw == encode_leaf(held), path


def encode_leaf(value: Any) -> bytes:
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, int):
        return value.to_bytes(abs(value).bit_length() // 8 + 1, "little", signed=True)
    if isinstance(value, float | complex) and not isinstance(value, np.generic):
        return np.array(value).tobytes()
    if isinstance(value, torch.Tensor):
        return value.contiguous().view(torch.uint8).numpy().tobytes()
    return encode(value)


def test_a_repository_written_now_is_what_the_document_says(stock: StockRoom) -> None:
    found = read_repository(stock.path)
    compare(stock, found)
    assert found.head == ("main", stock.commit_id)
    assert {name: digest.hex() for name, digest in found.branches.items()} == stock.branches
    assert {name: digest.hex() for name, digest in found.tags.items()} == stock.tags
    operations = [(o["number"], o["kind"], o["ref"]) for o in found.operations]
    assert operations == [(o.number, o.kind, o.ref) for o in reversed(list(stock.operations()))]
    assert found.remotes["origin"] == {"url": str(stock.path.parent / "remote"), "endpoint_url": None, "region": None}
    located = {(prefix, found.catalog[pack]) for prefix, pack, _ in found.locations}
    for digest in found.chunks:
        assert int.from_bytes(digest[:8], "big") in {prefix for prefix, _ in located}


def test_a_remote_written_now_is_what_the_document_says(stock: StockRoom) -> None:
    found = read_remote(stock.path.parent / "remote")
    compare(stock, found)
    assert {name: digest.hex() for name, digest in found.branches.items()} == {"main": stock.branches["main"]}
    assert {name: digest.hex() for name, digest in found.tags.items()} == stock.tags


def test_a_partial_clone_is_what_the_document_says(stock: StockRoom, tmp_path: Path) -> None:
    with StockRoom.clone(str(stock.path.parent / "remote"), tmp_path / "clone", metadata_only=True) as clone:
        clone.data["as_zstd"][0], clone.data["image"][3]
        clone.close()
        found = read_repository(clone.path)
    with StockRoom(tmp_path / "clone") as clone:
        root = found.read_root(bytes.fromhex(stock.commit_id))
        _, images = found.read_column(root["data/image"])
        assert images[3] == COLUMNS["image"][3].tobytes()
        _, encoded = found.read_column(root["data/as_zstd"])
        assert encoded[0] == (COLUMNS["steps"] + 7)[0].tobytes()
        assert None in [*images.values(), *encoded.values()]


def test_a_stage_and_a_merge_under_way_are_what_the_document_says(tmp_path: Path) -> None:
    with StockRoom.init(tmp_path / "repo") as stock:
        with stock.enable_write("base"):
            stock.data["x"] = np.arange(4)
        stock.create_branch("theirs")
        with stock.enable_write("ours"):
            stock.data["x"][1] = 10
        stock.checkout("theirs")
        with stock.enable_write("theirs"):
            stock.data["x"][1] = 11
        stock.checkout("main")
        theirs = stock.branches["theirs"]
        assert [conflict.key for conflict in stock.merge("theirs", commit=False).conflicts] == [1]
    found = read_repository(tmp_path / "repo")
    stage = found.stage["work"]
    merging = records.read_merging(found.objects[stage["merging"]])
    assert stage["base"].hex() == found.head[1]
    assert (merging["kind"], merging["parent"].hex()) == ("merge", theirs)
    assert [conflict[:3] for conflict in merging["open_conflicts"]] == [["data/x", 1, "both changed"]]
    trees.read_tree(found.objects.__getitem__, stage["root"], key_type="str", width=32)


def test_a_dropped_stage_is_what_the_document_says(tmp_path: Path) -> None:
    with StockRoom.init(tmp_path / "repo") as stock:
        with stock.enable_write("base"):
            stock.data["x"] = np.arange(4)
        with StockRoom(stock.path, enable_write=True) as writer:
            writer.data["x"][1] = 10
        stock.reset_to("HEAD")
        stock.undo()
    found = read_repository(tmp_path / "repo")
    reset, undo = found.operations[-2:]
    assert (reset["ref"], reset["new"], undo["ref"], undo["old"]) == ("stage/work", None, "stage/work", None)
    assert found.dropped[reset["old"]] == found.dropped[undo["new"]] == found.stage["work"]
    assert (undo["undoes"], undo["kind"]) == (reset["number"], "undo")
    times = [operation["time_ns"] for operation in found.operations]
    assert len(set(times)) == len(times)


@pytest.mark.parametrize("name", ["remote_v1", "remote_v2", "model_v1"])
def test_a_frozen_remote_is_what_the_document_says(tmp_path: Path, name: str) -> None:
    shutil.copytree(DATA / name, tmp_path / "remote")
    found = read_remote(tmp_path / "remote")
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "clone") as clone:
        compare(clone, found)
        clone.close()
        compare(StockRoom(clone.path), read_repository(clone.path))


@pytest.mark.parametrize("folder", sorted((DATA / "store_v1").glob("*/*")), ids=lambda path: path.parent.name)
def test_a_frozen_pack_is_what_the_document_says(folder: Path) -> None:
    pack = packs.read_pack(folder)
    assert pack.manifest.codec == folder.parent.name.split("_")[1]
    assert pack.manifest.is_ragged == folder.parent.name.startswith("ragged")
    assert len([row for row in pack.rows if row]) == pack.manifest.rows > 3


def test_frozen_files_of_the_store_are_what_the_document_says() -> None:
    store = DATA / "store_v1"
    table = packs.read_table((store / "locations.table").read_bytes())
    assert table[0] == (1, 7, 9)
    present = packs.read_presence((store / "present").read_bytes(), 21)
    assert [unit for unit in range(21) if present[unit]] == [0, 3, 8, 20]
    listed = packs.read_chunk_list((store / "chunk_list").read_bytes())
    assert (listed.nbytes, listed.chunk_nbytes, len(listed.digests)) == (4_800_000, 4_000_000, 2)


def test_frozen_records_are_what_the_document_says() -> None:
    folder = DATA / "state_v1"
    node, stored = records.read_structure((folder / "structure").read_bytes())
    assert node[0] == "d"
    assert stored["large"] == 4_400_000
    assert records.read_state((folder / "state").read_bytes())["metadata"] == {"epoch": 2}
    assert records.read_value((folder / "value").read_bytes())[1]["layers/1"] == b"\x20"
    assert records.read_column((folder / "series").read_bytes())["dtype"] == "float64"


@pytest.mark.parametrize("kind", ["int", "str", "parent"])
def test_frozen_nodes_are_what_the_document_says(kind: str) -> None:
    node = trees.read_node(bytes.fromhex((HERE / f"tree_{kind}_node_v1.hex").read_text()))
    assert node.keys
    assert (node.level > 0) == (kind == "parent")


@pytest.mark.parametrize(
    "loose",
    [b"\xcc\x05", b"\xd0\x05", b"\xd9\x01a", b"\xdc\x00\x00", b"\xde\x00\x00", b"\xc5\x00\x01a", b"\xca" + bytes(4)],
)
def test_the_reader_knows_one_form_of_each_value_only(loose: bytes) -> None:
    with pytest.raises(BadFormatError):
        read_msgpack(loose)
