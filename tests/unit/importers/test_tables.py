"""Tables as columns: csv, Parquet and data sets of Hugging Face's."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stockroom import CorruptionError, InvalidInputError, StockRoom, StockroomError
from stockroom.importers.column_names import name_columns
from stockroom.importers.limits import Limits
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import BATCH_NBYTES, ImportSpec
from stockroom.trees import Tree

RNG = np.random.default_rng(0)


def bring_in(stock: StockRoom, source: str, *paths: Path, **options: object):
    with stock.enable_write("table") as writer:
        sources = resolve_importer(source).open(ImportSpec(source, paths=paths, **options))
        return import_into(writer, sources)


def values_of(stock: StockRoom, name: str) -> dict:
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in stock.data[name].items()}


# -- csv


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_each_csv_column_is_of_the_first_kind_that_has_all_its_cells(stock, tmp_path):
    path = write(
        tmp_path / "a.csv",
        "flag,n,x,zip,far,text,none\n"
        "true,1,1,007,12345678901234567890,ä,\n"
        'False,-20,.5e3,80331,1,"two\nlines",\n'
        "TRUE,9223372036854775807,nan,1,2,,\n",
    )
    report = bring_in(stock, "csv", path)
    assert report.columns == ("flag", "n", "x", "zip", "far", "text", "none")
    assert [str(stock.data[name].dtype) for name in report.columns] == [
        *("bool", "int64", "float64", "str", "str", "str", "str"),
    ]
    assert values_of(stock, "flag") == {0: True, 1: False, 2: True}
    assert values_of(stock, "n") == {0: 1, 1: -20, 2: (1 << 63) - 1}
    np.testing.assert_array_equal(stock.data["x"], [1, 500, np.nan])
    assert values_of(stock, "zip")[0] == "007"
    assert values_of(stock, "far")[0] == "12345678901234567890"
    assert values_of(stock, "text") == {0: "ä", 1: "two\nlines", 2: ""}


def test_an_empty_cell_is_nan_among_floats_and_no_sample_among_integers(stock, tmp_path):
    bring_in(stock, "csv", write(tmp_path / "a.tsv", "n\tx\n1\t1.5\n\t\n3\t\n"))
    assert values_of(stock, "n") == {0: 1, 2: 3}
    np.testing.assert_array_equal(stock.data["x"], [1.5, np.nan, np.nan])


def test_titles_that_are_no_names_are_kept_as_attrs(stock, tmp_path):
    bring_in(stock, "csv", write(tmp_path / "a.csv", "petal width (cm);..;x\n1;2;3\n"))
    assert {name: dict(column.attrs) for name, column in stock.data.items()} == {
        "petal_width_(cm)": {"title": "petal width (cm)"},
        "column1": {"title": ".."},
        "x": {},
    }


def test_several_files_of_the_same_titles_are_one_table(stock, tmp_path):
    first, second = write(tmp_path / "a.csv", "n\n1\n2\n"), write(tmp_path / "b.csv", "n\n2.5\n")
    bring_in(stock, "csv", first, second)
    np.testing.assert_array_equal(stock.data["n"], [1, 2, 2.5])
    with pytest.raises(InvalidInputError, match="found others; import it separately"):
        bring_in(stock, "csv", first, write(tmp_path / "c.csv", "m\n1\n"))


def test_rows_of_another_length_are_refused_or_left_out(stock, tmp_path):
    path = write(tmp_path / "a.csv", "a,b\n1,2\n3\n\n4,5,6\n7,8\n")
    with pytest.raises(CorruptionError, match=r"a\.csv, line 3: expected 2 cells, found 1"):
        bring_in(stock, "csv", path)
    report = bring_in(stock, "csv", path, skip_broken=True)
    assert [line[-16:] for line in report.skipped] == ["2 cells, found 1", "2 cells, found 3"]
    assert values_of(stock, "b") == {0: 2, 1: 8}


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1234567890123456789", "nan"], "str"),  # a float would make one id of two
        (["nan", "1234567890123456789"], "str"),
        (["1234567890123456789", "0.5"], "str"),
        (["1234567890123456789", "", "7"], "int64"),
        (["9007199254740992", "0.5"], "float64"),
        (["9007199254740993", "0.5"], "str"),
        (["9223372036854775808"], "str"),
        (["0.12345678901234567890"], "str"),
        (["0.1", "0.30000000000000004", "1.797e308", "-2.5E-3", ".5", "4."], "float64"),
        (
            ["1.000000000000000056e-01", "0.1000000000000000055511151231257827"],
            "float64",
        ),  # as numpy.savetxt prints 0.1
        (["0.10000000000000000000"], "float64"),
        (["1e999"], "str"),
        (["1e-999"], "str"),
        (["+4930123"], "str"),
        (["007"], "str"),
        ([" 1", "2 ", "3"], "int64"),
        ([" 1", " x"], "str"),
        ([" true", "False"], "bool"),
        (["true", "1"], "str"),
        (["", ""], "str"),
    ],
)
def test_a_column_is_of_numbers_only_if_they_give_every_cell_back(stock, tmp_path, cells, kind):
    bring_in(stock, "csv", write(tmp_path / "a.csv", "row,x\n" + "".join(f"r,{cell}\n" for cell in cells)))
    assert stock.data["x"].dtype == kind
    if kind == "str":
        assert list(stock.data["x"].values()) == cells
    else:
        assert values_of(stock, "x") == {key: json.loads(cell.strip().lower()) if kind != "float64" else float(cell)
                                         for key, cell in enumerate(cells) if cell}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("Preis (brutto, EUR, je kg);Menge\n12,5;3\n", ["Preis (brutto, EUR, je kg)", "Menge"]),
        ("Preis (brutto, EUR, je kg);Menge\n", ["Preis (brutto, EUR, je kg)", "Menge"]),
        ('"a;b;c",d\n1,2\n', ["a;b;c", "d"]),
        ("a\tb, c, d\n1\t2\n", ["a", "b, c, d"]),
        ("a|b\n1,0|2,0\n", ["a", "b"]),
        ("a, b\n1, 2\n", ["a", " b"]),
        ("a\nx\n", ["a"]),
        ('a;b\n"1\n2;3";4\n', ["a", "b"]),
    ],
)
def test_the_delimiter_is_the_one_that_fits_the_rows(stock, tmp_path, text, titles):
    bring_in(stock, "csv", write(tmp_path / "a.csv", text))
    assert [column.attrs.get("title", name) for name, column in stock.data.items()] == sorted(titles, key=str.strip)


def test_empty_lines_are_counted_and_said(stock, tmp_path):
    report = bring_in(stock, "csv", write(tmp_path / "a.csv", 'n\n1\n\n""\n2\n'))
    assert values_of(stock, "n") == {0: 1, 2: 2}
    assert (report.left_out.summarize(), report.left_out.list_lines()) == (
        "1 line: 1 empty line",
        [f"{tmp_path / 'a.csv'}, line 3: empty line"],
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_names_the_encoding(stock, tmp_path, encoding):
    (tmp_path / "a.csv").write_text("ä,b\nö,1\n", encoding=encoding)
    bring_in(stock, "csv", tmp_path / "a.csv")
    assert (values_of(stock, "ä"), values_of(stock, "b")) == ({0: "ö"}, {0: 1})


def test_a_pipe_is_a_table_too(stock, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=write, args=(tmp_path / "pipe", "n,x\n1,2\n3,nan\n"))
    writer.start()
    bring_in(stock, "csv", tmp_path / "pipe")
    writer.join()
    assert values_of(stock, "n") == {0: 1, 1: 3}
    command = [sys.executable, "-m", "stockroom", "import", "csv", "-"]
    answer = subprocess.run(command, cwd=stock.path, input=b"m\n7\n", capture_output=True, check=False)
    assert (answer.returncode, answer.stderr.decode().count("imported 1 sample")) == (0, 1)


def test_a_large_cell_is_text_up_to_the_limit(stock, tmp_path):
    path = write(tmp_path / "a.csv", f"a,b\n{'x' * 300_000},1\n")
    bring_in(stock, "csv", path)
    assert len(stock.data["a"][0]) == 300_000
    with pytest.raises(
        InvalidInputError, match=r"a\.csv: expected at most 67108 characters in a cell.*--limits FACTOR"
    ):
        bring_in(stock, "csv", path, limits=Limits(1e-3))


def test_thousands_of_columns_are_one_edit_of_the_root_tree(stock, tmp_path):
    def count_nodes(columns: int) -> int:
        path = write(tmp_path / "a.csv", "\n".join(",".join(f"{row}{n}" for n in range(columns)) for row in "a12"))
        with stock.enable_write("wide") as writer:
            edit, written = Tree.edit, []
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Tree, "edit", lambda *args, **more: written.append(1) or edit(*args, **more))
                import_into(writer, resolve_importer("csv").open(ImportSpec("csv", paths=(path,))))
                writer.status()
        return len(written)

    assert count_nodes(20) <= 20 + 3
    assert count_nodes(200) <= 200 + 3  # one for each column, few for the root tree
    assert count_nodes(200) <= 200 + 3  # also if they replace others


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", InvalidInputError, "expected column titles"),
        (b"a,b,a\n1,2,3\n", InvalidInputError, "found 'a' twice"),
        (b"A,a\n1,2\n", InvalidInputError, "both become column"),
        (b"a\n\xff\xfe\n", InvalidInputError, "expected text in UTF-8"),
        (b"a\nM\xfcll\n", InvalidInputError, "expected text in UTF-8.* found other bytes.*iconv"),
        ("a\nb\n".encode("utf-16-le"), InvalidInputError, "found NUL characters; convert UTF-16"),
        (b'a\n"open\n', CorruptionError, "expected comma-separated values"),
        (b"\x1f\x8b\x08\x00", InvalidInputError, "expected text in UTF-8"),
    ],
)
def test_files_that_are_no_tables_are_refused(stock, tmp_path, data, error, message):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(error, match=message):
        bring_in(stock, "csv", tmp_path / "a.csv")


def test_a_large_csv_is_streamed(tmp_path):
    path = write(tmp_path / "a.csv", "n,text\n" + "".join(f"{n},{'word ' * 20}\n" for n in range(120_000)))
    tracemalloc.start()
    try:
        (source,) = resolve_importer("csv").open(ImportSpec("csv", paths=(path,)))
        assert sum(len(batch["n"]) for batch in source.batches()) == source.count == 120_000
        assert tracemalloc.get_traced_memory()[1] < 3 * BATCH_NBYTES
    finally:
        tracemalloc.stop()


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_names_made_of_titles_differ_or_are_refused(titles):
    with contextlib.suppress(InvalidInputError):
        names = name_columns(titles, "here")
        assert len({name.casefold() for name in names.values()}) == len(titles)


# -- parquet


@pytest.fixture
def table() -> pa.Table:
    """Every kind of column that tables commonly have, three rows."""
    tensors = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.float32(), (2, 3)),
        pa.FixedSizeListArray.from_arrays(pa.array(np.arange(18, dtype="f4")), 6),
    )
    return pa.table(
        {
            "n": pa.array([1, 2, 3], pa.uint16()),
            "hole": pa.array([1, None, 3], pa.int32()),
            "x": pa.array([1.5, None, 2.5]),
            "half": pa.array(np.array([1, 2, 3], "f2")),
            "flag": pa.array([True, None, False]),
            "text": pa.array(["a", None, "ä"]),
            "raw": pa.array([b"\x00", b"", None]),
            "day": pa.array(np.array(["2026-01-01", "2026-01-02", "1969-12-31"], "M8[D]")),
            "time": pa.array(np.array([1, 2, -3], "M8[us]"), pa.timestamp("us", "UTC")),
            "fruit": pa.array(["pear", "fig", "pear"]).dictionary_encode(),
            "vector": pa.array([[1, 2], [3], None], pa.list_(pa.int16())),
            "pair": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float64(), 2)),
            "matrix": pa.array([[[1, 2], [3, 4]], [[5, 6]], []], pa.list_(pa.list_(pa.int64()))),
            "tensor": tensors,
            "words": pa.array([["a", "b"], [], None]),
            "struct": pa.array([{"a": 1}, {"a": None}, None]),
            "price": pa.array(["1.50", "2.00", "3.25"]).cast(pa.decimal128(5, 2)),
            "nothing": pa.nulls(3),
        }
    )


def check_table(stock: StockRoom) -> None:
    dtypes = {name: str(column.dtype) for name, column in stock.data.items()}
    assert dtypes == {
        "n": "uint16",
        "hole": "int32",
        "x": "float64",
        "half": "float16",
        "flag": "bool",
        "text": "str",
        "raw": "bytes",
        "day": "datetime64[D]",
        "time": "datetime64[us]",
        "fruit": "str",
        "vector": "int16",
        "pair": "float64",
        "matrix": "int64",
        "tensor": "float32",
        "words": "str",
        "struct": "str",
        "price": "str",
    }
    assert values_of(stock, "n") == {0: 1, 1: 2, 2: 3}
    assert values_of(stock, "hole") == {0: 1, 2: 3}
    np.testing.assert_array_equal(stock.data["x"], [1.5, np.nan, 2.5])
    assert values_of(stock, "flag") == {0: True, 2: False}
    assert values_of(stock, "text") == {0: "a", 2: "ä"}
    assert values_of(stock, "raw") == {0: b"\x00", 1: b""}
    np.testing.assert_array_equal(stock.data["day"], np.array(["2026-01-01", "2026-01-02", "1969-12-31"], "M8[D]"))
    np.testing.assert_array_equal(stock.data["time"], np.array([1, 2, -3], "M8[us]"))
    assert values_of(stock, "fruit") == {0: "pear", 1: "fig", 2: "pear"}
    assert values_of(stock, "vector") == {0: [1, 2], 1: [3]}
    assert (stock.data["pair"].shape, values_of(stock, "pair")[1]) == ((2,), [3, 4])
    assert [value.shape for value in stock.data["matrix"].values()] == [(2, 2), (1, 2), (0, 0)]
    assert values_of(stock, "matrix")[0] == [[1, 2], [3, 4]]
    np.testing.assert_array_equal(stock.data["tensor"], np.arange(18, dtype="f4").reshape(3, 2, 3))
    assert values_of(stock, "words") == {0: '["a", "b"]', 1: "[]"}
    assert values_of(stock, "struct") == {0: '{"a": 1}', 1: '{"a": null}'}
    assert values_of(stock, "price") == {0: "1.50", 1: "2.00", 2: "3.25"}


@pytest.mark.parametrize("row_group_size", [None, 1])
def test_parquet_columns_keep_their_kinds_and_shapes(stock, tmp_path, table, row_group_size):
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=row_group_size)
    bring_in(stock, "parquet", tmp_path / "a.parquet")
    check_table(stock)


def test_several_parquet_files_are_one_table(stock, tmp_path):
    for number in range(2):
        pq.write_table(pa.table({"n": [number * 2, number * 2 + 1]}), tmp_path / f"{number}.parquet")
    pq.write_table(pa.table({"m": [1]}), tmp_path / "other.parquet")
    bring_in(stock, "parquet", tmp_path / "0.parquet", tmp_path / "1.parquet")
    assert np.asarray(stock.data["n"]).tolist() == [0, 1, 2, 3]
    with pytest.raises(InvalidInputError, match="found others"):
        bring_in(stock, "parquet", tmp_path / "0.parquet", tmp_path / "other.parquet")


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        ([[[1, 2], [3]], None], {0: "[[1, 2], [3]]"}),
        ([[1, None], [2, 3]], {0: "[1, null]", 1: "[2, 3]"}),
        ([[[1, 2], None]], {0: "[[1, 2], null]"}),
    ],
    ids=["ragged", "holes", "no list"],
)
def test_lists_that_are_no_arrays_are_text(stock, tmp_path, rows, texts):
    pq.write_table(pa.table({"odd": rows}), tmp_path / "a.parquet")
    bring_in(stock, "parquet", tmp_path / "a.parquet")
    assert values_of(stock, "odd") == texts


def test_a_null_among_floats_in_a_list_is_nan(stock, tmp_path):
    pq.write_table(pa.table({"x": [[1.5, None], [2.5, 3.5]]}), tmp_path / "a.parquet")
    bring_in(stock, "parquet", tmp_path / "a.parquet")
    np.testing.assert_array_equal(stock.data["x"], [[1.5, np.nan], [2.5, 3.5]])


def test_columns_without_a_lossless_form_are_left_out_by_name(stock, tmp_path):
    with stock.enable_write("before") as writer:
        writer.data["nothing"] = [1, 2]
    table = pa.table(
        {
            "n": [1, 2],
            "photos": pa.array([[b"a"], None]),
            "map": pa.array([[("a", b"b")], []], pa.map_(pa.string(), pa.binary())),
            "nothing": pa.nulls(2),
            "empty": pa.array([None, None], pa.list_(pa.int64())),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    report = bring_in(stock, "parquet", tmp_path / "a.parquet")
    assert list(stock.data) == ["n"]
    assert [line[: len("a.parquet: column 'photos': list")] for line in sorted(report.left_out.list_lines())] == [
        "a.parquet: column 'empty': colum",
        "a.parquet: column 'map': map<str",
        "a.parquet: column 'nothing': col",
        "a.parquet: column 'photos': list",
    ]


def describe(**metadata: object) -> dict[str, str]:
    return {
        f"stockroom.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()
    }


def test_dtypes_decoders_and_attrs_in_the_metadata_are_restored(stock, tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [
        pa.field("b", pa.float32(), metadata=describe(dtype="bfloat16", attrs={"unit": "mV"})),
        pa.field("old", pa.uint16(), metadata=describe(dtype="bfloat16")),
        pa.field("label", pa.int64(), metadata=describe(dtype="uint8", attrs={"classes": ["x", "y"]})),
        pa.field("photo", kind, metadata=describe(decoder="image:L")),
    ]
    photo = io.BytesIO()
    Image.fromarray(np.eye(3, dtype=np.uint8)).save(photo, "PNG")
    photos = [{"bytes": photo.getvalue(), "path": None}] * 3
    columns = [[0.5, 1.0, -2.0], [0x3F00, 0x3F80, 0xC000], [1, 0, None], photos]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    pq.write_table(pa.table(arrays, schema=pa.schema(fields)), tmp_path / "a.parquet")
    report = bring_in(stock, "parquet", tmp_path / "a.parquet")
    dtypes = [str(stock.data[name].dtype) for name in report.columns]
    assert dtypes == ["bfloat16", "bfloat16", "uint8", "uint8"]
    for name in ("b", "old"):
        assert [float(value) for value in stock.data[name].values()] == [0.5, 1.0, -2.0]
    assert values_of(stock, "label") == {0: 1, 1: 0}
    assert (stock.data["b"].attrs, stock.data["label"].attrs) == ({"unit": "mV"}, {"classes": ["x", "y"]})
    np.testing.assert_array_equal(stock.data["photo"][0], np.eye(3))


def test_values_that_do_not_fit_the_metadata_are_refused(stock, tmp_path):
    small = pa.field("n", pa.int64(), metadata=describe(dtype="uint8"))
    pq.write_table(pa.table([[256]], schema=pa.schema([small])), tmp_path / "b.parquet")
    with pytest.raises(InvalidInputError, match="column 'n': expected values of uint8, found int64"):
        bring_in(stock, "parquet", tmp_path / "b.parquet")
    wrong = pa.field("n", pa.int64(), metadata={"stockroom.attrs": "{"})
    pq.write_table(pa.table([[256]], schema=pa.schema([wrong])), tmp_path / "c.parquet")
    with pytest.raises(InvalidInputError, match="column 'n': expected a JSON object in the metadata"):
        bring_in(stock, "parquet", tmp_path / "c.parquet")


def test_an_index_of_row_numbers_that_do_not_start_at_0_is_named(stock, tmp_path):
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame({"n": [1, 2]}, index=range(5, 7)).to_parquet(tmp_path / "a.parquet")
    report = bring_in(stock, "parquet", tmp_path / "a.parquet")
    assert report.left_out.list_lines() == ["a.parquet: index: from 5 by 1: index of row numbers"]
    pandas.DataFrame({"n": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    assert not bring_in(stock, "parquet", tmp_path / "a.parquet").left_out


def test_categories_are_kept_until_they_are_too_many(stock, tmp_path):
    fruits = pa.DictionaryArray.from_arrays(pa.array([1, 0, None]), ["pear", "fig", "never"], ordered=True)
    codes = pa.array([f"{number:0100}" for number in range(3)]).dictionary_encode()
    many = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), [f"{number:0100}" for number in range(1000)])
    pq.write_table(pa.table({"fruit": fruits, "code": codes, "many": many}), tmp_path / "a.parquet")
    report = bring_in(stock, "parquet", tmp_path / "a.parquet")
    assert values_of(stock, "fruit") == {0: "fig", 1: "pear"}
    assert stock.data["fruit"].attrs == {"categories": ["pear", "fig", "never"], "ordered": True}
    assert (len(stock.data["code"].attrs["categories"]), stock.data["many"].attrs) == (3, {})
    assert report.left_out.list_lines() == ["a.parquet: column 'many': list of categories"]


def test_files_that_are_no_parquet_are_refused(stock, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(CorruptionError, match=r"a\.parquet: incomplete or damaged"):
        bring_in(stock, "parquet", tmp_path / "a.parquet")
    with pytest.raises(InvalidInputError, match="no such file"):
        bring_in(stock, "parquet", tmp_path / "nowhere.parquet")
    with pytest.raises(InvalidInputError, match="files to import, found none"):
        bring_in(stock, "parquet")


def test_text_that_is_not_utf_8_is_damage(stock, tmp_path):
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], "i4")), pa.py_buffer(b"\xff")])
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    with pytest.raises(CorruptionError, match=r"a\.parquet: incomplete or damaged: .*utf-8"):
        bring_in(stock, "parquet", tmp_path / "a.parquet")


@given(data=st.data())
def test_mutated_parquet_raises_our_errors_only(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    pq.write_table(pa.table({"n": list(range(50)), "v": [[n, n] for n in range(50)]}), path)
    mutated = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(mutated)
    with contextlib.suppress(StockroomError):
        (source,) = resolve_importer("parquet").open(ImportSpec("parquet", paths=(path,)))
        for _ in source.batches():
            pass


# -- hugging face


def save_to_disk(folder: Path, table: pa.Table, features: dict, shards: int = 2) -> None:
    """The layout that `datasets` writes: shards as Arrow streams, and two JSON files."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{shards:05}.arrow" for number in range(shards)]
    size = -(-len(table) // max(1, shards))
    for number, name in enumerate(names):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table.slice(number * size, size), max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


@pytest.fixture
def photos() -> tuple[pa.Table, dict, list[np.ndarray]]:
    pixels = [RNG.integers(0, 256, (4 + n, 5, 3), np.uint8) for n in range(5)]
    files = []
    for each in pixels:
        buffer = io.BytesIO()
        Image.fromarray(each).save(buffer, "PNG")
        files.append({"bytes": buffer.getvalue(), "path": None})
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(files, kind), "label": pa.array([0, 1, 0, 1, 1])})
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    return table, features, pixels


def test_splits_without_rows_do_not_keep_the_others_out(stock, tmp_path, photos):
    table, features, _ = photos
    for name, rows, shards in (("train", table, 2), ("test", table.slice(0, 0), 1), ("val", table.slice(0, 0), 0)):
        save_to_disk(tmp_path / "set" / name, rows, features, shards)
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test", "val"]}))
    report = bring_in(stock, "huggingface", tmp_path / "set")
    assert report.columns == ("train-image", "train-label", "test-image", "test-label")
    assert [len(stock.data[name]) for name in report.columns] == [5, 5, 0, 0]
    assert [line.endswith("val: has no rows") for line in report.skipped] == [True]
    (tmp_path / "set" / "val" / "state.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="val: expected Arrow files"):
        bring_in(stock, "huggingface", tmp_path / "set")


def test_a_saved_data_set_of_hugging_faces_is_read_without_its_library(stock, tmp_path, photos):
    table, features, pixels = photos
    save_to_disk(tmp_path / "set", table, features)
    report = bring_in(stock, "huggingface", tmp_path / "set")
    assert report.columns == ("image", "label")
    assert stock.data["label"].attrs == {"classes": ["cat", "dog"]}
    assert stock.data["image"].decoder == "image"
    for key, each in enumerate(pixels):
        np.testing.assert_array_equal(stock.data["image"][key], each)
    assert np.asarray(stock.data["label"]).tolist() == [0, 1, 0, 1, 1]


def test_each_split_has_columns_of_its_own(stock, tmp_path, photos, table):
    save_to_disk(tmp_path / "set" / "train", *photos[:2])
    save_to_disk(tmp_path / "set" / "test", table, {})
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    bring_in(stock, "huggingface", tmp_path / "set", split="train")
    assert list(stock.data) == ["train-image", "train-label"]
    bring_in(stock, "huggingface", tmp_path / "set")
    assert len(stock.data) == 2 + 17
    with pytest.raises(InvalidInputError, match="expected one of the splits train, test, found 'dev'"):
        bring_in(stock, "huggingface", tmp_path / "set", split="dev")


def test_rows_of_every_kind_come_from_arrow_files_as_from_parquet(stock, tmp_path, table):
    save_to_disk(tmp_path / "set", table, {}, shards=1)
    bring_in(stock, "huggingface", tmp_path / "set")
    check_table(stock)


@pytest.mark.parametrize("name", ["../secret.arrow", "/etc/passwd", "..", "", None, "a\\b", 3])
def test_names_that_lead_out_of_the_folder_are_refused(stock, tmp_path, photos, name):
    save_to_disk(tmp_path / "set", *photos[:2])
    (tmp_path / "set" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(CorruptionError, match="expected a name in this folder"):
        bring_in(stock, "huggingface", tmp_path / "set")
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    with pytest.raises(CorruptionError, match="expected a name in this folder"):
        bring_in(stock, "huggingface", tmp_path / "set")


def test_torn_folders_are_refused(stock, tmp_path, photos):
    with pytest.raises(InvalidInputError, match=r"state\.json: no such file"):
        bring_in(stock, "huggingface", tmp_path)
    save_to_disk(tmp_path / "set", *photos[:2])
    arrow = next((tmp_path / "set").glob("*.arrow"))
    whole = arrow.read_bytes()
    arrow.write_bytes(whole[: len(whole) - 40])
    with pytest.raises(CorruptionError, match=r"\.arrow: .*224"):
        bring_in(stock, "huggingface", tmp_path / "set")
    arrow.unlink()
    with pytest.raises(InvalidInputError, match="no such file"):
        bring_in(stock, "huggingface", tmp_path / "set")
    (tmp_path / "set" / "state.json").write_text("[")
    with pytest.raises(CorruptionError, match="not valid JSON"):
        bring_in(stock, "huggingface", tmp_path / "set")


def test_an_image_that_is_only_a_path_is_refused(stock, tmp_path, photos):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array([{"bytes": None, "path": "/etc/passwd"}], kind), "label": [0]})
    save_to_disk(tmp_path / "set", table, photos[1], shards=1)
    with pytest.raises(InvalidInputError, match="an image that is only a path"):
        bring_in(stock, "huggingface", tmp_path / "set")


# -- without the extras


@pytest.mark.parametrize(
    ("source", "module", "extra"),
    [("parquet", "pyarrow", "tables"), ("huggingface", "pyarrow", "tables"), ("imagefolder", "PIL", "images")],
)
def test_without_the_extra_the_message_names_the_command(tmp_path, photos, source, module, extra):
    save_to_disk(tmp_path / "set", *photos[:2])
    (tmp_path / "set" / "a.png").write_bytes(b"")
    pq.write_table(pa.table({"n": [1]}), tmp_path / "a.parquet")
    StockRoom.init(tmp_path).close()
    path = "a.parquet" if source == "parquet" else "set"
    code = f"import sys; sys.modules[{module!r}] = None; from stockroom.cli import main; sys.exit(main(sys.argv[1:]))"
    answer = subprocess.run(
        [sys.executable, "-c", code, "import", source, path], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1
    assert len(answer.stderr.splitlines()) == 1
    assert f"pip install 'stockroom-vcs[{extra}]'" in answer.stderr
