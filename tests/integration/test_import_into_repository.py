"""Importing real files into a real repository: what is there afterwards, and what a second run adds."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from tests.kit.packs import measure_packs
from tests.kit.programs import run_stock

from stockroom import CorruptionError, NothingToCommitError, StockRoom
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import ImportProgress, ImportReport, import_into
from stockroom.importers.source import ColumnSource, ImportSpec


def import_source(stock: StockRoom, source: str, **options: object) -> ImportReport:
    columns = resolve_importer(source).open(ImportSpec(source, **options))
    with stock.enable_write(f"Import {source}"):
        return import_into(stock, columns)


def test_fashion_mnist_is_there_sample_for_sample_after_reopening(
    stock: StockRoom, fashion_mnist: Path, fashion_images: np.ndarray, fashion_labels: np.ndarray
) -> None:
    report = import_source(stock, "torchvision.fashion_mnist", root=fashion_mnist)

    assert report.samples == 140_000
    assert report.nbytes == 70_000 * (28 * 28 + 8)
    with StockRoom(stock.path) as reopened:
        assert list(reopened.data) == sorted(report.columns)
        images = reopened.data["fashion_mnist-test-image"]
        labels = reopened.data["fashion_mnist-test-label"]
        assert (images.dtype, images.shape, len(images)) == (np.uint8, (28, 28), 10_000)
        assert (labels.dtype, labels.shape) == (np.int64, ())
        assert labels.attrs["classes"][0] == "T-shirt/top"
        np.testing.assert_array_equal(images[:], fashion_images)
        np.testing.assert_array_equal(labels[:], fashion_labels)
        assert len(reopened.data["fashion_mnist-train-image"]) == 60_000
        assert len(list(reopened.log())) == 1


def test_a_second_import_of_the_same_adds_no_commit_and_no_bytes(stock: StockRoom, fashion_mnist: Path) -> None:
    import_source(stock, "torchvision.fashion_mnist", root=fashion_mnist)
    first, nbytes = stock.commit_id, measure_packs(stock.path)

    import_source(stock, "torchvision.fashion_mnist", root=fashion_mnist)

    assert stock.commit_id == first
    assert measure_packs(stock.path) == nbytes
    with StockRoom(stock.path, enable_write=True) as writer:
        columns = resolve_importer("torchvision.fashion_mnist").open(
            ImportSpec("torchvision.fashion_mnist", root=fashion_mnist)
        )
        import_into(writer, columns)
        with pytest.raises(NothingToCommitError):
            writer.commit("again")


def test_other_data_of_the_same_name_replaces_the_column(stock: StockRoom, tmp_path: Path) -> None:
    np.save(tmp_path / "values.npy", np.arange(10, dtype=np.int32))
    for _ in range(2):
        assert import_source(stock, "numpy", paths=(tmp_path / "values.npy",)).replaced == {}
    np.save(tmp_path / "values.npy", np.ones((4, 2), np.float32))
    said = run_stock(stock.path, "import", "numpy", tmp_path / "values.npy").stderr
    assert said.splitlines()[0] == "replaced 10 other samples in data/values"
    stock.refresh()

    column = stock.data["values"]
    assert (column.dtype, column.shape, len(column)) == (np.float32, (2,), 4)
    with StockRoom(stock.path, ref="HEAD~1") as before:
        np.testing.assert_array_equal(before.data["values"][:], np.arange(10))


def test_a_column_without_a_value_in_the_new_file_does_not_keep_the_old_values(
    stock: StockRoom, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"n": [1, 2], "note": ["a", "b"], "odd": ["c", None]}), path)
    import_source(stock, "parquet", paths=(path,))
    parquet.write_table(pyarrow.table({"n": [3], "note": pyarrow.nulls(1), "odd": pyarrow.nulls(1, "string")}), path)
    report = import_source(stock, "parquet", paths=(path,))
    assert (report.replaced, report.columns) == ({"n": 2, "note": 2, "odd": 1}, ("n", "odd"))
    assert {name: len(column) for name, column in stock.data.items()} == {"n": 1, "odd": 0}


def test_progress_counts_samples_of_each_column_and_bytes_of_all(stock: StockRoom, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", image=np.zeros((5, 2_000_000), np.uint8), label=np.arange(5))
    columns = resolve_importer("numpy").open(ImportSpec("numpy", paths=(tmp_path / "set.npz",)))
    seen: list[ImportProgress] = []
    with stock.enable_write():
        import_into(stock, columns, on_progress=seen.append)
    assert seen == [
        ImportProgress("image", 0, 2, 4, 5, 8_000_000),
        ImportProgress("image", 0, 2, 5, 5, 10_000_000),
        ImportProgress("label", 1, 2, 5, 5, 10_000_040),
    ]


def test_damage_in_the_middle_leaves_the_repository_as_it_was(stock: StockRoom, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", good=np.arange(1000), bad=np.arange(1000))
    raw = bytearray((tmp_path / "set.npz").read_bytes())
    raw[-1000] ^= 1
    (tmp_path / "set.npz").write_bytes(raw)
    with pytest.raises(CorruptionError, match=r"set\.npz"):
        import_source(stock, "numpy", paths=(tmp_path / "set.npz",))
    assert stock.commit_id is None
    assert list(stock.data) == []
    with StockRoom(stock.path, enable_write=True) as writer:
        assert writer.status().clean


def test_an_importer_that_fails_midway_leaves_the_repository_as_it_was(stock: StockRoom) -> None:
    def batches() -> Iterator[np.ndarray]:
        yield np.zeros((3, 2), np.uint8)
        raise RuntimeError("the reader broke")

    with pytest.raises(RuntimeError, match="the reader broke"), stock.enable_write():
        import_into(stock, [ColumnSource("values", np.dtype(np.uint8), (2,), 6, batches)])
    assert list(stock.data) == []


def test_the_command_imports_commits_and_says_what_it_did(tmp_path: Path, fashion_mnist: Path) -> None:
    assert run_stock(tmp_path, "init", "--name", "Ada", "--email", "ada@example.org").returncode == 0
    done = run_stock(tmp_path, "--json", "import", "torchvision.fashion_mnist", "--root", str(fashion_mnist))
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["samples"] == 140_000
    with StockRoom(tmp_path) as stock:
        assert stock.commit_id == document["commit"]

    again = run_stock(tmp_path, "import", "torchvision.fashion_mnist", "--root", str(fashion_mnist))
    assert again.returncode == 0
    assert "nothing to commit" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["torchvision.cifar"], "did you mean torchvision.cifar10"),
        (["torchvision.mnist"], "train-images-idx3-ubyte"),
        (["numpy"], "expected .npy or .npz files"),
        (["numpy", "missing.npy"], "missing.npy: no such file"),
    ],
)
def test_the_command_explains_bad_input_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    run_stock(tmp_path, "init", "--name", "Ada", "--email", "ada@example.org")
    done = run_stock(tmp_path, "import", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


KILLED_IMPORT = """
import os, signal, sys
from pathlib import Path
from stockroom import StockRoom
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec

def die_at_the_third_batch(progress, batches=[0]):
    batches[0] += 1
    if batches[0] == 3:
        os.kill(os.getpid(), signal.SIGKILL)

source = "torchvision.fashion_mnist"
columns = resolve_importer(source).open(ImportSpec(source, root=Path(sys.argv[2])))
with StockRoom(sys.argv[1], enable_write=True) as stock:
    import_into(stock, columns, on_progress=die_at_the_third_batch)
"""


def test_a_killed_import_is_finished_by_running_it_again(stock: StockRoom, fashion_mnist: Path) -> None:
    command = [sys.executable, "-c", KILLED_IMPORT, str(stock.path), str(fashion_mnist)]
    done = subprocess.run(command, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL

    import_source(stock, "torchvision.fashion_mnist", root=fashion_mnist)
    assert len(stock.data["fashion_mnist-train-image"]) == 60_000
    assert len(stock.data["fashion_mnist-test-label"]) == 10_000


MEASURED_IMPORT = """
import sys
from pathlib import Path
from stockroom import StockRoom
from stockroom.importers.registry import resolve_importer
from stockroom.importers.run import import_into
from stockroom.importers.source import ImportSpec
from stockroom.testing.peak_memory import read_peak_nbytes

columns = resolve_importer("numpy").open(ImportSpec("numpy", paths=(Path(sys.argv[2]),)))
with StockRoom(sys.argv[1]).enable_write("Import") as stock:
    import_into(stock, columns)
print(read_peak_nbytes())
"""


def measure_peak(repository: Path, file: Path) -> int:
    """The most memory an import of `file` held, in bytes."""
    command = [sys.executable, "-c", MEASURED_IMPORT, str(repository), str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from Linux's /proc")
def test_memory_does_not_grow_with_the_file(stock: StockRoom, tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    small, large = tmp_path / "small.npy", tmp_path / "large.npy"
    np.save(small, random.integers(0, 255, (2_000, 50_000), np.uint8))
    np.save(large, random.integers(0, 255, (6_000, 50_000), np.uint8))

    first, second = measure_peak(stock.path, small), measure_peak(stock.path, large)

    assert second - first < 50_000_000, f"300 MB took {second >> 20} MiB, 100 MB took {first >> 20} MiB"
