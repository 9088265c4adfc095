"""Kept values stay within their bytes, and those used last stay longest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tests.kit.children import call_in_fork

from stockroom.store.pack.recent import RecentValues


def test_the_value_used_longest_ago_leaves_first() -> None:
    kept = RecentValues[str](100)
    for n in range(10):
        kept.keep(n, str(n), 10)
    assert kept.find(0) == "0"
    kept.keep(10, "10", 10)
    assert kept.find(1) is None
    assert [kept.find(n) for n in (0, 2, 10)] == ["0", "2", "10"]
    assert kept.nbytes == 100


def test_a_value_kept_again_counts_once_and_a_large_one_is_not_kept() -> None:
    kept = RecentValues[str](100)
    for _ in range(20):
        kept.keep("a", "some", 25)
    assert kept.nbytes == 25
    kept.keep("b", "large", 26)
    assert kept.find("b") is None
    assert kept.find("a") == "some"


def test_threads_and_a_forked_child_share_it_within_its_bytes() -> None:
    kept = RecentValues[int](1000)

    def work(seed: int) -> None:
        for key in np.random.default_rng(seed).integers(0, 200, 2000).tolist():
            found = kept.find(key)
            assert found in (None, key)
            kept.keep(key, key, 10)

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(work, range(4)):
            pass
    assert kept.nbytes == 1000
    assert call_in_fork(lambda: work(5)) == 0
