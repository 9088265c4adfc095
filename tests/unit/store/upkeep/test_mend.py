"""Mending packs: what cannot be read stays where it is, and what was set aside comes back once it is sound."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.kit.limits import files_left

from stockroom.digest import PackDigest
from stockroom.errors import LostChunksError, UnreadableError
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.sparse_pack import hollow_out
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep.mend import (
    bring_back,
    clear_presence,
    remake_metadata,
    remake_presence,
    salvage_rows,
    set_aside,
)
from stockroom.store.upkeep.verify import check_pack


@pytest.fixture(params=["raw", "zstd"])
def digests(request: pytest.FixtureRequest, put: Callable[..., np.ndarray], rows: np.ndarray) -> np.ndarray:
    return put(rows, codec=request.param)


def digest_of(directory: Path) -> PackDigest:
    return PackDigest(bytes.fromhex(directory.name))


def flip(path: Path, at: int = 20) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("left", range(4))
def test_a_check_that_runs_out_of_files_finds_no_damage(digests, only_pack, left: int) -> None:
    assert check_pack(only_pack()).is_sound  # with everything loaded that a first check loads
    with files_left(left):
        findings = check_pack(only_pack())
    assert findings.damage == ()
    assert findings.unchecked or left == 3  # three are enough, unless a thread of an earlier test takes one
    assert all(item.errno == "EMFILE" for item in findings.unchecked)
    assert check_pack(only_pack()).is_sound


@pytest.mark.parametrize("left", range(2))
def test_no_mending_takes_what_it_cannot_read_for_damage(store, digests, only_pack, tmp_path, left: int) -> None:
    directory = only_pack()
    hollow_out(tmp_path / "store", digest_of(directory))
    mends = [
        lambda: remake_metadata(directory),
        lambda: clear_presence(directory),
        lambda: salvage_rows(store, directory),
    ]
    for mend in mends:
        with files_left(left), pytest.raises(UnreadableError):
            mend()
    with files_left(left), pytest.raises(OSError, match="Too many open files"):
        remake_presence(directory, store.tmp_directory)
    with files_left(0), pytest.raises(OSError, match="Too many open files"):
        set_aside(store, digest_of(directory), tmp_path / "aside")
    assert directory.is_dir()
    assert digest_of(directory) in store.catalog.read_packs().values()


def test_a_pack_that_was_set_aside_comes_back_once_it_is_sound(
    store: TensorStore, digests, only_pack, tmp_path
) -> None:
    directory = only_pack()
    shard = next(directory.glob("c.*")).name
    flip(directory / shard)
    aside = set_aside(store, digest_of(directory), tmp_path / "aside")
    assert bring_back(store, tmp_path / "aside") == []
    with pytest.raises(LostChunksError):
        store.locate(digests)
    flip(aside / shard)
    assert bring_back(store, tmp_path / "aside") == [digest_of(directory)]
    assert store.is_present(digests).all()
    assert check_pack(directory).is_sound
    assert list((tmp_path / "aside").iterdir()) == []


@pytest.mark.parametrize("name", ["{}", "{}-2"])
def test_it_takes_the_place_of_a_pack_that_has_less_and_of_no_other(store, digests, only_pack, tmp_path, name) -> None:
    directory = only_pack()
    aside = tmp_path / "aside" / name.format(directory.name)
    shutil.copytree(directory, aside)
    assert bring_back(store, tmp_path / "aside") == []  # a whole one is in place
    hollow_out(tmp_path / "store", digest_of(directory))
    assert bring_back(store, tmp_path / "aside") == [digest_of(directory)]
    assert Pack(directory, digest_of(directory)).presence is None
    assert check_pack(directory).is_sound


def test_a_folder_that_is_no_pack_stays_aside(store: TensorStore, tmp_path: Path) -> None:
    for name in ("x", "ab" * 32, "ab" * 32 + "-2"):
        (tmp_path / "aside" / name).mkdir(parents=True)
    assert bring_back(store, tmp_path / "aside") == []
    assert bring_back(store, tmp_path / "nowhere") == []
