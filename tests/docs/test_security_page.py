"""Every promise of the page on security names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISES = re.findall(r"^\| (.+) \| `(.+?)::(.+?)` \|$", (ROOT / "docs/security.md").read_text(), re.MULTILINE)


def test_every_row_of_a_table_is_a_promise_with_a_test() -> None:
    rows = [line for line in (ROOT / "docs/security.md").read_text().splitlines() if line.startswith("| ")]
    assert len(PROMISES) == sum(line != "| promise | test |" for line in rows) > 40


@pytest.mark.parametrize(("promise", "file", "test"), PROMISES, ids=[test for _, _, test in PROMISES])
def test_the_test_of_a_promise_exists(promise: str, file: str, test: str) -> None:
    source = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^def {re.escape(test)}\(", source, re.MULTILINE), promise
