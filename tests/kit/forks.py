"""Two lines of history for tests of merging: what both start from, and what each of them does."""

from __future__ import annotations

from collections.abc import Callable

from stockroom import MergeConflictError, StockRoom

Change = Callable[[StockRoom], object]


def commit(stock: StockRoom, change: Change, message: str = "change") -> str | None:
    """One commit of what `change` does, on the branch checked out; where HEAD is then."""
    with stock.enable_write(message) as writer:
        change(writer)
    return stock.commit_id


def fork(stock: StockRoom, base: Change, ours: Change, theirs: Change) -> None:
    r"""
    base---ours      main, checked out
        \
         theirs      dev
    """
    commit(stock, base, "base")
    stock.checkout("dev", create=True)
    commit(stock, theirs, "theirs")
    stock.checkout("main")
    commit(stock, ours, "ours")


def collect_conflicts(stock: StockRoom, ref: str = "dev") -> list[tuple[str, object, str]]:
    """Path, key and kind of what merging `ref` would be in conflict about."""
    before = stock.commit_id
    try:
        stock.merge(ref)
    except MergeConflictError as error:
        assert stock.status().clean
        assert stock.commit_id == before
        return [(conflict.path, conflict.key, conflict.kind) for conflict in error.conflicts]
    raise AssertionError("merged without a conflict")
