"""Imports whose samples go behind those that the columns have."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stockroom import SchemaError
from stockroom.cli import main
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec


@pytest.fixture
def bring(stock, tmp_path):
    """`bring(csv="a,b\\n1,2\\n")` or `bring(array=...)`: import a file of that content, behind what is there."""

    def bring_in(*, csv=None, array=None, append=True):
        path = tmp_path / ("table.csv" if array is None else "scan.npy")
        path.write_text(csv) if array is None else np.save(path, array)
        source = "csv" if array is None else "numpy"
        with stock.enable_write(f"import {source}"):
            return import_into(stock, resolve_importer(source).open(ImportSpec(source, paths=(path,))), append=append)

    return bring_in


def test_rows_of_a_second_file_get_further_keys_in_all_columns(stock, bring):
    bring(csv="a,b\n1,x\n2,\n")
    report = bring(csv="a,b\n,y\n4,z\n")

    assert report.replaced == {}
    assert dict(stock.data["a"]) == {0: 1, 1: 2, 3: 4}
    assert dict(stock.data["b"]) == {0: "x", 1: "", 2: "y", 3: "z"}


def test_a_column_that_only_one_of_the_files_has_keeps_the_rows_together(stock, bring):
    bring(csv="a,b\n1,x\n2,y\n")
    bring(csv="a,c\n3,true\n4,false\n")

    assert dict(stock.data["a"]) == {0: 1, 1: 2, 2: 3, 3: 4}
    assert list(stock.data["b"].items()) == [(0, "x"), (1, "y")]
    assert dict(stock.data["c"]) == {2: True, 3: False}


def test_a_column_without_values_in_the_second_file_keeps_its_own(stock, bring, tmp_path):
    bring(csv="a,b\n1,2\n")
    table = pa.table({"a": [3], "b": pa.nulls(1)})
    pq.write_table(table, tmp_path / "table.parquet")
    source = ImportSpec("parquet", paths=(tmp_path / "table.parquet",))
    with stock.enable_write("second"):
        report = import_into(stock, resolve_importer("parquet").open(source), append=True)

    assert dict(stock.data["a"]) == {0: 1, 1: 3}
    assert dict(stock.data["b"]) == {0: 2}
    assert report.left_out.summarize() == "1 column: 1 column without values"


def test_shapes_that_differ_widen_the_column_and_write_no_chunk_twice(stock, bring):
    bring(array=np.full((3, 5), 1.5))
    bring(array=np.full((2, 7), 2.5))

    column = stock.data["scan"]
    assert column.shape == (None,)
    assert [sample.tolist() for sample in column.values()] == [[1.5] * 5] * 3 + [[2.5] * 7] * 2


def test_what_does_not_go_together_is_refused_by_name_and_leaves_no_trace(stock, bring):
    bring(csv="a,b\n1,x\n")
    before = stock.commit_id
    with pytest.raises(SchemaError, match="column 'a': expected dtype int64 as it has, found float64"):
        bring(csv="a,b\n1.5,x\n")
    with stock.enable_write("classes"):
        stock.data["a"].attrs = {"title": "other"}
    with pytest.raises(SchemaError, match="column 'a': expected the attrs that it has, found other title"):
        bring(csv=" a,b\n2,y\n")

    assert stock.commit_id != before
    assert dict(stock.data["a"]) == {0: 1}
    assert stock.status().clean


def test_the_command_line_appends(stock, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(stock.path)
    for number in range(2):
        (tmp_path / f"{number}.csv").write_text(f"a\n{number}\n")
        assert main(["--json", "import", "csv", str(tmp_path / f"{number}.csv"), "--append"]) == 0
        assert json.loads(capsys.readouterr().out)["replaced"] == {}
    stock.refresh()

    assert dict(stock.data["a"]) == {0: 0, 1: 1}
