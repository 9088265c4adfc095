"""What a program writes as it ends, when no thread can be started any more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stockroom import StockRoom

SAVING = """
import atexit, sys
import numpy as np
from stockroom import StockRoom
stock = StockRoom(sys.argv[1])
rows = int(sys.argv[2])
def save():
    with stock.enable_write("at the end"):
        stock.data["sample"] = np.arange(rows * 3000, dtype=np.uint32).reshape(rows, 3000)
        stock.model["net"] = {"weight": np.arange(rows * 1000.0)}
    print("saved")
atexit.register(save)
"""

LEAVING = """
import sys
import numpy as np
from stockroom import StockRoom
stock = StockRoom(sys.argv[1], enable_write=True)
stock.data["sample"] = np.arange(int(sys.argv[2]) * 3000, dtype=np.uint32).reshape(-1, 3000)
stock.experiment.log({"loss": 0.5}, step=0)
"""


def run(program: str, path: Path, rows: int) -> str:
    command = [sys.executable, "-c", program, str(path), str(rows)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert answer.stderr == ""
    return answer.stdout


@pytest.mark.parametrize("rows", [20, 3000], ids=["little", "much"])
def test_what_a_program_writes_in_an_exit_handler_is_committed(tmp_path: Path, rows: int) -> None:
    StockRoom.init(tmp_path / "repo").close()
    assert run(SAVING, tmp_path / "repo", rows) == "saved\n"
    with StockRoom(tmp_path / "repo") as stock:
        assert np.array_equal(np.asarray(stock.data["sample"]).ravel(), np.arange(rows * 3000))
        assert np.array_equal(stock.model["net"]["weight"], np.arange(rows * 1000.0))
        assert stock.verify().damage == []


@pytest.mark.parametrize("rows", [20, 3000], ids=["little", "much"])
def test_what_a_program_staged_and_left_open_is_staged_still(tmp_path: Path, rows: int) -> None:
    StockRoom.init(tmp_path / "repo").close()
    run(LEAVING, tmp_path / "repo", rows)
    with StockRoom(tmp_path / "repo", enable_write=True) as stock:
        assert np.array_equal(np.asarray(stock.data["sample"]).ravel(), np.arange(rows * 3000))
        assert list(stock.experiment.metrics) == ["loss"]
