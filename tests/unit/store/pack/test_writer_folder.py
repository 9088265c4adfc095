"""What a process that died left behind is taken in or cleared away; what lives is left alone."""

from __future__ import annotations

import os
import time

from stockroom.store.chunk_run import Stream
from stockroom.store.pack.writer_folder import LOCK_NAME, PUBLISHING_SUFFIX, collect_leftovers, create_writer_folder
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter

STREAM = Stream("uint8", (1000,), "raw")


def _die(write) -> None:
    """Run `write` in a child process that ends there and then, as if killed."""
    child = os.fork()
    if child == 0:
        try:
            write()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _make_writer(root):
    store = TensorStore(root)
    return store, TensorWriter(store)


def test_a_dead_writers_folder_is_cleared_by_the_next_and_a_live_ones_is_not(tmp_path, rows):
    root = tmp_path / "store"
    TensorStore(root).close()

    def write() -> None:
        _, writer = _make_writer(root)
        writer.put_rows(rows, STREAM)

    _die(write)
    (dead,) = (root / "tmp").iterdir()
    live_store, live = _make_writer(root)
    assert not dead.exists()
    digests = live.put_rows(rows[:100], STREAM)
    other_store, other = _make_writer(root)  # clears away what is dead: not this one
    live.flush()
    assert (live_store.gather(live_store.locate(digests, 1000), 1000) == rows[:100]).all()
    for writer in (live, other):
        writer.close()
    for store in (live_store, other_store):
        store.close()
    assert list((root / "tmp").iterdir()) == []


def test_a_pack_published_but_not_registered_is_registered_by_the_next_writer(store, put, rows, only_pack):
    digests = put(rows)
    pack = only_pack()
    store.index.unregister(list(store.catalog.read_packs()))
    folder, lock = create_writer_folder(store.tmp_directory)
    (folder / f"{pack.name}{PUBLISHING_SUFFIX}").touch()
    (folder / f"{'ab' * 32}{PUBLISHING_SUFFIX}").touch()  # it died before this one was in place
    lock.release()
    TensorWriter(store).close()
    assert store.contains(digests).all()
    assert not folder.exists()


def test_a_damaged_leftover_does_not_keep_writers_out(store, put, rows, only_pack):
    put(rows)
    pack = only_pack()
    store.index.unregister(list(store.catalog.read_packs()))
    (pack / "chunks").write_bytes(b"torn")
    folder, lock = create_writer_folder(store.tmp_directory)
    (folder / f"{pack.name}{PUBLISHING_SUFFIX}").touch()
    lock.release()
    assert collect_leftovers(store.tmp_directory, store.packs_directory) == []
    assert not folder.exists()


def test_a_folder_not_yet_locked_is_left_alone_until_it_is_old(tmp_path):
    tmp = tmp_path / "tmp"
    for name in (".12-abcd", "12-beef"):
        (tmp / name).mkdir(parents=True)
    (tmp / ".12-abcd" / LOCK_NAME).touch()
    (tmp / "stray-file").touch()
    assert collect_leftovers(tmp, tmp_path) == []
    assert len(list(tmp.iterdir())) == 3
    for path in tmp.iterdir():
        os.utime(path, (time.time() - 3600,) * 2)
    collect_leftovers(tmp, tmp_path)
    assert [path.name for path in tmp.iterdir()] == ["stray-file"]
