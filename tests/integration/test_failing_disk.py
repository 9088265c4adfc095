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
    """A repository whose last rows cannot be read: the file that the disk is made of ends before them."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    make = [["mkfs.ext4", "-q", "-O", "^has_journal", image], ["mount", "-o", "loop", image, folder]]
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a file system in a file can only be made and mounted by root")
    if any(subprocess.run(words, capture_output=True, check=False).returncode for words in make):
        pytest.skip("a file system in a file cannot be mounted here")
    try:
        with StockRoom.init(folder / "repo") as stock:
            for name, rows in (("first", ROWS[:80]), ("second", ROWS[80:])):
                with stock.enable_write(name):
                    stock.data[name] = rows
        subprocess.run(["umount", folder], check=True)  # and forget what was read
        at = image.read_bytes().find(ROWS[155].tobytes()[:4096])
        assert at > 0
        subprocess.run(["mount", "-o", "loop", image, folder], check=True)
        os.truncate(image, at)
        yield folder / "repo"
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def test_what_cannot_be_read_is_reported_with_its_bytes_and_ends_no_process(failing: Path, tmp_path: Path) -> None:
    packs = sorted((failing / ".stockroom/packs").glob("*/*"))
    for words in (["fsck"], ["fsck", "--repair"]):
        done = run_stock(failing, *words, "--json")
        document = json.loads(done.stdout or done.stderr)
        assert (done.returncode, document["damage"]) == (16, []), document
        (item, *_) = document["unchecked"]
        assert item["errno"] == "EIO"
        assert item["where"] in {f"pack {pack.name}" for pack in packs}
        assert "c.0.0: bytes " in item["why"]
    export = run_stock(failing, "export", "second", "--to", tmp_path / "out.npy")
    assert export.returncode == 16
    assert "Input/output error" in export.stderr
    repack = run_stock(failing, "gc", "--repack", "--grace", "0s")
    assert repack.returncode == 16, repack
    assert sorted((failing / ".stockroom/packs").glob("*/*")) == packs
    assert run_stock(failing, "export", "first", "--to", tmp_path / "out.npy").returncode == 0
    assert np.array_equal(np.load(tmp_path / "out.npy"), ROWS[:80])
