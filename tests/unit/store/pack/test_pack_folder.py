"""Files of a pack: what cannot be read is told from what is missing or wrong, and nothing blocks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.kit.limits import files_left

from stockroom.errors import CorruptionError, UnreadableError
from stockroom.files import exists
from stockroom.store.pack.pack_folder import ReadFile, map_file, open_folder, read_file


def test_bytes_that_the_system_cannot_read_are_named_with_their_range_and_its_reason() -> None:
    file = ReadFile(os.open("/proc/self/mem", os.O_RDONLY), Path("/a/pack/c.0"))
    file.nbytes = 1 << 20
    with pytest.raises(UnreadableError, match=r"^/a/pack/c\.0: bytes 100 to 200 could not be read") as caught:
        file[100:200]  # no process has its first page
    assert (caught.value.errno, caught.value.start, caught.value.stop) == (errno.EIO, 100, 200)


def test_a_file_cut_short_while_it_is_open_is_an_error_and_not_a_signal(tmp_path: Path) -> None:
    path = tmp_path / "c.0"
    path.write_bytes(bytes(range(100)))
    file = ReadFile(os.open(path, os.O_RDONLY), path)
    os.truncate(path, 50)
    assert file[10:50].tolist() == list(range(10, 50))
    with pytest.raises(CorruptionError, match=r"c\.0: ends at byte 50, before byte 60"):
        file[40:60]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_something_else_in_the_place_of_a_file_is_damage_and_does_not_block(tmp_path: Path, make: object) -> None:
    make(tmp_path / "chunks")  # type: ignore[operator]
    for read in (lambda: read_file(tmp_path, "chunks"), lambda: map_file(open_folder(tmp_path), "chunks", tmp_path)):
        with pytest.raises(CorruptionError, match="expected a file, found something else"):
            read()


def test_what_is_missing_is_damage_and_what_cannot_be_opened_is_not(tmp_path: Path) -> None:
    (tmp_path / "chunks").write_bytes(b"some")
    with pytest.raises(CorruptionError, match="pack is missing"):
        read_file(tmp_path / "nowhere", "chunks")
    with pytest.raises(CorruptionError, match="No such file"):
        read_file(tmp_path, "zarr.json")
    assert not exists(tmp_path / "zarr.json")
    for left in (0, 1):  # for the folder, and for the file in it
        with files_left(left), pytest.raises(UnreadableError, match=r"Too many open files.*ulimit -n") as caught:
            read_file(tmp_path, "chunks")
        assert caught.value.errno == errno.EMFILE
    with files_left(4):  # two would do, but another thread of the process may need some
        assert read_file(tmp_path, "chunks") == b"some"
