"""Scenario A21: damage of every kind is found, named with what needs it and what mends it, and mended if it can be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.kit.children import call_in_fork
from tests.kit.programs import STOCK, ask, run_stock

from stockroom import CorruptionError, StockRoom, UnreadableError
from stockroom.kv import Environment
from stockroom.refs import DATABASES
from stockroom.store.pack.layout import list_pack_directories

COUNT = 40


def content():
    rng = np.random.default_rng(0)
    return {
        "raw": rng.integers(0, 256, (COUNT, 1000), np.uint8),
        "packed": np.arange(COUNT * 500, dtype=np.int32).reshape(COUNT, 500),
        "other": rng.integers(0, 256, (COUNT, 7, 9), np.uint8),
    }


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A repository with a column to each pack, and a remote that has it all."""
    folder = tmp_path_factory.mktemp("damage")
    with StockRoom.init(folder / "repo") as stock:
        with stock.enable_write("first"):
            stock.data["raw"] = content()["raw"]
            stock.data.create("packed", dtype="int32", shape=(500,), codec="zstd").extend(content()["packed"])
        with stock.enable_write("second"):
            stock.data["other"] = content()["other"]
        (folder / "remote").mkdir()
        stock.add_remote("origin", str(folder / "remote"))
        stock.push()
    return folder


@pytest.fixture(params=["with a remote", "alone"])
def repo(originals, tmp_path, request):
    path = shutil.copytree(originals / "repo", tmp_path / "repo", copy_function=shutil.copy)
    if request.param == "alone":
        with StockRoom(path) as stock:
            stock.remove_remote("origin")
    return path


def has_remote(path):
    with StockRoom(path) as stock:
        return bool(stock.remotes)


def run(path, *arguments):
    """Exit code and JSON document of the real program."""
    done = run_stock(path, *arguments, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def find_pack(path, column):
    with StockRoom(path) as stock:
        digest = bytes.fromhex(stock.data[column].digest(0))
        (pack,) = stock._repository.tensors.list_packs(np.frombuffer(digest, np.uint8).reshape(1, 32))
    return path / ".stockroom" / "packs" / pack.hex()[:2] / pack.hex()


def flip(file, at):
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.chmod(0o644)
    file.write_bytes(data)


def edit(path, change):
    with Environment.open(path / ".stockroom" / "refs", databases=DATABASES) as env:
        env.update(change)


def readable(path):
    """The columns that can be read in full, and are right."""
    good = set()
    with StockRoom(path, lazy=False) as stock:
        for name, expected in content().items():
            try:
                if np.array_equal(stock.data[name][:], expected):
                    good.add(name)
            except CorruptionError:
                continue
    return good


PACK_DAMAGE = {
    "a flipped byte in its shard": lambda pack: flip(next(pack.glob("c.*")), 20),
    "a flipped byte in its chunk list": lambda pack: flip(pack / "chunks", 200),
    "a flipped byte in zarr.json": lambda pack: flip(pack / "zarr.json", 30),
    "no zarr.json": lambda pack: (pack / "zarr.json").unlink(),
    "a shard cut short": lambda pack: (shard := next(pack.glob("c.*"))).write_bytes(shard.read_bytes()[:-500]),
    "nothing of it": shutil.rmtree,
}


@pytest.mark.parametrize("column", ["raw", "packed"])
@pytest.mark.parametrize("how", PACK_DAMAGE)
def test_damage_of_a_pack_is_found_named_and_mended(repo, how, column):
    pack = find_pack(repo, column)
    PACK_DAMAGE[how](pack)
    code, document = run(repo, "fsck")
    assert code == 15
    found = [item for item in document["damage"] if item["where"] == f"pack {pack.name}"]
    assert found, document
    assert "stock fsck --repair" in found[0]["repair"]
    if "zarr" not in how:
        (needed,) = found[0]["needed_by"]
        assert needed.startswith(f"data/{column} of commit ")
        assert needed.endswith(" of branch main")
    assert {"raw", "packed", "other"} - {column} <= readable(repo)
    is_lost = "zarr" not in how and not has_remote(repo)
    code, document = run(repo, "fsck", "--repair")
    assert code == (15 if is_lost else 0), document
    assert readable(repo) >= {"raw", "packed", "other"} - ({column} if is_lost else set())
    assert run(repo, "fsck")[0] == code
    if is_lost:
        assert any(column in item["where"] for item in document["damage"])
        if how != "nothing of it":
            assert (repo / ".stockroom" / "damaged" / "packs" / pack.name).is_dir()
    if is_lost and how == "a flipped byte in its shard" and column == "raw":
        with StockRoom(repo) as stock:
            assert np.array_equal(stock.data["raw"][list(range(1, COUNT))], content()["raw"][1:])  # sound rows stay


def list_objects(path):
    found = []
    edit(path, lambda txn: found.extend(txn.iterate("objects")))
    return found


@pytest.mark.parametrize("how", ["flipped", "removed"])
def test_damaged_objects_are_found_and_come_from_the_remote(repo, how):
    with StockRoom(repo) as stock:
        record = stock._repository.open_snapshot(stock._repository.resolve("HEAD")).find_column("data/raw")
    root = record.root

    def damage(txn):
        value = txn.get("objects", root)
        txn.put("objects", root, value[:-1] + bytes([value[-1] ^ 1])) if how == "flipped" else txn.delete(
            "objects", root
        )

    edit(repo, damage)
    code, document = run(repo, "fsck")
    assert code == 15
    texts = json.dumps(document["damage"])
    assert root.hex() in texts
    assert "data/raw of commit" in texts
    assert "stock fsck --repair" in texts
    assert readable(repo) == {"packed", "other"}
    code, document = run(repo, "fsck", "--repair")
    assert code == (0 if has_remote(repo) else 15), document
    assert (readable(repo) == {"raw", "packed", "other"}) == has_remote(repo)
    if how == "flipped":
        assert (repo / ".stockroom" / "damaged" / "objects" / root.hex()).is_file()


@pytest.mark.parametrize("how", ["flipped", "removed"])
def test_a_damaged_parent_is_found_and_comes_from_the_remote(repo, how):
    with StockRoom(repo) as stock:
        parent = bytes.fromhex([commit.id for commit in stock.log()][1])

    def damage(txn):
        value = txn.get("commits", parent)
        txn.put("commits", parent, value[:-1] + b"\x7f") if how == "flipped" else txn.delete("commits", parent)

    edit(repo, damage)
    code, document = run(repo, "fsck")
    assert code == 15
    assert any(parent.hex() in item["where"] and "--repair" in item["repair"] for item in document["damage"])
    assert readable(repo) == {"raw", "packed", "other"}
    code, document = run(repo, "fsck", "--repair")
    assert code == (0 if has_remote(repo) else 15), document
    with StockRoom(repo) as stock:
        if has_remote(repo):
            assert len(list(stock.log())) == 2


def test_a_branch_that_points_at_nothing_is_named_with_the_command(repo):
    edit(repo, lambda txn: txn.put("branches", b"lost", b"\x5c" * 32))
    code, document = run(repo, "fsck")
    assert code == 15
    (item,) = document["damage"]
    assert item["where"] == "branch lost"
    assert "stock branch -D lost" in item["repair"]
    ask(repo, "branch", "-D", "lost")
    assert run(repo, "fsck")[0] == 0


INDEX_DAMAGE = {
    "a lost catalog": lambda state: [shutil.rmtree(state / "catalog"), shutil.rmtree(state / "index")],
    "a catalog of noise": lambda state: (state / "catalog" / "data.mdb").write_bytes(b"noise" * 9000),
    "links that lie": None,
    "a table that lies": None,
}


@pytest.mark.parametrize("how", INDEX_DAMAGE)
def test_indexes_are_made_anew_from_what_they_index(repo, how):
    state = repo / ".stockroom"
    if how == "links that lie":
        edit(
            repo,
            lambda txn: [txn.put("links", key, b"\x09\0\0\0" + value[4:]) for key, value in [*txn.iterate("links")]],
        )
    elif how == "a table that lies":
        lie_in_tables(repo)
    else:
        INDEX_DAMAGE[how](state)
    code, _ = run(repo, "fsck")
    assert code == (0 if how == "a lost catalog" else 15)
    code, document = run(repo, "fsck", "--repair")
    assert code == 0, document
    assert readable(repo) == {"raw", "packed", "other"}
    assert run(repo, "fsck")[0] == 0


def lie_in_tables(path):
    """Flip a prefix in every table of the catalog."""
    with Environment.open(
        path / ".stockroom" / "catalog", databases=("packs", "numbers", "tables", "meta"), metasync=False
    ) as env:

        def change(txn):
            for key, value in [*txn.iterate("tables")]:
                at = value.index(b"SRLOCTAB") + 24
                txn.put("tables", key, value[: at + 3] + bytes([value[at + 3] ^ 0xFF]) + value[at + 4 :])

        env.update(change)


def test_absent_blocks_are_not_damage_and_a_lost_presence_map_is_made_anew(originals, tmp_path):
    with StockRoom.clone(str(originals / "remote"), tmp_path / "clone", metadata_only=True) as clone:
        assert np.array_equal(clone.data["raw"][:9], content()["raw"][:9])
    path = tmp_path / "clone"
    assert run(path, "fsck")[0] == 0
    pack = find_pack(path, "raw")
    flip(pack / "present", 16 + 2)  # eight rows are said to be here that are not
    code, document = run(path, "fsck")
    assert code == 15
    assert any(pack.name in item["where"] for item in document["damage"])
    code, document = run(path, "fsck", "--repair")
    assert code == 0, document
    with StockRoom(path, lazy=False) as stock:
        assert np.array_equal(stock.data["raw"][:9], content()["raw"][:9])  # not fetched again
    with StockRoom(path) as stock:
        assert np.array_equal(stock.data["raw"][:], content()["raw"])


def test_parts_of_packs_and_connectivity_alone_can_be_checked(repo):
    flip(next(find_pack(repo, "raw").glob("c.*")), 20)
    found = [run(repo, "fsck", "--read-data-subset", f"{part}/3")[0] for part in (1, 2, 3)]
    assert sorted(found) == [0, 0, 15]
    assert run(repo, "fsck", "--connectivity-only")[0] == 0
    assert run(repo, "fsck", "--read-data-subset", "100%")[0] == 15
    shutil.rmtree(find_pack(repo, "packed"))
    assert run(repo, "fsck", "--connectivity-only")[0] == 15
    assert len(list_pack_directories(repo / ".stockroom" / "packs")) == 2


@pytest.mark.parametrize("subset", ["0%", "101%", "4/3", "0/3", "x"])
def test_a_subset_that_makes_no_sense_is_refused(repo, subset):
    done = run_stock(repo, "fsck", "--read-data-subset", subset)
    assert done.returncode == 2
    assert "3/10" in done.stderr


def test_a_gap_in_the_operation_log_is_found(repo):
    edit(repo, lambda txn: txn.delete("operations", next(txn.iterate("operations"))[0]))
    code, document = run(repo, "fsck")
    assert code == 15
    assert document["damage"][0]["where"] == "operation log"


def run_with_files(path, count, *arguments):
    """Exit code and JSON document of the real program that may open so many files."""
    words = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', count, *STOCK, "-C", path, *arguments, "--json"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, json.loads(done.stdout or done.stderr)


def test_with_few_files_to_open_nothing_is_taken_for_damage_and_nothing_moves(repo):
    names = {pack.name for pack in list_pack_directories(repo / ".stockroom" / "packs")}
    assert run_with_files(repo, 20, "fsck")[0] == 0
    for count in (9, 14):
        for words in (["fsck"], ["fsck", "--repair"]):
            code, document = run_with_files(repo, count, *words)
            assert code == 16, (count, words, document)
            assert not document.get("damage")
            assert all(item["errno"] == "EMFILE" for item in document.get("unchecked", []))
    assert {pack.name for pack in list_pack_directories(repo / ".stockroom" / "packs")} == names
    assert run(repo, "fsck")[0] == 0
    assert readable(repo) == {"raw", "packed", "other"}


@pytest.mark.parametrize("place", ["shard", "chunk list", "folder", "its parent"])
def test_a_pack_that_may_not_be_read_is_not_damage_and_stays(originals, place):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # not in tmp_path, whose parents may be closed to others
        path = shutil.copytree(originals / "repo", f"{name}/repo", copy_function=shutil.copy)
        path = Path(path)
        with StockRoom(path) as stock:
            stock.remove_remote("origin")
            stock.add_remote("elsewhere", str(make_folder(Path(name, "elsewhere"))))
            assert stock.repair().ok  # and everything that this needs is imported
        pack = find_pack(path, "raw")
        found = {"shard": next(pack.glob("c.*")), "chunk list": pack / "chunks", "folder": pack}
        closed = found.get(place, pack.parent)
        for file in (Path(name), *Path(name).rglob("*")):
            os.chown(file, SOMEBODY, -1)
        mode = closed.stat().st_mode
        closed.chmod(0)
        assert call_as_somebody(lambda: check_unreadable(path, pack.name)) == 0
        closed.chmod(mode)
        assert pack.is_dir()
        with StockRoom(path) as stock:
            assert stock.verify().ok
        assert readable(path) == {"raw", "packed", "other"}


def make_folder(path):
    path.mkdir()
    return path


def check_unreadable(path, name):
    with StockRoom(path) as stock:
        report = stock.verify()
        assert report.damage == []
        assert any(name[:2] in str(item) and item.errno == "EACCES" for item in report.unchecked), report
        repaired = stock.repair()
        assert (repaired.found, repaired.left, repaired.lost_packs) == ([], [], [])
        assert repaired.unchecked
        assert np.array_equal(stock.data["other"][:], content()["other"])
        with pytest.raises(UnreadableError, match="Permission denied"):
            stock.data["raw"][:]
        with pytest.raises(UnreadableError):
            stock.gc(grace=timedelta(0))
        with pytest.raises(UnreadableError):
            stock.push("elsewhere")


SOMEBODY = 65534 if os.geteuid() == 0 else os.geteuid()


def call_as_somebody(work):
    """0 if `work` returns, run in a process whose user is not root."""

    def act():
        if os.geteuid() == 0:
            os.setuid(SOMEBODY)
        work()

    return call_in_fork(act)


def test_a_pack_that_was_moved_aside_comes_back_once_it_is_sound_again(repo):
    pack = find_pack(repo, "raw")
    shard = next(pack.glob("c.*"))
    flip(shard, 20)
    code, _ = run(repo, "fsck", "--repair")
    assert code == (0 if has_remote(repo) else 15)
    aside = repo / ".stockroom" / "damaged" / "packs" / pack.name
    flip(aside / shard.name, 20)
    code, document = run(repo, "fsck", "--repair")
    assert (code, document["damage"]) == (0, [])
    assert aside.is_dir() == has_remote(repo)  # there, the remote's is in its place
    if not has_remote(repo):
        assert any("moved back" in done for done in document["done"]), document
    assert readable(repo) == {"raw", "packed", "other"}
