"""Models where PyTorch is not installed: numpy states work whole, and torch's are read as arrays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from tests.kit.states import assert_same

from stockroom import StockRoom

BEFORE = """
import sys
sys.modules["torch"] = None  # `import torch` fails from here on, as where it is not installed
import numpy as np
import stockroom
from stockroom import StockRoom
path = sys.argv[1]
"""

ARRAYS = {
    "w": np.arange(5000, dtype=np.float32),
    "nested": [np.float64(1.5), {"deep": (True, None, b"x", "ä", 1 << 70)}, np.zeros((0, 3), np.int8)],
    "large": np.arange(3 << 20, dtype=np.int16),
    "date": np.array(["2026-01-01"], "datetime64[D]"),
}


def run(path: Path, code: str) -> str:
    done = subprocess.run([sys.executable, "-c", BEFORE + code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_numpy_state_is_saved_and_read(stock: StockRoom) -> None:
    said = run(
        stock.path,
        """
with StockRoom(path) as stock:
    with stock.enable_write():
        w = np.arange(5000, dtype=np.float32)
        stock.model["m"] = {
            "w": w,
            "nested": [np.float64(1.5), {"deep": (True, None, b"x", "\\u00e4", 1 << 70)}, np.zeros((0, 3), np.int8)],
            "large": np.arange(3 << 20, dtype=np.int16),
            "date": np.array(["2026-01-01"], "datetime64[D]"),
        }
        stock.model["tied"] = {"a": w, "b": w}
        assert (stock.model["m"]["w"] == w).all()
    assert stock.model["m"].load()["nested"][1]["deep"][4] == 1 << 70
    assert stock.model["m"].load(rows=slice(0, 2))["w"].tolist() == [0, 1]
    tied = stock.model["tied"].load()
    assert np.shares_memory(tied["a"], tied["b"])
    assert list(stock.model["m"].leaves())[0].dtype == "float32"
    assert stock.verify().ok
    assert sys.modules["torch"] is None
print("done")
""",
    )
    assert said == "done\n"
    stock.refresh()
    assert_same(stock.model["m"].load(), ARRAYS)


def test_a_torch_state_is_read_as_arrays_and_else_says_what_it_takes(stock: StockRoom) -> None:
    weight = torch.arange(12.0).view(3, 4)
    state = {
        "weight": weight,
        "tied": weight,
        "row": weight[1],
        "spread": torch.arange(3.0).expand(2, 3),
        "half": torch.arange(6.0).to(torch.bfloat16),
        "eighth": torch.arange(6.0).to(torch.float8_e4m3fn),
        "complex": torch.ones(2, dtype=torch.complex32),
        "empty": torch.empty(0, 3),
        "step": 4,
        "plain": np.arange(3),
    }
    with stock.enable_write():
        stock.model["m"] = state
    said = run(
        stock.path,
        """
with StockRoom(path) as stock:
    state = stock.model["m"]
    assert list(state) == ["weight", "tied", "row", "spread", "half", "eighth", "complex", "empty", "step", "plain"]
    assert state["step"] == 4
    assert state["plain"].tolist() == [0, 1, 2]
    assert [leaf.dtype for leaf in state.leaves()][4:6] == ["bfloat16", "float8_e4m3fn"]
    for use in (lambda: state["weight"], lambda: state["spread"], lambda: state.load(), lambda: list(state.values())):
        try:
            use()
        except ModuleNotFoundError as error:
            assert "pip install 'stockroom-vcs[torch]'" in str(error), error
            assert "as_numpy=True" in str(error), error
        else:
            raise AssertionError("torch was not needed")
    loaded = state.load(as_numpy=True)
    assert loaded["weight"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert np.shares_memory(loaded["weight"], loaded["tied"])
    assert np.shares_memory(loaded["weight"], loaded["row"])
    assert loaded["row"].tolist() == [4, 5, 6, 7]
    assert loaded["spread"].tolist() == [[0, 1, 2]] * 2
    assert loaded["half"].astype(np.float32).tolist() == [0, 1, 2, 3, 4, 5]
    assert loaded["eighth"].astype(np.float32).tolist() == [0, 1, 2, 3, 4, 5]
    assert loaded["complex"].dtype == np.float16 and loaded["complex"].tolist() == [[1, 0], [1, 0]]
    assert loaded["empty"].shape == (0, 3)
    assert state.load("weight", rows=[2], as_numpy=True)["weight"].tolist() == [[8, 9, 10, 11]]
    with stock.enable_write():
        stock.model["arrays"] = loaded
        del loaded["weight"]
print("done")
""",
    )
    assert said == "done\n"
    stock.refresh()
    assert stock.model["arrays"]["weight"].tolist() == weight.tolist()


def test_the_command_line_shows_a_torch_model_without_torch(stock: StockRoom) -> None:
    with stock.enable_write():
        stock.model["net"] = {"fc.weight": torch.ones(30, 20), "epoch": 3}
    said = run(
        stock.path,
        """
from stockroom.cli import main
sys.argv = ["stock", "-C", path, "model", "show", "net"]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
""",
    )
    assert "fc.weight" in said
    assert "float32" in said
