"""Transactions, databases, errors and handles of one environment."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockroom.errors import (
    ClosedError,
    CorruptionError,
    FormatVersionError,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
    StockroomError,
)
from stockroom.kv import MAX_KEY_NBYTES, Environment, ReadTxn, WriteTxn, opening
from stockroom.kv.translation import TRANSLATIONS, translate


@pytest.fixture
def env(tmp_path):
    with Environment.open(tmp_path / "env", databases=["things", "others"]) as env:
        yield env


def put(env, *keys, value=b"v"):
    env.update(lambda txn: [txn.put("things", key, value) for key in keys])


def keys_of(env, **options):
    return env.view(lambda txn: [key for key, _ in txn.iterate("things", **options)])


def test_what_is_put_is_got_and_databases_are_apart(env):
    put(env, b"a", value=b"1")
    assert env.view(lambda txn: txn.get("things", b"a")) == b"1"
    assert env.view(lambda txn: txn.get("others", b"a")) is None
    assert env.view(lambda txn: txn.get("things", b"b")) is None


def test_values_survive_closing(tmp_path):
    with Environment.open(tmp_path, databases=["things"]) as env:
        put(env, b"a")
    with Environment.open(tmp_path, databases=["things"]) as env:
        assert keys_of(env) == [b"a"]


def test_put_new_keeps_what_is_there(env):
    assert env.update(lambda txn: txn.put_new("things", b"a", b"1"))
    assert not env.update(lambda txn: txn.put_new("things", b"a", b"2"))
    assert env.view(lambda txn: txn.get("things", b"a")) == b"1"


def test_delete_tells_whether_the_key_was_there(env):
    put(env, b"a")
    assert env.update(lambda txn: txn.delete("things", b"a"))
    assert not env.update(lambda txn: txn.delete("things", b"a"))


def test_append_refuses_a_key_that_is_not_the_last(env):
    env.update(lambda txn: txn.append("things", b"m", b"v"))
    with pytest.raises(InvalidInputError, match="above the last"):
        env.update(lambda txn: txn.append("things", b"a", b"v"))
    assert keys_of(env) == [b"m"]


def test_count_and_last(env):
    assert env.view(lambda txn: (txn.count("things"), txn.last("things"))) == (0, None)
    put(env, b"a", b"c", b"b")
    assert env.view(lambda txn: (txn.count("things"), txn.last("things"))) == (3, (b"c", b"v"))


short_keys = st.binary(min_size=1, max_size=3).map(lambda key: bytes(byte % 3 * 127 + byte % 2 for byte in key))


@settings(max_examples=60, deadline=None)
@given(
    keys=st.sets(short_keys, max_size=20),
    start=st.one_of(st.just(b""), short_keys),
    prefix=st.one_of(st.just(b""), short_keys, st.just(b"\xff")),
    reverse=st.booleans(),
)
def test_iterate_gives_what_sorting_and_filtering_gives(tmp_path_factory, keys, start, prefix, reverse):
    with Environment.open(tmp_path_factory.mktemp("iterate"), databases=["things"], metasync=False) as env:
        put(env, *keys)
        expected = [
            key
            for key in sorted(keys, reverse=reverse)
            if key.startswith(prefix) and (not start or (key <= start if reverse else key >= start))
        ]
        assert keys_of(env, start=start, prefix=prefix, reverse=reverse) == expected


def test_an_exception_in_an_update_leaves_no_trace(env):
    def fail(txn: WriteTxn) -> None:
        txn.put("things", b"a", b"v")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        env.update(fail)
    assert keys_of(env) == []
    put(env, b"b")
    assert keys_of(env) == [b"b"]


def test_a_view_is_a_snapshot(env):
    put(env, b"a")

    def look_twice(txn: ReadTxn) -> tuple[int, int]:
        before = txn.count("things")
        writer = threading.Thread(target=put, args=(env, b"b", b"c"))
        writer.start()
        writer.join()
        return before, txn.count("things")

    assert env.view(look_twice) == (1, 1)
    assert env.view(lambda txn: txn.count("things")) == 3


def test_a_view_inside_an_update_sees_its_changes(env):
    def nested(txn: WriteTxn) -> bytes | None:
        txn.put("things", b"a", b"new")
        return env.view(lambda inner: inner.get("things", b"a"))

    assert env.update(nested) == b"new"


@pytest.mark.parametrize("outer", ["view", "update"])
def test_an_update_inside_a_transaction_of_the_same_thread_is_refused(env, outer):
    with pytest.raises(StockroomError, match="is in a transaction"):
        getattr(env, outer)(lambda txn: env.update(lambda inner: inner.put("things", b"a", b"v")))
    put(env, b"b")
    assert keys_of(env) == [b"b"]


def test_nothing_of_a_transaction_can_be_used_after_it(env):
    put(env, b"a", b"b")
    txn = env.view(lambda txn: txn)
    pairs = env.view(lambda txn: txn.iterate("things"))
    with pytest.raises(ClosedError):
        txn.get("things", b"a")
    with pytest.raises(ClosedError):
        next(pairs)

    def start(txn: ReadTxn):
        found = txn.iterate("things")
        next(found)
        return found

    started = env.view(start)
    with pytest.raises(ClosedError):
        next(started)


@pytest.mark.parametrize("key", [b"", b"k" * (MAX_KEY_NBYTES + 1)])
def test_keys_outside_the_limits_are_refused_by_name_of_the_limit(env, key):
    with pytest.raises(InvalidInputError, match="1 to 511 bytes"):
        env.update(lambda txn: txn.put("things", key, b"v"))
    put(env, b"k" * MAX_KEY_NBYTES)
    assert keys_of(env) == [b"k" * MAX_KEY_NBYTES]


def test_threads_read_and_write_together_while_the_map_grows(tmp_path):
    with Environment.open(tmp_path, databases=["things"], map_nbytes=1 << 16, metasync=False) as env:
        failures: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                while not done.is_set():
                    keys = keys_of(env)
                    assert keys == sorted(keys)
            except BaseException as error:
                failures.append(error)

        def write(thread: int) -> None:
            try:
                for n in range(20):
                    put(env, b"%d-%03d" % (thread, n), value=bytes(8192))
            except BaseException as error:
                failures.append(error)

        reader = threading.Thread(target=read)
        writers = [threading.Thread(target=write, args=(thread,)) for thread in range(3)]
        for thread in [reader, *writers]:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        reader.join()
        assert failures == []
        assert env.view(lambda txn: txn.count("things")) == 60
        assert env.map_nbytes > 60 * 8192


def test_two_handles_on_one_path_share_one_environment(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "env", target_is_directory=True)
    first = Environment.open(tmp_path / "env", databases=["things"])
    second = Environment.open(link, databases=["things", "others"])
    put(first, b"a")
    assert keys_of(second) == [b"a"]
    first.close()
    first.close()
    put(second, b"b")
    assert second.view(lambda txn: txn.count("others")) == 0
    second.close()
    with pytest.raises(ClosedError, match="open the repository again"):
        keys_of(second)


def test_an_environment_deleted_and_made_anew_is_not_confused_with_the_old_one(tmp_path):
    old = Environment.open(tmp_path / "env", databases=["things"])
    put(old, b"old")
    (tmp_path / "env").rename(tmp_path / "moved")
    with Environment.open(tmp_path / "env", databases=["things"]) as new:
        assert keys_of(new) == []
        put(new, b"new")
        assert keys_of(old) == [b"old"]
    old.close()


def test_closing_waits_for_the_transactions_of_other_threads(tmp_path):
    env = Environment.open(tmp_path, databases=["things"])
    put(env, b"a")
    inside, seen = threading.Event(), []

    def slow(txn: ReadTxn) -> None:
        inside.set()
        closer.start()
        seen.extend(key for key, _ in txn.iterate("things"))

    closer = threading.Thread(target=env.close)
    reader = threading.Thread(target=env.view, args=(slow,))
    reader.start()
    reader.join()
    closer.join()
    assert seen == [b"a"]


def test_closing_inside_an_own_transaction_is_refused(env):
    with pytest.raises(StockroomError, match="is in a transaction"):
        env.view(lambda txn: env.close())
    put(env, b"still open")


def test_a_handle_that_is_dropped_closes_by_itself(tmp_path):
    def open_and_drop() -> None:
        Environment.open(tmp_path, databases=["things"])

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    open_and_drop()
    before = descriptors()
    for _ in range(5):
        open_and_drop()
    assert descriptors() == before


def test_environments_refuse_to_be_pickled(env):
    with pytest.raises(TypeError, match="send its path"):
        pickle.dumps(env)


def test_opening_what_is_not_there_without_creating_it(tmp_path):
    with pytest.raises(NotFoundError):
        Environment.open(tmp_path / "none", databases=["things"], create=False)
    assert not (tmp_path / "none").exists()


def test_a_file_that_is_not_lmdbs_is_damage_that_is_named(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"not an LMDB file" * 1000)
    with pytest.raises(CorruptionError, match="stock fsck") as caught:
        Environment.open(tmp_path, databases=["things"])
    assert str(tmp_path) in caught.value.where


def test_every_lmdb_error_has_a_translation():
    known = {error.__name__ for error in lmdb.Error.__subclasses__()} | {"Error"}
    assert known <= set(TRANSLATIONS)


@pytest.mark.parametrize("name", sorted(TRANSLATIONS))
def test_translations_name_the_path(name):
    error_class = getattr(lmdb, name, lmdb.Error)
    error = translate(error_class("what"), Path("/some/where"))
    assert isinstance(error, StockroomError)
    assert "/some/where" in str(error)


def test_a_version_lmdb_does_not_know_is_a_format_version():
    error = translate(lmdb.VersionMismatchError("x"), Path("/p"))
    assert isinstance(error, FormatVersionError)


def test_an_update_of_what_cannot_be_written_says_so(tmp_path):
    with Environment.open(tmp_path, databases=["things"]) as env:
        put(env, b"a")
    options = opening.OpenOptions()
    opened = opening.open_lmdb(tmp_path, options, only_reading=True)
    try:
        with pytest.raises(lmdb.ReadonlyError) as caught:
            opened.begin_write()
        assert isinstance(translate(caught.value, tmp_path), ReadOnlyError)
        handles = opening.open_databases(opened, ["things", "never made"])
        assert handles["never made"] is None
        raw = opened.begin_read()
        txn = ReadTxn(raw, handles, path=tmp_path)
        assert txn.get("never made", b"a") is None
        assert list(txn.iterate("never made")) == []
        assert txn.count("never made") == 0
        opened.end_read(raw)
    finally:
        opened.close()


def test_one_file_by_two_paths_is_one_environment(env, tmp_path):
    """As a bind mount gives it: LMDB refuses to open a file twice in a process."""
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "data.mdb").hardlink_to(tmp_path / "env" / "data.mdb")
    put(env, b"a")

    with Environment.open(tmp_path / "mount", databases=["things"]) as other:
        assert keys_of(other) == [b"a"]
        put(other, b"b")
    assert keys_of(env) == [b"a", b"b"]
