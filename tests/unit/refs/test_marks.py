"""Marks: the record of the commits that gc has deleted, for messages."""

from __future__ import annotations

from pathlib import Path

from stockroom.digest import CommitId
from stockroom.kv import Environment
from stockroom.refs import DATABASES
from stockroom.refs.marks import MarkKind, MarkStore, note_collected

DAY_NS = 24 * 3600 * 10**9
ONE, TWO = CommitId(bytes([0xAB, 0xC1]) * 16), CommitId(bytes([0xAB, 0xD2]) * 16)


def test_deleted_commits_are_found_by_a_prefix_and_forgotten_after_90_days(tmp_path: Path) -> None:
    with Environment.open(tmp_path, databases=DATABASES) as env:
        marks = MarkStore(env)
        env.update(lambda txn: note_collected(txn, [ONE], now_ns=DAY_NS))
        marks.replace({MarkKind.COMMIT: [TWO]}, now_ns=DAY_NS)
        assert marks.find_collected(ONE.hex()) == marks.find_collected("abc") == (ONE, DAY_NS)
        assert marks.find_collected(TWO.hex()) is None
        env.update(lambda txn: note_collected(txn, [TWO], now_ns=90 * DAY_NS))
        assert marks.find_collected("abd") == (TWO, 90 * DAY_NS)
        assert marks.find_collected("abc") == (ONE, DAY_NS)
        env.update(lambda txn: note_collected(txn, [], now_ns=92 * DAY_NS))
        assert marks.find_collected("abc") is None
        assert list(marks.read(MarkKind.COMMIT)) == [TWO]
