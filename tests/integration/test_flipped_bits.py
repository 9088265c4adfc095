"""LMDB files with wrong bytes: what would send LMDB out of the file is found before it maps it."""

from __future__ import annotations

import os
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from tests.kit.children import call_in_fork
from tests.kit.programs import ask, refuse

from stockroom import CorruptionError, StockRoom
from stockroom.kv import Environment, check_structure

PAGE = 4096
META_AT = 16
FLAGS_AT, DEPTH_AT, ROOT_AT = META_AT + 24 + 48 + 4, META_AT + 24 + 48 + 6, META_AT + 24 + 48 + 40
LAST_PAGE_AT = META_AT + 24 + 96
FLIPS = int(os.environ.get("STOCKROOM_FLIPS", "24"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an environment with some pages."""
    with Environment.open(tmp_path, databases=["things"]) as env:
        for n in range(20):
            env.update(lambda txn, n=n: txn.put("things", b"%d" % n, bytes(300)))
    return tmp_path


def change_newest_meta(data: Path, offset: int, form: str, value: int) -> None:
    content = bytearray(data.read_bytes())
    numbers = [struct.unpack_from("<Q", content, page + LAST_PAGE_AT + 8)[0] for page in (0, PAGE)]
    struct.pack_into(form, content, offset + PAGE * (numbers[1] > numbers[0]), value)
    data.write_bytes(content)


@pytest.mark.parametrize(
    ("offset", "form", "value", "found"),
    [
        (ROOT_AT, "<Q", 1 << 40, "begins at page"),
        (ROOT_AT, "<Q", 1, "begins at page 1"),
        (DEPTH_AT, "<H", 200, "200 levels"),
        (DEPTH_AT, "<H", 0, "0 levels"),
        (FLAGS_AT, "<H", 4, "flags"),
        (META_AT + 24 + 4, "<H", 9, "flags"),
        (LAST_PAGE_AT, "<Q", 1 << 30, "truncated"),
        (META_AT + 24, "<I", 3, "page size"),
    ],
)
def test_a_meta_page_that_leads_out_of_the_file_is_damage_that_is_named(folder, offset, form, value, found):
    change_newest_meta(folder / "data.mdb", offset, form, value)

    def act() -> None:
        with pytest.raises(CorruptionError, match=found):
            Environment.open(folder, databases=["things"])

    assert call_in_fork(act) == 0


@pytest.mark.parametrize("left", [b"", bytes(PAGE), bytes(2 * PAGE), "half"])
def test_a_new_file_that_a_power_cut_left_without_content_is_begun_again(tmp_path, left):
    import lmdb

    if left == "half":
        lmdb.open(str(tmp_path), max_dbs=4).close()
        left = (tmp_path / "data.mdb").read_bytes()[:PAGE]
    (tmp_path / "data.mdb").write_bytes(left)
    with Environment.open(tmp_path, databases=["things"]) as env:
        env.update(lambda txn: txn.put("things", b"a", b"1"))
        assert env.view(lambda txn: txn.get("things", b"a")) == b"1"


def test_zeros_in_the_place_of_a_file_with_content_are_damage(folder):
    data = folder / "data.mdb"
    content = data.read_bytes()
    data.write_bytes(bytes(2 * PAGE) + content[2 * PAGE :])
    with pytest.raises(CorruptionError):
        Environment.open(folder, databases=["things"])
    assert data.stat().st_size == len(content)


def make(path: Path) -> Path:
    with StockRoom.init(path) as stock:
        for n in range(4):
            with stock.enable_write(f"part {n}"):
                stock.data[f"part{n}"] = np.random.default_rng(n).integers(0, 256, (50, 40), np.uint8)
    return path


@pytest.mark.parametrize("name", ["refs", "catalog"])
def test_flipped_bits_end_no_process_that_checks_first(tmp_path, name):
    original, chance = make(tmp_path / "original"), random.Random(0)
    for _ in range(FLIPS):
        path = shutil.copytree(original, tmp_path / "copy")
        data = path / ".stockroom" / name / "data.mdb"
        content = bytearray(data.read_bytes())
        page = chance.randrange(len(content) // PAGE) * PAGE
        at = page + chance.choice([chance.randrange(64), chance.randrange(160), chance.randrange(PAGE)])
        content[at] ^= 1 << chance.randrange(8)
        data.write_bytes(content)

        def act(path: Path = path) -> None:
            check_structure(path / ".stockroom" / name)
            with StockRoom(path) as stock:
                stock.verify()

        assert call_in_fork(act) in (0, 1), f"bit at {at} of {name}"
        shutil.rmtree(path)


def damage(path: Path) -> None:
    """Make every leaf page of an LMDB file one of a kind that there is not."""
    content = bytearray(path.read_bytes())
    for page in range(2 * PAGE, len(content), PAGE):
        struct.pack_into("<H", content, page + 10, 0x1234)
    path.write_bytes(content)


def test_fsck_names_a_damaged_file_of_names_and_history_and_does_not_open_it(tmp_path):
    path = make(tmp_path / "repo")
    damage(path / ".stockroom" / "refs" / "data.mdb")
    for words in (["fsck"], ["fsck", "--repair"]):
        assert "cannot be repaired here: restore the file, or clone" in refuse(path, *words, code=15)


def test_a_damaged_catalog_is_found_without_opening_it_and_begun_again(tmp_path):
    path = make(tmp_path / "repo")
    damage(path / ".stockroom" / "catalog" / "data.mdb")

    def check() -> None:
        with StockRoom(path) as stock:
            assert next(found.where for found in stock.verify().damage) == "catalog"

    assert call_in_fork(check) == 0
    assert "catalog: replaced" in ask(path, "fsck", "--repair")
    with StockRoom(path) as stock:
        assert stock.verify().damage == []
        assert stock.data["part3"][7].shape == (40,)
