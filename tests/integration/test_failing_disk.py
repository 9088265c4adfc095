"""A disk with sectors that cannot be read: what looks after packs reports the pack, the bytes and the reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.kit.programs import run_stock

from stockroom import StockRoom

ROWS = np.random.default_rng(3).integers(0, 256, (160, 100_000), np.uint8)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Path]:
    """A repository whose packs are on a disk of their own. The file that makes the disk ends before the last rows."""
    image, packs = tmp_path / "image", tmp_path / "repo/.stockroom/packs"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a file system in a file can only be made and mounted by root")
    with StockRoom.init(tmp_path / "repo") as stock:
        for name, rows in (("first", ROWS[:80]), ("second", ROWS[80:])):
            with stock.enable_write(name):
                stock.data[name] = rows
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", image], check=True)  # one group: in order
    whole = packs.rename(tmp_path / "whole")
    packs.mkdir()
    if not _mount(image, packs):
        pytest.skip("a file system in a file cannot be mounted here")
    try:
        shutil.copytree(whole, packs, dirs_exist_ok=True)
        subprocess.run(["umount", packs], check=True)  # and forget what was read
        content = image.read_bytes()
        at = max(content.find(ROWS[row].tobytes()[:4096]) for row in (75, 155))
        assert at > 0
        assert _mount(image, packs)
        os.truncate(image, at // 4096 * 4096)  # of part of a block, the rest would be read as zeros
        yield tmp_path / "repo"
    finally:
        subprocess.run(["umount", "-l", packs], check=False)


def _mount(image: Path, folder: Path) -> bool:
    return subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, check=False).returncode == 0


def test_bytes_that_cannot_be_read_are_reported_by_range_and_end_no_process(failing: Path, tmp_path: Path) -> None:
    packs = sorted((failing / ".stockroom/packs").glob("*/*"))
    for words in (["fsck"], ["fsck", "--repair"]):
        done = run_stock(failing, *words, "--json")
        document = json.loads(done.stdout or done.stderr)
        assert (done.returncode, document["damage"]) == (16, []), document
        (item, *_) = document["unchecked"]
        assert item["errno"] == "EIO"
        assert item["where"] in {f"pack {pack.name}" for pack in packs}
        assert "c.0.0: bytes " in item["why"]
    codes = {}
    for name in ("first", "second"):
        export = run_stock(failing, "export", name, "--to", tmp_path / f"{name}.npy")
        codes[name] = export.returncode
        assert ("Input/output error" in export.stderr) == (export.returncode == 16), export
    assert sorted(codes.values()) == [0, 16]
    repack = run_stock(failing, "gc", "--repack", "--grace", "0s")
    assert repack.returncode == 16, repack
    assert sorted((failing / ".stockroom/packs").glob("*/*")) == packs
    (sound,) = (name for name, code in codes.items() if not code)
    assert np.array_equal(np.load(tmp_path / f"{sound}.npy"), {"first": ROWS[:80], "second": ROWS[80:]}[sound])
