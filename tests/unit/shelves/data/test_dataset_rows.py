"""Data sets of other libraries: `import_from`, and any class of torchvision's."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import tracemalloc
import warnings
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from tests.kit.hostile import Hostile
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from stockroom import InvalidInputError, InvalidNameError, SchemaError, StockRoom
from stockroom.importers.source import ImportSpec
from stockroom.importers.vision import VisionImporter
from stockroom.shelves.data.dataset_rows import BATCH_NBYTES

RNG = np.random.default_rng(0)


class Pairs(Dataset):
    """Images of two sizes and their numbers."""

    def __len__(self) -> int:
        return 700

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(np.full((4 + index % 2, 5, 3), index % 256, np.uint8)), index


class Stream(IterableDataset):
    """Dicts, nested and with holes."""

    def __iter__(self):
        for n in range(50):
            yield {
                "x": torch.full((2, 3), n, dtype=torch.bfloat16),
                "boxes": torch.zeros(n % 3, 4),
                "meta": {"name": f"n{n}", "odd": n if n % 2 else None},
                "words": ["a", "b"],
                "points": [[1, 2], [3, 4]],
            }


def test_a_map_style_data_set_becomes_columns_widened_as_shapes_differ(stock):
    with stock.enable_write("pairs") as writer:
        assert writer.data.import_from(Pairs(), ["image", "label"]) == ("image", "label")
    assert stock.data["image"].shape == (None, 5, 3)
    assert np.asarray(stock.data["label"]).tolist() == list(range(700))
    for key in (0, 1, 699):
        np.testing.assert_array_equal(stock.data["image"][key], np.asarray(Pairs()[key][0]))


def test_an_iterable_data_set_of_dicts_becomes_a_column_for_each_value(stock):
    with stock.enable_write("stream") as writer:
        names = writer.data.import_from(Stream(), prefix="s-")
    assert names == ("s-x", "s-boxes", "s-meta.name", "s-meta.odd", "s-words", "s-points")
    assert (str(stock.data["s-x"].dtype), stock.data["s-boxes"].shape) == ("bfloat16", (None, 4))
    assert list(stock.data["s-meta.odd"]) == list(range(1, 50, 2))
    assert stock.data["s-words"][3] == '["a", "b"]'
    assert stock.data["s-points"][3].tolist() == [[1, 2], [3, 4]]


def test_tuples_and_values_without_names_get_some(stock):
    with stock.enable_write("sets") as writer:
        assert writer.data.import_from(TensorDataset(torch.arange(3), torch.ones(3))) == ("item0", "item1")
        assert writer.data.import_from(["a", "b"], ["text"]) == ("text",)
        assert writer.data.import_from(n for n in range(5)) == ("item",)
        assert writer.data.import_from([]) == ()
    assert len(stock.data["item"]) == 5


def test_what_fails_leaves_the_columns_as_they_were(stock):
    with stock.enable_write("first") as writer:
        writer.data["label"] = [7]
    with stock.enable_write("nothing") as writer:
        for samples, message in {
            ((1, 2), (3,)): "sample 1: expected 2 values",
            ((1, 2), (3, "x")): "column 'b', key 1",
            ((1, 2), (3, object())): "sample 1, 'b': expected numbers, arrays",
        }.items():
            with pytest.raises(SchemaError, match=message):
                writer.data.import_from(list(samples), ["label", "b"])
        with pytest.raises(SchemaError, match="expected a data set"):
            writer.data.import_from(3)
        assert list(writer.data) == ["label"]
        assert np.asarray(writer.data["label"]).tolist() == [7]


def test_a_large_data_set_is_streamed(stock):
    def generate():
        for n in range(300):
            yield np.full(1 << 18, n % 256, np.uint8)

    with stock.enable_write("large") as writer:
        writer.data["warm"] = np.zeros((4, 1 << 18), np.uint8)
        tracemalloc.start()
        try:
            writer.data.import_from(generate(), ["x"])
            assert tracemalloc.get_traced_memory()[1] < 6 * BATCH_NBYTES
        finally:
            tracemalloc.stop()
    assert (stock.data["x"][299] == 299 % 256).all()


# -- torchvision's classes, of which tests write what is needed of the package: its class names and their arguments

PACKAGE = """
import numpy as np
from PIL import Image

class Folder:
    def __init__(self, root, transform=None):
        self.n = int((__import__("pathlib").Path(root) / "n").read_text())
    def __len__(self):
        return self.n

class SVHN(Folder):
    def __init__(self, root, split="train", transform=None, download=False):
        super().__init__(root)
        if split not in ("train", "test"):
            raise ValueError(f"Unknown split {split}")
        self.split = split
    def __getitem__(self, index):
        return Image.fromarray(np.full((4, 4, 3), index, np.uint8)), index % 10

class KMNIST(Folder):
    classes = ["o", "ki"]
    def __init__(self, root, train=True, download=False):
        super().__init__(root)
        self.train = train
    def __getitem__(self, index):
        return Image.fromarray(np.full((5, 5), index, np.uint8)), int(self.train)

class EMNIST(KMNIST):
    splits = ("letters", "digits")
    def __init__(self, root, split, **kwargs):
        super().__init__(root, **kwargs)

class LSUN(Folder):
    def __init__(self, root, classes="train"):
        super().__init__(root)
        import pickle
        self.keys = pickle.loads((__import__("pathlib").Path(root) / "cache").read_bytes())
    def __getitem__(self, index):
        return Image.fromarray(np.full((4, 4), self.keys[index], np.uint8)), 0

class VOCSegmentation(Folder):
    def __init__(self, root, year="2012", image_set="train"):
        super().__init__(root)
    def __getitem__(self, index):
        if index == 99:
            raise OSError("image file is truncated")
        mask = Image.fromarray(np.full((4 + index, 6), index, np.uint8)).convert("P")
        return Image.fromarray(np.zeros((4 + index, 6, 3), np.uint8)), mask
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with data for the classes, which are importable as torchvision.datasets."""
    (tmp_path / "lib" / "torchvision").mkdir(parents=True)
    (tmp_path / "lib" / "torchvision" / "__init__.py").write_text("")
    (tmp_path / "lib" / "torchvision" / "datasets.py").write_text(PACKAGE)
    (tmp_path / "n").write_text("3")
    StockRoom.init(tmp_path).close()
    return tmp_path


def run(package: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.path.insert(0, 'lib'); from stockroom.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "import", *words, "--root", "."]
    return subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)


def list_columns(package: Path) -> dict[str, int]:
    with StockRoom(package) as stock:
        return {name: len(column) for name, column in stock.data.items()}


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        (["torchvision.svhn"], {"svhn-train-image": 3, "svhn-train-label": 3}),
        (["torchvision.svhn", "--split", "test"], {"svhn-test-image": 3, "svhn-test-label": 3}),
        (
            ["torchvision.kmnist"],
            {f"kmnist-{side}-{kind}": 3 for side in ("test", "train") for kind in ("image", "label")},
        ),
        (["torchvision.kmnist", "--split", "test"], {"kmnist-test-image": 3, "kmnist-test-label": 3}),
        (
            ["torchvision.emnist", "--split", "letters"],
            {f"emnist-letters-{side}-{kind}": 3 for side in ("test", "train") for kind in ("image", "label")},
        ),
        (["torchvision.voc_segmentation"], {"voc_segmentation-train-image": 3, "voc_segmentation-train-target": 3}),
    ],
)
def test_a_class_of_torchvisions_is_imported_split_by_split(package, words, columns):
    answer = run(package, *words)
    assert answer.returncode == 0, answer.stderr
    assert list_columns(package) == columns


def test_what_a_class_gives_is_what_the_columns_hold(package):
    run(package, "torchvision.voc_segmentation")
    run(package, "torchvision.kmnist")
    with StockRoom(package) as stock:
        target = stock.data["voc_segmentation-train-target"]
        assert (target.shape, target[2].tolist()) == ((None, 6), [[2] * 6] * 6)
        assert stock.data["kmnist-test-label"].attrs == {"classes": ["o", "ki"]}
        assert np.asarray(stock.data["kmnist-train-label"]).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["torchvision.emnist"], "expected --split to name the part to import (letters, digits"),
        (["torchvision.kmnist", "--split", "dev"], "expected --split train or test, found 'dev'"),
        (["torchvision.svhn", "--split", "dev"], "Unknown split dev"),
        (["torchvision.stl10"], "the installed torchvision has no such data set"),
        (["torchvision.stl11"], "did you mean torchvision.stl10"),
        (["torchvision.voc_segmentation"], "sample 99 cannot be read: OSError: image file is truncated"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(package, words, message):
    (package / "n").write_text("100")
    answer = run(package, *words)
    assert (answer.returncode, len(answer.stderr.splitlines())) == (1, 1), answer.stderr
    assert message in answer.stderr
    assert list_columns(package) == {}


def test_a_class_that_unpickles_a_file_of_the_folder_gets_no_code_out_of_it(package, tmp_path):
    (package / "cache").write_bytes(pickle.dumps([1, 2, 3]))
    assert run(package, "torchvision.lsun").returncode == 0
    (package / "cache").write_bytes(pickle.dumps([1, Hostile(tmp_path / "mark")]))
    answer = run(package, "torchvision.lsun")
    assert answer.returncode == 1
    assert "a pickle asks for posix.system, which is code; nothing was executed" in answer.stderr
    assert not (tmp_path / "mark").exists()


def test_without_torchvision_the_message_names_the_command(package):
    (package / "lib" / "torchvision" / "datasets.py").write_text(
        textwrap.dedent("""
        raise RuntimeError("operator torchvision::nms does not exist")
        """)
    )
    answer = run(package, "torchvision.svhn")
    assert answer.returncode == 1
    assert "pip install torchvision" in answer.stderr
    with pytest.raises(InvalidInputError, match="expected the folder of its files"):
        VisionImporter().open(ImportSpec("torchvision.svhn", paths=(package,)))


def test_a_dict_of_columns_is_a_table(stock):
    with stock.enable_write("table") as writer:
        table = {
            "n": [1, 2],
            "x": np.ones((2, 3)),
            "t": torch.zeros(2),
            "s": ("a", "b"),
            "nested": [{"k": 1}, {"k": 2}],
        }
        assert writer.data.import_from(table) == ("n", "x", "t", "s", "nested.k")
    assert (stock.data["x"].shape, stock.data["t"].dtype, stock.data["s"][1]) == ((3,), np.float32, "b")
    assert stock.data["nested.k"][1] == 2


def test_what_is_iterated_by_its_titles_or_keys_is_refused(stock):
    table = pyarrow.table({"ab": ["x", "y"], "cd": ["z", "w"]})
    with stock.enable_write("nothing") as writer:
        texts = writer.data.create("texts", dtype=str, keys="str")
        labels = writer.data.create("labels", dtype="int64")
        labels.extend([7, 8])
        refused = [
            "abc",
            b"abc",
            labels,
            {0: {"n": 1}},
            {"a": "text"},
            {"a": [1], "b": [1, 2]},
            {"a": np.array(1)},
        ]
        for dataset in refused:
            with pytest.raises(SchemaError, match=r"expected (a data set|rows|columns of one length)"):
                writer.data.import_from(dataset, ["x"])
        for values in (table, {5: 6}, "ab"):
            with pytest.raises(InvalidInputError, match="column 'labels'"):
                labels.extend(values)
        with pytest.raises(SchemaError, match="column 'texts': expected pairs of key and sample, found str"):
            texts.update(["ab"])
        with pytest.raises(SchemaError, match="column 'new': expected an array"):
            writer.data["new"] = table
        labels.extend(labels)
        assert [int(n) for n in labels.values()] == [7, 8, 7, 8]
        assert (list(writer.data), len(texts)) == (["labels", "texts"], 0)


def test_what_is_replaced_is_said(stock):
    with stock.enable_write("train") as writer:
        writer.data.import_from([{"image": 1, "label": 1, "note": "x"}, {"image": 2, "label": 2, "note": None}])
    with stock.enable_write("again") as writer, warnings.catch_warnings():
        warnings.simplefilter("error")
        writer.data.import_from([{"image": 1}, {"image": 2}])  # the same again
        writer.data.import_from([{"new": 1}])
    with stock.enable_write("test") as writer:
        with pytest.warns(UserWarning, match="replaced") as said:
            writer.data.import_from([{"image": 9, "label": None, "note": None}])
        assert [str(warning.message).split(";")[0] for warning in said] == [
            "column 'image': 2 other samples were replaced",
            "column 'label': 2 other samples were replaced",
            "column 'note': 1 other samples were replaced",
        ]
        assert said[0].filename == __file__
        assert list(writer.data) == ["image", "new"]
        with pytest.raises(SchemaError):
            writer.data.import_from([{"image": None}, {"image": object()}])
        assert writer.data["image"][0] == 9


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ([[], [1, 2], []], [[], [1, 2], []]),
        ([[1.5], []], [[1.5], []]),
        ([[]], [[]]),
        ([[], ["a"]], ["[]", '["a"]']),
        ([[], [[1, 2], [3, 4]], [[], []]], [[], [[1, 2], [3, 4]], [[], []]]),
        ([None, [], [True]], [[], [True]]),
    ],
)
def test_an_empty_list_is_of_the_dtype_of_the_others(stock, lists, expected):
    with stock.enable_write("lists") as writer:
        writer.data.import_from([{"x": value} for value in lists])
    column = stock.data["x"]
    assert [value if isinstance(value, str) else value.tolist() for value in column.values()] == expected
    assert column.dtype == np.asarray(next((value for value in lists if value and value != [[], []]), [])).dtype or (
        column.dtype == "str"
    )


def test_empty_lists_are_filled_in_across_batches(stock):
    with stock.enable_write("lists") as writer:
        writer.data.import_from([{"x": [], "n": n} for n in range(3000)] + [{"x": [1, 2], "n": 3000}])
    assert len(stock.data["x"]) == len(stock.data["n"]) == 3001
    assert (stock.data["x"].dtype, stock.data["x"][0].shape, stock.data["x"][3000].tolist()) == (np.int64, (0,), [1, 2])


def test_a_data_frame_of_pandas_is_a_table(stock):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "id": [1 << 60, (1 << 60) + 1],
            "x": [0.5, None],
            "text": ["a", None],
            "time": pandas.to_datetime(["2026-01-01T00:00:00.000000001"] * 2).tz_localize("Europe/Berlin"),
            "kind": pandas.Categorical(["b", "a"], categories=["b", "a", "never"]),
            "vector": [[1, 2], [3, 4]],
        }
    )
    with stock.enable_write("frame") as writer:
        names = writer.data.import_from(frame)
    assert names == ("id", "x", "text", "time", "kind", "vector")
    assert [int(n) for n in stock.data["id"].values()] == [1 << 60, (1 << 60) + 1]
    np.testing.assert_array_equal(stock.data["x"], [0.5, np.nan])
    assert dict(stock.data["text"]) == {0: "a"}
    assert stock.data["time"].attrs == {"timezone": "Europe/Berlin"}
    assert stock.data["time"][0] == np.datetime64("2025-12-31T23:00:00.000000001")
    assert (stock.data["kind"].attrs, stock.data["kind"][0]) == ({"categories": ["b", "a", "never"]}, "b")
    np.testing.assert_array_equal(stock.data["vector"], [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("index", "found"),
    [
        (None, {}),
        ([0, 1], {}),
        (range(5, 7), {"index": [5, 6]}),
        (["p", "q"], {"index": ["p", "q"]}),
        ({"patient": ["p", "q"]}, {"patient": ["p", "q"]}),
    ],
)
def test_an_index_of_pandas_that_does_more_than_number_the_rows_is_a_column(stock, index, found):
    pandas = pytest.importorskip("pandas")
    named = pandas.Index(index["patient"], name="patient") if isinstance(index, dict) else index
    frame = pandas.DataFrame({"n": [1, 2]}, index=named)
    with stock.enable_write("frame") as writer:
        writer.data.import_from(frame, prefix="a-")
    columns = {name: np.asarray(list(column.values())).tolist() for name, column in stock.data.items()}
    assert columns == {"a-n": [1, 2]} | {f"a-{name}": values for name, values in found.items()}


def test_a_column_of_a_data_frame_that_cannot_be_kept_is_refused_by_name(stock):
    pandas = pytest.importorskip("pandas")
    with stock.enable_write("frame") as writer:
        writer.data["b"] = [1]
        with pytest.raises(SchemaError, match=r"expected columns of numbers.*column b"):
            writer.data.import_from(pandas.DataFrame({"a": [1], "b": [object()]}))
        with pytest.raises(SchemaError, match=r"column 'b': values of list<.*binary> cannot be samples"):
            writer.data.import_from(pyarrow.table({"a": [1], "b": [[b"x"]]}))
        with pytest.raises(SchemaError, match="expected names for 1 columns"):
            writer.data.import_from(pyarrow.table({"a": [1]}), ["x", "y"])
        with pytest.raises(InvalidNameError):
            writer.data.import_from(pyarrow.table({"b": [2], "a b": [1]}))
        assert {name: list(column.values()) for name, column in writer.data.items()} == {"b": [1]}
        with pytest.warns(UserWarning, match="column 'none': left out, as it has no values"):
            assert writer.data.import_from(pyarrow.table({"a": [1], "none": pyarrow.nulls(1)})) == ("a",)


def test_dates_and_durations_of_python_are_samples(stock):
    rows = [
        {"day": date(2026, 1, 2), "at": datetime(2026, 1, 2, 3, 4, 5, 6), "took": timedelta(days=-1, microseconds=1)}
    ]
    with stock.enable_write("times") as writer:
        writer.data.import_from(rows)
        with pytest.raises(SchemaError, match="give a time in UTC without its zone"):
            writer.data.import_from([{"x": datetime(2026, 1, 2, tzinfo=UTC)}])
        with pytest.raises(SchemaError, match="does not fit"):
            writer.data.import_from([{"x": timedelta.max}])
    assert {name: column[0] for name, column in stock.data.items()} == {
        "day": np.datetime64("2026-01-02"),
        "at": np.datetime64("2026-01-02T03:04:05.000006"),
        "took": np.timedelta64(-86_399_999_999, "us"),
    }
