"""Archives whose content is not all rows: cut ones, scattered rows, files of other kinds."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stockroom import CorruptionError, InvalidInputError
from stockroom.importers.source import ImportSpec, TableSource
from stockroom.importers.web_dataset import WebDatasetImporter

BLOCK = tarfile.BLOCKSIZE


def write_tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def open_table(*paths: Path, skip_broken: bool = False) -> TableSource:
    (source,) = WebDatasetImporter().open(ImportSpec("webdataset", paths=paths, skip_broken=skip_broken))
    return source


def read_rows(table: TableSource) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for batch in table.batches():
        rows += [
            {name: values[number] for name, values in batch.items() if values[number] is not None}
            for number in range(len(batch["key"]))
        ]
    return rows


def png(side: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(side * side, dtype=np.uint8).reshape(side, side)).save(buffer, "PNG")
    return buffer.getvalue()


# -- cut archives


ROWS: list[dict[str, Any]] = [
    {"key": f"{number}", "bin": random.Random(number).randbytes(300 + number), "cls": np.int64(number)}
    for number in range(4)
]


def write_rows(path: Path, mode: str) -> bytes:
    members = [(f"{row['key']}.{name}", row[name]) for row in ROWS for name in ("bin", "cls")]
    write_tar(path, [(name, data if isinstance(data, bytes) else b"%d" % data) for name, data in members], mode)
    return path.read_bytes()


def iter_cuts(nbytes: int) -> Iterator[int]:
    for place in range(0, nbytes, BLOCK):
        yield from (cut for cut in (place - 1, place, place + 1, place + 300) if 0 <= cut < nbytes)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_an_archive_cut_anywhere_is_refused_or_its_whole_rows_are_imported(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tar"
    whole = write_rows(path, mode)
    end = 4 * 4 * BLOCK + BLOCK  # after the first block of zeros, which GNU tar takes for the end
    for cut in iter_cuts(len(whole)):
        path.write_bytes(whole[:cut])
        if mode == "w" and cut >= end:  # within the padding
            assert read_rows(open_table(path)) == ROWS
            continue
        with pytest.raises(CorruptionError, match=r"a\.tar: not a complete tar archive: ") as caught:
            open_table(path)
        assert "\n" not in str(caught.value)
        try:
            table = open_table(path, skip_broken=True)
        except InvalidInputError as error:
            assert "no row of it is whole" in str(error)  # noqa: PT017
            continue
        rows = read_rows(table)
        assert rows == ROWS[: len(rows)]
        assert table.count == len(rows)
        assert len(table.skipped) == 1
        assert f"nothing after row '{rows[-1]['key']}' is imported" in table.skipped[0]


def test_a_damaged_header_is_not_the_end_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    whole = bytearray(write_rows(path, "w"))
    whole[2 * 4 * BLOCK + 10] ^= 1  # in the header of the third row
    path.write_bytes(whole)
    with pytest.raises(CorruptionError, match="a header is damaged: bad checksum"):
        open_table(path)


def test_archives_joined_with_cat_are_refused_rather_than_read_in_part(tmp_path: Path) -> None:
    whole = write_rows(tmp_path / "a.tar", "w")
    (tmp_path / "both.tar").write_bytes(whole + whole)
    with pytest.raises(InvalidInputError, match="expected nothing after the end of the archive, found more data"):
        open_table(tmp_path / "both.tar")


def test_the_second_archive_is_read_if_the_first_is_cut_and_skipped(tmp_path: Path) -> None:
    whole = write_rows(tmp_path / "a.tar", "w")
    (tmp_path / "a.tar").write_bytes(whole[: 9 * BLOCK])
    write_tar(tmp_path / "b.tar", [("z.cls", b"7")])
    table = open_table(tmp_path / "a.tar", tmp_path / "b.tar", skip_broken=True)
    assert [row["key"] for row in read_rows(table)] == ["0", "1", "z"]


# -- rows


@pytest.mark.parametrize(
    "names",
    [
        ["a.txt", "b.txt", "a.cls"],
        ["b.txt", "a.txt", "c.txt", "b.cls"],
        [f"{number % 7}.x{number}" for number in range(20)],
        ["10.txt", "9.txt", "10.cls"],
    ],
)
def test_a_row_whose_files_are_not_side_by_side_is_refused_by_name(tmp_path: Path, names: list[str]) -> None:
    path = write_tar(tmp_path / "a.tar", [(name, b"1") for name in names])
    with pytest.raises(InvalidInputError, match=r"side by side, found those of '\w+' in two places.*--sort=name"):
        open_table(path)


@pytest.mark.parametrize("keys", [["0", "1", "2", "10", "11"], ["a", "b", "ba"], ["c", "b", "a"]])
def test_rows_in_any_order_are_rows(tmp_path: Path, keys: list[str]) -> None:
    members = [(f"{key}.{name}", b"1") for key in keys for name in ("txt", "cls")]
    assert [row["key"] for row in read_rows(open_table(write_tar(tmp_path / "a.tar", members)))] == keys


def test_keys_may_begin_again_in_the_next_archive(tmp_path: Path) -> None:
    paths = [write_tar(tmp_path / f"{number}.tar", [("b.txt", b"1"), ("a.txt", b"2")]) for number in range(2)]
    assert [row["key"] for row in read_rows(open_table(*paths))] == ["b", "a", "b", "a"]


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("b.cls", b"dog", "does not match its extension"),
        ("b.txt", b"\xff", "does not match its extension"),
        ("b.json", b"{", "does not match its extension"),
        ("b.npy", b"\x93NUMPY", "not an .npy array"),
        ("b.png", png()[:50], "cannot decode the image"),
        ("b.A", b"", "occurs twice, also with 'a'"),
    ],
)
def test_a_row_that_does_not_decode_is_skipped_where_asked(
    tmp_path: Path, name: str, data: bytes, problem: str
) -> None:
    members = [("a.a", b"1"), ("b.a", b"2"), (name, data), ("c.a", b"3")]
    path = write_tar(tmp_path / "a.tar", members)
    if name != "b.png":  # images are kept as they are, and decoded when they are read
        with pytest.raises((CorruptionError, InvalidInputError), match=problem):
            read_rows(open_table(path))
    table = open_table(path, skip_broken=True)
    assert read_rows(table) == [{"key": "a", "a": b"1"}, {"key": "c", "a": b"3"}]
    assert len(table.skipped) == 1
    assert table.skipped[0].startswith("row 'b': ")
    assert problem in table.skipped[0]


def test_two_extensions_may_not_become_one_column(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("a.key", b"1"), ("b.key_", b"2")])
    with pytest.raises(InvalidInputError, match="'key' and 'key_' both become column 'key_'"):
        open_table(path)


@pytest.mark.parametrize(
    "value", [np.array(3), np.empty((5, 0)), np.arange(4, dtype=">i2"), np.ones((2, 3), order="F")]
)
def test_arrays_of_any_shape_and_layout_are_samples(tmp_path: Path, value: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, value)
    (row,) = read_rows(open_table(write_tar(tmp_path / "a.tar", [("a.npy", buffer.getvalue())])))
    assert row["npy"].shape == value.shape
    assert row["npy"].dtype.isnative
    np.testing.assert_array_equal(row["npy"], value)


# -- other members


def test_members_that_belong_to_no_row_are_counted_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name in (
            "README",
            "__meta__.json",
            "__index__/0.json",
            "set/a.txt",
            "set/.DS_Store",
            "._a.txt",
            "set/b.txt",
            "b.od d",
        ):
            archive.addfile(tarfile.TarInfo(name))
        for kind, name in {tarfile.DIRTYPE: "set", tarfile.SYMTYPE: "l.txt", tarfile.LNKTYPE: "m.txt"}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "set/a.txt"
            archive.addfile(info)
        fifo = tarfile.TarInfo("f.txt")
        fifo.type = tarfile.FIFOTYPE
        archive.addfile(fifo)
    table = open_table(path)
    assert [row["key"] for row in read_rows(table)] == ["set/a", "set/b"]
    assert {kind: count for (_, kind), count in table.left_out.counts.items()} == {
        "extensionless file": 1,
        "metadata file": 2,
        "hidden file": 2,
        "unusual name": 1,
        "link": 2,
        "special file": 1,
    }
    assert len(read_rows(table)) == 2
    assert len(table.left_out) == 9  # reading again counts nothing twice
