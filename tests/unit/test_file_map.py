"""Maps of files keep no file open, and end with the last array on them."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from stockroom.file_map import map_private, map_shared


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(20_000))
    return path


def _count_maps(path: Path) -> int:
    gc.collect()
    return sum(line.endswith(str(path)) for line in Path("/proc/self/maps").read_text().splitlines())


def _open_map(path: Path, *, writable: bool = False) -> np.ndarray:
    with path.open("r+b" if writable else "rb") as file:
        return map_shared(file.fileno(), path.stat().st_size, writable=writable)


def test_a_map_lasts_as_long_as_an_array_on_it_and_keeps_no_file_open(path: Path) -> None:
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    mapped = _open_map(path)
    part = mapped[100:200]
    del mapped
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
    assert _count_maps(path) == 1
    assert part.tobytes() == path.read_bytes()[100:200]
    del part
    assert _count_maps(path) == 0


def test_a_map_for_reading_cannot_be_made_writable(path: Path) -> None:
    mapped = _open_map(path)
    with pytest.raises(ValueError, match="WRITEABLE"):
        mapped.flags.writeable = True
    assert memoryview(mapped).readonly


def test_what_is_written_through_a_writable_map_is_in_the_file_and_in_other_maps(path: Path) -> None:
    seen, written = _open_map(path), _open_map(path, writable=True)
    written[5000:5003] = [1, 2, 3]
    assert seen[5000:5003].tolist() == [1, 2, 3] == list(path.read_bytes()[5000:5003])


def test_what_is_written_through_a_private_map_is_nowhere_else(path: Path) -> None:
    content = path.read_bytes()
    with path.open("rb") as file:
        mapped = map_private(file.fileno(), 4000, 10_000)
    assert mapped is not None
    assert mapped.tobytes() == content[4000:14_000]
    mapped[:] = 0
    assert path.read_bytes() == content


def test_what_the_system_refuses_is_its_error() -> None:
    with pytest.raises(OSError, match="Bad file") as caught:
        map_shared(-1, 100)
    assert caught.value.errno == errno.EBADF
