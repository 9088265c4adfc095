"""Artifacts: files in, the same files out, and never anywhere else."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import blake3
import numpy as np
import pytest

from stockroom import (
    CorruptionError,
    InvalidInputError,
    InvalidNameError,
    MalformedRecordError,
    StockRoom,
    ValueNotFoundError,
)
from stockroom.content.nodes import ScalarLeaf
from stockroom.shelves.experiment.artifacts import UNKNOWN_MEDIA_TYPE, choose_target
from stockroom.shelves.model.flatten import LeafBytes
from stockroom.shelves.model.state_writer import write_leaves, write_value

LARGE = np.random.default_rng(1).bytes((20 << 20) + 3)
HOSTILE = ["/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", ".", "..", ".git/config", "a/.GIT/hooks/x", "\0a"]


@pytest.mark.parametrize("data", [b"", b"x", b"y" * 33, b"z" * 5000, LARGE], ids=len)
@pytest.mark.parametrize("given", ["bytes", "path", "str"])
def test_a_file_comes_back_byte_for_byte(stock: StockRoom, tmp_path: Path, data: bytes, given: str) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(data)
    with stock.enable_write():
        stock.experiment.artifact("out.bin", {"bytes": data, "path": source, "str": str(source)}[given])
        assert stock.experiment.artifacts["out.bin"].read() == data
    artifact = stock.experiment.artifacts["out.bin"]
    assert artifact.read() == data
    assert (artifact.name, artifact.nbytes) == ("out.bin", len(data))
    assert artifact.digest == blake3.blake3(data).hexdigest()
    assert artifact.save(tmp_path / "saved.bin").read_bytes() == data
    assert stock.verify().ok


def test_a_large_file_goes_in_and_out_in_little_memory(stock: StockRoom, tmp_path: Path) -> None:
    source, nbytes = tmp_path / "large.bin", 300 << 20
    with source.open("wb") as file:
        for number in range(nbytes >> 20):
            file.write(np.full(1 << 17, number, np.int64).tobytes())
    tracemalloc.start()
    try:
        with stock.enable_write():
            stock.experiment.artifact("large.bin", source)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        stock.experiment.artifacts["large.bin"].save(tmp_path / "saved.bin")
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written < 230 << 20
    assert read < 100 << 20
    assert stock.experiment.artifacts["large.bin"].nbytes == nbytes
    assert (tmp_path / "saved.bin").stat().st_size == nbytes
    saved = np.fromfile(tmp_path / "saved.bin", np.int64).reshape(-1, 1 << 17)
    assert np.array_equal(saved[:, 77], np.arange(nbytes >> 20))


def test_equal_files_are_stored_once(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment.artifact("one", LARGE)
    first = sum(path.stat().st_size for path in (stock.path / ".stockroom").rglob("*") if path.is_file())
    with stock.enable_write():
        stock.experiment.artifact("two", LARGE)
    second = sum(path.stat().st_size for path in (stock.path / ".stockroom").rglob("*") if path.is_file())
    assert second - first < 1 << 20
    assert stock.experiment.artifacts["two"].digest == stock.experiment.artifacts["one"].digest


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("plots/roc.png", None, "image/png"),
        ("notes.TXT", None, "text/plain"),
        ("logs.tar.gz", None, "application/gzip"),
        ("weights", None, UNKNOWN_MEDIA_TYPE),
        ("weights", "application/x-mine; v=1", "application/x-mine; v=1"),
    ],
)
def test_a_media_type_is_the_one_given_or_that_of_the_name(
    stock: StockRoom, name: str, given: str | None, expected: str
) -> None:
    with stock.enable_write():
        stock.experiment.artifact(name, b"x", given)
    assert stock.experiment.artifacts[name].media_type == expected


def test_a_name_that_says_nothing_takes_the_media_type_of_the_file(stock: StockRoom, tmp_path: Path) -> None:
    (tmp_path / "figure.svg").write_text("<svg/>")
    with stock.enable_write():
        stock.experiment.artifact("figure", tmp_path / "figure.svg")
    assert stock.experiment.artifacts["figure"].media_type == "image/svg+xml"


@pytest.mark.parametrize("media_type", ["png", "image/", "a/b\nc", "x" * 300 + "/y", 3])
def test_a_media_type_that_is_none_is_refused(stock: StockRoom, media_type: str) -> None:
    with stock.enable_write(), pytest.raises(InvalidInputError, match="media type"):
        stock.experiment.artifact("a", b"x", media_type)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leads_elsewhere_is_refused(stock: StockRoom, name: str) -> None:
    with stock.enable_write():
        with pytest.raises(InvalidNameError):
            stock.experiment.artifact(name, b"x")
        assert len(stock.experiment.artifacts) == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_finds_no_place_and_makes_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidNameError):
        choose_target(tmp_path / "out", name)
    assert list(tmp_path.iterdir()) == []


def test_a_link_does_not_lead_an_export_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidNameError, match="a link in it points outside"):
        choose_target(tmp_path / "out", "link/stolen.txt")
    assert choose_target(tmp_path / "out", "a/b.txt") == tmp_path / "out" / "a" / "b.txt"


def test_what_is_no_file_is_refused(stock: StockRoom, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with stock.enable_write():
        for source in (tmp_path / "nope.txt", tmp_path, tmp_path / "fifo", 3, None, ["x"]):
            with pytest.raises(InvalidInputError, match="artifact 'a'"):
                stock.experiment.artifact("a", source)  # type: ignore[arg-type]
    assert len(stock.experiment.artifacts) == 0


def test_artifacts_are_listed_replaced_and_deleted(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.experiment.artifact("b", b"1")
        stock.experiment.artifact("a/c", b"2")
        stock.experiment.artifact("b", b"3")
    artifacts = stock.experiment.artifacts
    assert list(artifacts) == ["a/c", "b"]
    assert artifacts["b"].read() == b"3"
    assert "b" in artifacts
    assert len(artifacts) == 2
    with stock.enable_write():
        del stock.experiment.artifacts["b"]
    assert list(stock.experiment.artifacts) == ["a/c"]
    with pytest.raises(ValueNotFoundError, match="there are 'a/c'"):
        stock.experiment.artifacts["b"]


def test_saving_replaces_a_file_and_leaves_no_half_one(stock: StockRoom, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with stock.enable_write():
        stock.experiment.artifact("a", LARGE)
    artifact = stock.experiment.artifacts["a"]
    (folder / "a").write_text("old")
    artifact.save(folder / "a")
    assert (folder / "a").read_bytes() == LARGE
    with pytest.raises(InvalidInputError, match="found the folder"):
        artifact.save(folder)
    for shard in (stock.path / ".stockroom" / "packs").rglob("*"):
        if shard.is_file() and shard.stat().st_size > 1 << 20:
            data = bytearray(shard.read_bytes())
            data[len(data) // 2] ^= 1
            shard.chmod(0o644)
            shard.write_bytes(data)
    with StockRoom(stock.path) as damaged:
        with pytest.raises(CorruptionError):
            damaged.experiment.artifacts["a"].save(folder / "b")
        with pytest.raises(CorruptionError):
            damaged.experiment.artifacts["a"].read()
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_what_is_no_file_in_a_foreign_repository_is_told_as_damage(stock: StockRoom) -> None:
    with stock.enable_write():
        workspace = stock._pin.writer()
        workspace.put_states({"artifact/value": write_value(workspace, [1], where="x")})
        source = LeafBytes("", "uint8", (1,), 1, [np.zeros(1, np.uint8)])
        records = [write_leaves(workspace, ScalarLeaf("bytes"), [source], {"media_type": kind}) for kind in (3, "a\nb")]
        workspace.put_states({f"artifact/odd{number}": record for number, record in enumerate(records)})
    with pytest.raises(MalformedRecordError, match="expected the bytes of a file"):
        stock.experiment.artifacts["value"]
    assert [stock.experiment.artifacts[f"odd{number}"].media_type for number in (0, 1)] == [UNKNOWN_MEDIA_TYPE] * 2
