"""Vectors that several processes map: who may share them, and what happens when nobody can."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from stockroom.store.index import shared_vectors
from stockroom.store.index.shared_vectors import open_shared_vector

NBYTES = 8000

pytestmark = pytest.mark.skipif(
    not shared_vectors._BOOT_ID.exists(), reason="the system does not name its starts, so nothing is shared"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vectors"


def open_vector(folder: Path, depends_on: bytes = b"a column") -> np.ndarray:
    vector = open_shared_vector(folder, depends_on, NBYTES)
    assert vector is not None
    return vector


def test_what_one_writes_another_reads_and_other_columns_do_not(folder):
    first, second = open_vector(folder), open_vector(folder)
    assert not first.any()
    first[7] = 255
    assert np.flatnonzero(second).tolist() == [7]
    assert not open_vector(folder, b"another column").any()
    child = os.fork()
    if not child:
        second[8] = 5
        os._exit(0)
    os.waitpid(child, 0)
    assert first[8] == 5


def test_its_room_is_taken_at_once_and_no_other_file_is_left(folder):
    open_vector(folder)
    (path,) = folder.iterdir()
    assert path.stat().st_blocks * 512 >= NBYTES
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", ["shorter", "readable by others", "a link", "a folder"])
def test_a_file_that_is_not_ours_alone_is_not_used(folder, tmp_path, change):
    open_vector(folder)
    (path,) = folder.iterdir()
    if change == "shorter":
        os.truncate(path, 8)
    elif change == "readable by others":
        path.chmod(0o644)
    else:
        path.rename(tmp_path / "away")
        path.symlink_to(tmp_path / "away") if change == "a link" else path.mkdir()
    assert open_shared_vector(folder, b"a column", NBYTES) is None


def test_without_a_folder_or_without_room_there_is_none(tmp_path, folder, monkeypatch):
    (tmp_path / "file").touch()
    assert open_shared_vector(tmp_path / "file" / "vectors", b"", NBYTES) is None
    monkeypatch.setattr(shared_vectors, "_MAX_PART_OF_FREE", 1 << 60)
    assert open_shared_vector(folder, b"", NBYTES) is None
    assert [*folder.iterdir()] == []


def test_the_oldest_and_those_of_earlier_starts_make_room(folder, monkeypatch):
    monkeypatch.setattr(shared_vectors, "_MAX_NBYTES", 3 * NBYTES)
    folder.mkdir()
    (folder / "another-start.0.vector").write_bytes(bytes(8))
    first = open_vector(folder, b"0")
    first[:] = 1
    (oldest,) = folder.iterdir()
    os.utime(oldest, (1, 1))
    for name in (b"1", b"2"):
        open_vector(folder, name)
    assert oldest.exists()
    open_vector(folder, b"3")
    assert not oldest.exists()
    assert len([*folder.iterdir()]) == 3
    assert first.all()  # who has it open keeps it
