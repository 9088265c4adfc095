"""Files as a whole: bounded reads, writes that appear in one step, and no way out through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit.limits import files_left

from stockroom.errors import InvalidInputError, MalformedRecordError, UnreadableError
from stockroom.files import find_regular, open_whole, read_own_file, replace_own_file, try_exchange, write_own_file

MAKERS = {
    "larger": lambda path: path.write_bytes(bytes(11)),
    "a pipe": os.mkfifo,
    "a folder": lambda path: path.mkdir(),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_half_way() -> Iterator[bytes]:
    yield b"half"
    raise OSError("the source was closed")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_what_is_no_file_of_that_size_is_refused_at_once_or_counts_as_none(tmp_path, make):
    path = tmp_path / "file"
    make(path)
    with pytest.raises(MalformedRecordError, match="expected a file of at most 10 bytes"):
        read_own_file(path, max_nbytes=10)
    assert find_regular(path, max_nbytes=10) is None


def test_a_file_of_just_that_size_is_read_whole_and_a_missing_one_is_none(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError):
        read_own_file(path)
    assert find_regular(path, max_nbytes=10) is None
    write_own_file(path, b"0123456789")
    assert read_own_file(path, max_nbytes=10) == find_regular(path, max_nbytes=10) == b"0123456789"


def test_a_link_in_the_place_of_a_file_leads_no_write_out(tmp_path):
    outside, path = tmp_path / "outside", tmp_path / "file.json"
    outside.write_bytes(b"kept")
    path.symlink_to(outside)
    with pytest.raises(OSError, match="symbolic"):
        write_own_file(path, b"new")
    replace_own_file(path, b"new")
    assert (path.read_bytes(), path.is_symlink(), outside.read_bytes()) == (b"new", False, b"kept")


def test_a_replaced_file_has_the_mode_of_the_umask_and_leaves_nothing_beside_it(tmp_path):
    before = os.umask(0o002)
    try:
        replace_own_file(tmp_path / "file", b"1")
        replace_own_file(tmp_path / "program", b"2", mode=0o777)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "program")] == [0o664, 0o775]
    with pytest.raises(TypeError):
        replace_own_file(tmp_path / "file", "text")
    assert sorted(list_names(tmp_path)) == ["file", "program"]
    assert (tmp_path / "file").read_bytes() == b"1"


def test_a_file_whose_writing_fails_never_appears_and_leaves_nothing(tmp_path):
    path = tmp_path / "out.csv"
    path.write_bytes(b"before")
    with pytest.raises(OSError, match="closed"), open_whole(path) as file:
        file.writelines(fail_half_way())
    assert (path.read_bytes(), list_names(tmp_path)) == (b"before", ["out.csv"])
    with open_whole(path) as file:
        file.write(b"after")
        assert path.read_bytes() == b"before"
    assert (path.read_bytes(), list_names(tmp_path)) == (b"after", ["out.csv"])


def test_a_folder_in_the_place_of_a_file_or_none_to_write_in_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match="found the folder"), open_whole(tmp_path):
        pass
    with pytest.raises(InvalidInputError, match="missing does not exist"), open_whole(tmp_path / "missing" / "file"):
        pass


def test_two_folders_change_places_with_all_that_is_in_them(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not try_exchange(tmp_path / "first", tmp_path / "second"):
        assert [list_names(tmp_path / name) for name in ("first", "second")] == [["first"], ["second"]]
        pytest.skip("this file system cannot exchange folders")
    assert [list_names(tmp_path / name) for name in ("first", "second")] == [["second"], ["first"]]
    assert sorted(list_names(tmp_path)) == ["first", "second"]
    assert not try_exchange(tmp_path / "first", tmp_path / "nowhere")


def test_a_file_that_cannot_be_opened_now_counts_as_none_unless_that_must_be_known(tmp_path):
    (tmp_path / "file").write_bytes(b"some")
    with files_left(0):
        assert find_regular(tmp_path / "file", max_nbytes=10) is None
        with pytest.raises(UnreadableError, match="Too many open files") as caught:
            find_regular(tmp_path / "file", max_nbytes=10, must_know=True)
    assert caught.value.where == str(tmp_path / "file")
    assert find_regular(tmp_path / "nowhere", max_nbytes=10, must_know=True) is None
