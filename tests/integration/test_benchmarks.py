"""The benchmarks are no part of the package: what they import of it moves without anybody noticing, but for this."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RUNNER = Path(__file__).parents[2] / "benchmarks" / "run.py"


def test_every_benchmark_loads_and_says_what_it_does() -> None:
    answer = subprocess.run(
        [sys.executable, str(RUNNER), "--list"], capture_output=True, text=True, check=False, timeout=120
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "lazy_epoch" in answer.stdout
