"""The helper that fetches real data: whole or not at all, once for many processes, never without a word."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import real_data
from stockroom.importers.source import ImportSpec
from stockroom.importers.vision import VisionImporter


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("STOCKROOM_MATERIAL", str(cache))
    return cache


def test_the_digits_read_as_the_data_set_they_stand_in_for(empty_cache: Path) -> None:
    columns = VisionImporter().open(ImportSpec("torchvision.mnist", root=real_data.digits()))
    shapes = {column.name: (column.count, *column.shape) for column in columns}
    assert shapes == {
        "mnist-train-image": (1500, 8, 8),
        "mnist-train-label": (1500,),
        "mnist-test-image": (297, 8, 8),
        "mnist-test-label": (297,),
    }
    (labels,) = columns[3].batches()
    assert set(labels) == set(range(10))
    (images,) = columns[2].batches()
    assert images.max() == 255
    assert np.count_nonzero(images) > images.size // 4


def test_processes_side_by_side_get_one_whole_copy(empty_cache: Path) -> None:
    script = "import real_data; print(real_data.digits())"
    environment = os.environ | {"PYTHONPATH": str(Path(real_data.__file__).parent)}
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert set(folders) == {str(empty_cache / "digits")}
    assert sorted(path.name for path in empty_cache.iterdir()) == ["digits", "digits.lock"]


@pytest.mark.skipif(Path("/usr/share/datasets/fashion-mnist").exists(), reason="the package is installed here")
def test_a_machine_that_has_nothing_falls_back_to_the_digits_and_says_why(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    said: list[str] = []
    material = real_data.images_or_fallback(said.append)
    assert (material.name, material.source, material.folder) == ("digits", "torchvision.mnist", empty_cache / "digits")
    assert "fashion-mnist cannot be had here" in said[0]
    assert "apt-get" in said[0]
    assert "torchvision" in said[0]
    assert "Falling back" in said[0]


def test_what_was_fetched_in_part_is_fetched_again(empty_cache: Path) -> None:
    folder = real_data.digits()
    (folder / real_data.IDX_FILES[0]).unlink()
    assert all((real_data.digits() / name).is_file() for name in real_data.IDX_FILES)
