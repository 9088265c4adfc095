"""Columns taken out as files of other people's kinds, and read by their own libraries."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stockroom import Column, InvalidInputError, StockRoom
from stockroom.cli import main
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec
from stockroom.shelves.export import folders
from stockroom.shelves.export.file_names import name_file
from stockroom.shelves.export.folders import LIST_NAME
from stockroom.shelves.png import encode_png

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (300, 12, 13, 3), np.uint8)


def encode(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Columns of every sort, committed."""
    with StockRoom.init(tmp_path_factory.mktemp("room")) as stock:
        with stock.enable_write("first") as writer:
            data = writer.data
            data["image"] = PIXELS
            data["label"] = np.arange(300) % 5
            data["vector"] = {f"v/{n}": np.full(3, n, np.float32) for n in range(20)}
            data["scan"] = [RNG.random((n + 1, 2), np.float32) for n in range(7)]
            data["caption"] = {n * 2: f"text ä {n}" for n in range(5)}
            data["raw"] = [b"\x00", b"", b"ab\x00"]
            data["half"] = np.arange(8, dtype=ml_dtypes.bfloat16).reshape(4, 2)
            data["day"] = np.arange(3).astype("M8[D]")
            data["wave"] = np.arange(4, dtype=np.complex64)
            data.create("nothing", dtype="int16", shape=(2,))
            photos = data.create("photo", keys="str", decoder="image")
            photos.update({"a": encode(PIXELS[0], "PNG"), "b.c": encode(PIXELS[1], "JPEG")})
            nested = data.create("nested", dtype="int64", keys="str")
            nested["patient", 3] = 7
        with stock.enable_write("second") as writer:
            del writer.data["image"][299]
        yield stock


def bring_back(room: StockRoom, source: str, path: Path, target: Path) -> StockRoom:
    stock = StockRoom.init(target)
    with stock.enable_write("back") as writer:
        import_into(writer, resolve_importer(source).open(ImportSpec(source, paths=(path,))))
    return stock


def same(column: Column, other: Column) -> None:
    assert (column.dtype, len(column)) == (other.dtype, len(other))
    for ours, theirs in zip(column.values(), other.values(), strict=True):
        assert np.array_equal(ours, theirs)


def list_made(folder: Path) -> list[Path]:
    """The files of an export, without the list of them that it leaves."""
    return [path for path in folder.iterdir() if path.name != LIST_NAME]


# -- kinds of files


def test_npy_holds_all_samples_stacked(room, tmp_path):
    assert room.data["image"].export(tmp_path / "a.npy") == 299
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), PIXELS[:299])
    room.data["half"].export(tmp_path / "half.npy")
    loaded = np.load(tmp_path / "half.npy").view(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(loaded, np.asarray(room.data["half"]))
    room.data["nothing"].export(tmp_path / "nothing.npy")
    assert np.load(tmp_path / "nothing.npy").shape == (0, 2)


def test_npz_holds_samples_and_keys(room, tmp_path):
    for name in ("image", "vector", "scan", "caption", "raw", "day", "wave"):
        room.data[name].export(tmp_path / f"{name}.npz")
    with np.load(tmp_path / "image.npz", allow_pickle=False) as loaded:
        assert list(loaded) == ["image"]
        np.testing.assert_array_equal(loaded["image"], PIXELS[:299])
    with np.load(tmp_path / "vector.npz", allow_pickle=False) as loaded:
        assert loaded["keys"].tolist() == list(room.data["vector"])
        np.testing.assert_array_equal(loaded["vector"], room.data["vector"])
    with np.load(tmp_path / "scan.npz", allow_pickle=False) as loaded:
        assert [loaded[str(n)].shape for n in range(7)] == [(n + 1, 2) for n in range(7)]
    with np.load(tmp_path / "caption.npz", allow_pickle=False) as loaded:
        assert loaded["caption"].tolist() == [f"text ä {n}" for n in range(5)]
        assert loaded["keys"].tolist() == [0, 2, 4, 6, 8]
    with np.load(tmp_path / "raw.npz", allow_pickle=False) as loaded:
        assert [loaded[str(n)].tobytes() for n in range(3)] == [b"\x00", b"", b"ab\x00"]


@pytest.mark.parametrize(
    "name", ["image", "label", "vector", "scan", "caption", "raw", "half", "day", "photo", "nothing"]
)
def test_parquet_comes_back_as_it_was(room, tmp_path, name):
    room.data[name].export(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["key", name]
    assert table["key"].to_pylist() == list(room.data[name])
    with bring_back(room, "parquet", tmp_path / "a.parquet", tmp_path / "back") as back:
        same(back.data[name], room.data[name])
        assert back.data[name].decoder == room.data[name].decoder
        assert list(back.data) == [name]
        assert list(back.data[name]) == list(room.data[name])
        assert back.data[name].shape == room.data[name].shape


@pytest.mark.parametrize("name", ["image", "label", "day", "half"])
def test_zarr_holds_one_array(room, tmp_path, name):
    room.data[name].export(tmp_path / "a.zarr")
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    expected = np.asarray(room.data[name])
    plain = expected.astype(np.float32) if name == "half" else expected
    assert array.dtype == plain.dtype
    np.testing.assert_array_equal(array[:], plain)
    assert array.attrs["stockroom"]["dtype"] == str(expected.dtype)


def test_zarr_is_a_group_where_keys_or_shapes_need_one(room, tmp_path):
    room.data["vector"].export(tmp_path / "vector.zarr")
    group = zarr.open_group(tmp_path / "vector.zarr", mode="r")
    assert group.attrs["keys"] == list(room.data["vector"])
    np.testing.assert_array_equal(group["vector"][:], room.data["vector"])
    room.data["scan"].export(tmp_path / "scan.zarr")
    group = zarr.open_group(tmp_path / "scan.zarr", mode="r")
    for key, sample in room.data["scan"].items():
        np.testing.assert_array_equal(group[str(key)][:], sample)
    room.data["label"].export(tmp_path / "label.zarr", keys=[7, 3])
    group = zarr.open_group(tmp_path / "label.zarr", mode="r")
    assert (group["keys"][:].tolist(), group["label"][:].tolist()) == ([7, 3], [2, 3])


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("image", ".png"), ("label", ".cls"), ("scan", ".npy"), ("caption", ".txt"), ("raw", ".bin"), ("photo", None)],
)
def test_tar_is_read_back_as_webdataset(room, tmp_path, name, suffix):
    room.data[name].export(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive:
        members = archive.getnames()
    assert members == ["a.png", "b%2Ec.jpg"] if suffix is None else members[0] == f"0{suffix}"
    with bring_back(room, "webdataset", tmp_path / "a.tar", tmp_path / "back") as back:
        assert list(back.data) == [name]
        assert list(back.data[name]) == list(room.data[name])
        same(back.data[name], room.data[name])


def test_a_folder_holds_a_file_for_each_sample(room, tmp_path):
    room.data["photo"].export(tmp_path / "photos")
    assert {file.name: file.read_bytes() for file in list_made(tmp_path / "photos")} == {
        "a.png": room.data["photo"].encoded["a"],
        "b.c.jpg": room.data["photo"].encoded["b.c"],
    }
    room.data["image"].export(tmp_path / "images", keys=slice(5))
    for key in range(5):
        with Image.open(tmp_path / "images" / f"{key}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), PIXELS[key])
    room.data["scan"].export(tmp_path / "scans")
    np.testing.assert_array_equal(np.load(tmp_path / "scans" / "6.npy"), room.data["scan"][6])
    room.data["nested"].export(tmp_path / "nested")
    assert [file.name for file in list_made(tmp_path / "nested")] == ["%5B%22patient%22,3%5D.npy"]


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("scan", "a.npy", "one array cannot hold"),
        ("caption", "a.npy", "one array cannot hold"),
        ("caption", "a.zarr", "Zarr cannot hold"),
        ("photo", "a.zarr", "Zarr cannot hold"),
        ("wave", "a.parquet", "Parquet cannot hold"),
    ],
)
def test_what_a_kind_of_file_cannot_hold_is_refused_and_leaves_nothing(room, tmp_path, name, file, message):
    with pytest.raises(InvalidInputError, match=message):
        room.data[name].export(tmp_path / file)
    assert list(tmp_path.iterdir()) == []


# -- the command line: any commit, any keys


def export(room: StockRoom, *words: object, json_too: bool = False) -> int:
    return main(["-C", str(room.path), "export", *map(str, words), *(["--json"] if json_too else ["-q"])])


def test_any_commit_keys_and_condition_choose_samples(room, tmp_path, capsys):
    assert export(room, "HEAD~1:data/image", "--to", tmp_path / "old.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "old.npy"), PIXELS)
    assert export(room, "data/label", "--to", tmp_path / "some.npy", "--keys", "8,3,5") == 0
    assert np.load(tmp_path / "some.npy").tolist() == [3, 3, 0]
    assert export(room, "data/label", "--to", tmp_path / "range.npy", "--keys", "10:300:100") == 0
    assert np.load(tmp_path / "range.npy").tolist() == [0, 0, 0]
    assert export(room, "HEAD~1:image", "--to", tmp_path / "w.npy", "--where", "label == 3", "--keys", "0:20") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "w.npy"), PIXELS[[3, 8, 13, 18]])
    assert export(room, "nested", "--to", tmp_path / "n.npy", "--keys", '["patient",3]') == 0
    assert np.load(tmp_path / "n.npy").tolist() == [7]
    capsys.readouterr()
    assert export(room, "data/label", "--to", tmp_path / "l.parquet", json_too=True) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 300


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["data/image", "--to", "{}/no/a.npy"], 1, "create it first"),
        (["data/image", "--to", "{}/a.csv"], 2, "expected a file ending in"),
        (["data/image", "--to", "{}/a.npy", "--keys", "x"], 2, "expected positions"),
        (["data/image", "--to", "{}/a.npy", "--keys", "999"], 1, "no sample under key 999"),
        (["data/image", "--to", "{}/a.npy", "--where", "label =="], 1, "condition"),
        (["data/image", "--to", "{}/a.npy", "--where", "vector == 1"], 1, "do not have the same keys"),
        (["data/imag", "--to", "{}/a.npy"], 1, "did you mean 'image'"),
    ],
)
def test_wrong_words_are_refused_in_one_line_and_leave_nothing(room, tmp_path, capsys, words, code, message):
    assert export(room, *(word.format(tmp_path) for word in words)) == code
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []


# -- what is there already


@pytest.mark.parametrize("file", ["a.npy", "a.npz", "a.parquet", "a.tar", "a.zarr", "a"])
def test_nothing_is_replaced_unless_forced(room, tmp_path, capsys, file):
    column, place = room.data["label"], tmp_path / file
    column.export(place)
    before = place.read_bytes() if place.is_file() else sorted(place.rglob("*"))
    with pytest.raises(InvalidInputError, match="already exists"):
        column.export(place, keys=[1])
    assert (place.read_bytes() if place.is_file() else sorted(place.rglob("*"))) == before
    assert export(room, "data/label", "--to", place, "--keys", "1", "--force") == 0
    assert list(tmp_path.iterdir()) == [place]
    assert (place.read_bytes() if place.is_file() else sorted(place.rglob("*"))) != before


def test_an_empty_folder_is_filled_and_a_link_is_never_followed(room, tmp_path):
    (tmp_path / "empty").mkdir()
    room.data["caption"].export(tmp_path / "empty")
    assert len(list_made(tmp_path / "empty")) == 5
    (tmp_path / "precious").write_text("precious")
    for name in ("a.npy", "a.zarr", "folder"):
        (tmp_path / name).symlink_to(tmp_path / "precious")
        with pytest.raises(InvalidInputError, match="already exists"):
            room.data["label"].export(tmp_path / name)
        room.data["label"].export(tmp_path / name, keys=[1, 2], force=True)
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "precious").read_text() == "precious"


def test_folders_that_hold_the_repository_are_never_replaced(room, tmp_path):
    for place in (room.path, room.path.parent, Path.cwd(), Path("/")):
        with pytest.raises(InvalidInputError, match="choose another folder"):
            room.data["label"].export(place, force=True)
    for place in (".stockroom", ".stockroom/packs", ".stockroom/a.npy"):
        with pytest.raises(InvalidInputError, match="the repository's own folder"):
            room.data["label"].export(room.path / place, force=True)
    assert room.verify().ok


@pytest.mark.parametrize(("name", "gone"), [("a", "0.npy"), ("z.zarr", "c")])
def test_only_what_an_earlier_export_made_is_replaced(room, tmp_path, name, gone):
    place = tmp_path / name
    (place / "notes").mkdir(parents=True)
    (place / "empty").mkdir()
    (place / "thesis.txt").write_text("years")
    (place / "notes/one.txt").write_text("one")
    (place / "link").symlink_to(tmp_path)
    assert export(room, "data/label", "--to", place, "--force") == 0
    made = {path.relative_to(place) for path in place.rglob("*")}
    assert Path(gone) in made
    assert export(room, "data/label", "--to", place, "--keys", "1", "--force") == 0
    left = {path.relative_to(place) for path in place.rglob("*")}
    assert Path(gone) not in left
    assert {Path(each) for each in ("thesis.txt", "notes/one.txt", "empty", "link")} <= left
    assert [(place / "thesis.txt").read_text(), (place / "notes/one.txt").read_text()] == ["years", "one"]
    shutil.move(place / "thesis.txt", tmp_path / "thesis.txt")
    for path in ("notes", "link", "empty"):
        shutil.move(place / path, tmp_path / f"moved-{path}")
    assert export(room, "data/label", "--to", place, "--force") == 0
    assert {path.relative_to(place) for path in place.rglob("*")} == made - {
        Path(each) for each in ("thesis.txt", "notes", "notes/one.txt", "empty", "link")
    }
    assert {path.name for path in tmp_path.iterdir()} == {
        name,
        "thesis.txt",
        "moved-notes",
        "moved-link",
        "moved-empty",
    }


@pytest.mark.parametrize("name", ["a", "z.zarr"])
def test_a_file_in_the_way_that_no_export_made_is_not_replaced(room, tmp_path, name):
    place, file = tmp_path / name, "3.npy" if name == "a" else "zarr.json"
    place.mkdir()
    (place / file).write_text("mine")
    with pytest.raises(InvalidInputError, match=rf"{file} is in the way, and no earlier export made it"):
        room.data["label"].export(place, force=True)
    (place / file).unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/0").write_text("mine")
    if name == "z.zarr":
        (place / "c").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InvalidInputError, match="c is in the way"):
            room.data["label"].export(place, force=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert (tmp_path / "elsewhere/0").read_text() == "mine"


def test_a_list_leads_to_nothing_outside_its_folder(room, tmp_path):
    place = tmp_path / "a"
    room.data["label"].export(place, keys=[1])
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/precious").write_text("precious")
    (place / "link").symlink_to(tmp_path / "other")
    (place / "mine").write_text("mine")
    files = ["1.npy", "../precious", str(tmp_path / "precious"), "link/precious", "a/../../precious", "", ".", "x\0"]
    (place / LIST_NAME).write_text(json.dumps({"version": 1, "files": files}))
    room.data["label"].export(place, keys=[2], force=True)
    assert (tmp_path / "precious").read_text() == (tmp_path / "other/precious").read_text() == "precious"
    assert {path.name for path in place.iterdir()} == {"2.npy", "link", "mine", LIST_NAME}
    for rubbish in ("", "[]", '{"version": 2, "files": []}', "x" * 100):
        (place / LIST_NAME).write_text(rubbish)
        with pytest.raises(InvalidInputError, match=r"2\.npy is in the way"):
            room.data["label"].export(place, keys=[2], force=True)


def test_an_export_that_is_killed_while_it_replaces_files_is_completed_by_the_next(room, tmp_path):
    place = tmp_path / "a"
    place.mkdir()
    (place / "mine").write_text("mine")
    room.data["label"].export(place, keys=slice(5), force=True)
    before = place / LIST_NAME
    listed = json.loads(before.read_text())["files"]
    before.write_text(json.dumps({"version": 1, "files": [*listed, "9.npy"]}))  # as it is while files are moved
    (place / "9.npy").write_text("moved")
    room.data["label"].export(place, keys=slice(2), force=True)
    assert {path.name for path in place.iterdir()} == {"mine", "0.npy", "1.npy", LIST_NAME}


def test_readers_of_a_zarr_group_do_not_see_the_list(room, tmp_path):
    for name in ("scan", "nested"):
        place = tmp_path / f"{name}.zarr"
        room.data[name].export(place)
        room.data[name].export(place, force=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(list(zarr.open_group(place, mode="r").members())) >= 1
        assert len(list(place.rglob(LIST_NAME))) == 1


def test_an_export_that_fails_half_way_leaves_what_was_there(room, tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("mine")
    (tmp_path / "a.npy").write_text("mine")
    for name in ("a", "a.npy", "a.npz", "a.parquet", "a.tar", "a.zarr"):
        with pytest.raises(KeyboardInterrupt):
            room.data["image"].export(tmp_path / name, force=True, on_progress=stop)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a", "a.npy", "mine.txt"]


def test_a_large_column_is_streamed(tmp_path):
    with StockRoom.init(tmp_path / "room") as stock:
        with stock.enable_write("large") as writer:
            writer.data["x"] = RNG.integers(0, 256, (64, 1 << 20), np.uint8)
        for name in ("a.npy", "a.npz", "a.parquet", "a.tar", "a.zarr", "a"):
            tracemalloc.start()
            try:
                stock.data["x"].export(tmp_path / name)
                assert tracemalloc.get_traced_memory()[1] < 40 << 20, name
            finally:
                tracemalloc.stop()


# -- hostile keys

HOSTILE = [
    "../../out",
    "/etc/out",
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "x\x00y",
    "é" * 300,
    "CON",
    "-rf",
    ".hidden",
    "~",
    "a\nb",
]


@pytest.mark.parametrize("name", ["a", "a.tar", "a.zarr", "a.npz"])
def test_hostile_keys_never_leave_the_target(tmp_path, name):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    with StockRoom.init(tmp_path / "room") as stock:
        with stock.enable_write("hostile") as writer:
            column = writer.data.create("x", dtype="float32", shape=(None,), keys="str")
            column.update({key: np.ones(n + 1, np.float32) for n, key in enumerate(HOSTILE)})
        before = set(tmp_path.rglob("*"))
        target = tmp_path / "in" / "deep" / name
        stock.data["x"].export(target)
    new = {file for file in tmp_path.rglob("*") if file not in before and tmp_path / "room" not in file.parents}
    assert all(file == target or target in file.parents for file in new)
    if name == "a":
        assert len([file for file in new if file.is_file() and file.name != LIST_NAME]) == len(HOSTILE)
    if name == "a.tar":
        with tarfile.open(target) as archive:
            names = archive.getnames()
        assert len(set(names)) == len(HOSTILE)
        assert all("/" not in each and not each.startswith((".", "-")) for each in names)


def test_keys_with_and_without_the_ending_both_have_a_file(tmp_path):
    with StockRoom.init(tmp_path / "room") as stock:
        with stock.enable_write("twins") as writer:
            writer.data["x"] = {"3": "a", "3.txt": "b", "3.TXT": "c"}
        stock.data["x"].export(tmp_path / "out")
    assert sorted(file.read_text() for file in list_made(tmp_path / "out")) == ["a", "b", "c"]


@given(st.lists(st.text(max_size=8) | st.text(min_size=200, max_size=300), unique=True, min_size=2, max_size=5))
def test_every_key_has_a_name_of_its_own_that_is_no_path(keys):
    for keeps_dots in (True, False):
        names = [name_file(key, keeps_dots=keeps_dots) for key in keys]
        assert len(set(names)) == len(keys)
        for name in names:
            assert name not in ("", ".", "..")
            assert not set(name) & {"/", "\\", "\x00", "\n"}
            assert len(os.fsencode(name)) <= 200


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (3,), (4,)]))
def test_our_png_files_are_read_by_pillow(height, width, channels):
    pixels = RNG.integers(0, 256, (height, width, *channels), np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_without_pyarrow_the_message_names_the_command(room, tmp_path):
    code = "import sys; sys.modules['pyarrow'] = None; from stockroom.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["export", "label", "--to", str(tmp_path / "a.parquet")]
    answer = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=room.path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert answer.stderr == "stock: Parquet needs pyarrow: install it with `pip install 'stockroom-vcs[tables]'`\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["", ".zarr"])
def test_a_folder_is_replaced_where_the_file_system_cannot_exchange_folders(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(folders, "try_exchange", lambda *_: False)
    with StockRoom.init(tmp_path / "repo") as stock:
        with stock.enable_write():
            stock.data["x"] = np.arange(12, dtype=np.int32).reshape(4, 3)
        target = tmp_path / f"out{ending}"
        stock.data["x"].export(target)
        first = sorted(path.relative_to(target) for path in target.rglob("*"))
        stock.data["x"].export(target, keys=range(2), force=True)
        again = sorted(path.relative_to(target) for path in target.rglob("*"))
        stock.data["x"].export(target, force=True)
    assert len(again) < len(first) or ending
    assert sorted(path.relative_to(target) for path in target.rglob("*")) == first
    assert [path.name for path in tmp_path.iterdir()].count(target.name) == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".stockroom")]


# -- what a kind of file cannot hold, and what other libraries make of the rest


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Columns whose names are those that exports use, and columns with attrs."""
    with StockRoom.init(tmp_path_factory.mktemp("marked")) as stock:
        with stock.enable_write("marked") as writer:
            data = writer.data
            for name in ("key", "keys"):
                data[name] = {"a": 1.5, "keys": 2.5}
            data["label"] = np.array([0, 1, 1], np.uint8)
            data["label"].attrs = {"classes": ["cat", "dog"], "unit": "none"}
            photos = data.create("photo", keys="str", decoder="image")
            photos["a"] = encode(PIXELS[0], "PNG")
            data["half"] = np.array([[1.5, np.nan], [-0.0, 3]], ml_dtypes.bfloat16)
            data["tiny"] = np.arange(4, dtype=ml_dtypes.float8_e4m3fn)
            data["old"] = np.array([1 << 40], "M8[D]")
            data["open"] = [np.zeros((0, 5), np.float32), np.zeros((2, 3), np.float32)]
            data["broken"] = {"\ud800": 1}
        yield stock


@pytest.mark.parametrize("name", ["key", "keys"])
def test_names_that_exports_use_lose_nothing(marked, tmp_path, name):
    column = marked.data[name]
    for ending in (".npz", ".parquet", ".zarr"):
        column.export(tmp_path / f"a{ending}")
    with np.load(tmp_path / "a.npz") as loaded:
        assert loaded[name].tolist() == [1.5, 2.5]
        assert loaded[{"keys": "keys_", "key": "keys"}[name]].tolist() == ["a", "keys"]
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.to_pydict() == {{"key": "key_", "keys": "key"}[name]: ["a", "keys"], name: [1.5, 2.5]}
    assert zarr.open_group(tmp_path / "a.zarr", mode="r")[name][:].tolist() == [1.5, 2.5]


def test_datasets_reads_shapes_labels_and_images(marked, room, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    found = {}
    for stock, name in ((marked, "label"), (marked, "photo"), (marked, "half"), (room, "image"), (room, "scan")):
        file = tmp_path / f"{name}.parquet"
        stock.data[name].export(file, keys=slice(3))
        found[name] = datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(tmp_path))
    assert found["label"].features["label"].names == ["cat", "dog"]
    assert found["label"]["label"][:] == [0, 1, 1]
    np.testing.assert_array_equal(np.asarray(found["photo"][0]["photo"]), PIXELS[0])
    half = found["half"].with_format("numpy")["half"][:]
    np.testing.assert_array_equal(half, np.asarray(marked.data["half"]).astype(np.float32))
    np.testing.assert_array_equal(found["image"].with_format("numpy")["image"][:], PIXELS[:3])
    np.testing.assert_array_equal(np.asarray(found["scan"][2]["scan"], np.float32), room.data["scan"][2])


def test_pandas_reads_shapes_and_small_floats(marked, room, tmp_path):
    pandas = pytest.importorskip("pandas")
    marked.data["tiny"].export(tmp_path / "tiny.parquet")
    assert pandas.read_parquet(tmp_path / "tiny.parquet")["tiny"].tolist() == [0.0, 1.0, 2.0, 3.0]
    room.data["vector"].export(tmp_path / "vector.parquet")
    frame = pandas.read_parquet(tmp_path / "vector.parquet").set_index("key")
    for key, sample in room.data["vector"].items():
        np.testing.assert_array_equal(frame.loc[key, "vector"], sample)


def test_webdataset_reads_the_samples(marked, room, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    marked.data["label"].export(tmp_path / "label.tar", on_left_out=[].append)
    room.data["scan"].export(tmp_path / "scan.tar")
    rows = list(webdataset.WebDataset(str(tmp_path / "label.tar"), shardshuffle=False).decode())
    assert [(row["__key__"], row["cls"]) for row in rows] == [("0", 0), ("1", 1), ("2", 1)]
    rows = list(webdataset.WebDataset(str(tmp_path / "scan.tar"), shardshuffle=False).decode())
    for row, sample in zip(rows, room.data["scan"].values(), strict=True):
        np.testing.assert_array_equal(row["npy"], sample)


@pytest.mark.parametrize(
    ("ending", "lines"),
    [
        (
            ".npy",
            ["left out the attrs `classes`, `unit`; an .npy cannot hold them; .parquet and .zarr can", "the keys"],
        ),
        (".npz", ["left out the attrs `classes`, `unit`; an .npz cannot hold them"]),
        (".tar", ["a .tar cannot hold them"]),
        ("", ["a folder cannot hold them"]),
        (".parquet", []),
        (".zarr", []),
    ],
)
def test_what_is_left_out_is_said_in_a_line(marked, tmp_path, capsys, ending, lines):
    words = ["-C", str(marked.path), "export", "label", "--to", str(tmp_path / f"a{ending}"), "--keys", "2,0"]
    assert main(words) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(said) == len(lines)
    assert all(line in found and "column 'label'" in found for line, found in zip(lines, said, strict=True))
    assert main([*words, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == said
    if lines:
        with pytest.warns(UserWarning, match="left out the attrs"):
            marked.data["label"].export(tmp_path / f"b{ending}")


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("old", "a.parquet", "column 'old' .* dates of more than 32 bits"),
        ("open", "a.parquet", r"column 'open' has a sample of shape \(0, 5\) under key 0"),
        ("broken", "a.parquet", "column 'broken' has the key"),
    ],
)
def test_values_that_parquet_would_change_are_refused_by_name(marked, tmp_path, name, file, message):
    with pytest.raises(InvalidInputError, match=message):
        marked.data[name].export(tmp_path / file)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_a_name_with_a_dot_needs_a_slash(room, tmp_path, capsys):
    column = room.data["caption"]
    for place in ("a.foo", "images.v2"):
        with pytest.raises(InvalidInputError, match=r"\.zarr or \.tar, or a folder, found .*for a folder of that name"):
            column.export(tmp_path / place)
        assert export(room, "caption", "--to", tmp_path / place) == 2
        assert not (tmp_path / place).exists()
    column.export(f"{tmp_path}/a.foo/")
    assert export(room, "caption", "--to", f"{tmp_path}/images.v2/") == 0
    assert len(list_made(tmp_path / "a.foo")) == len(list_made(tmp_path / "images.v2")) == 5
    column.export(tmp_path / "a.foo", force=True)  # the folder is there: its name says what it is
