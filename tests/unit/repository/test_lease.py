"""The writer's lease: one holder, named to those who wait, gone with its process."""

from __future__ import annotations

import os
import socket
import threading

import numpy as np
import pytest

from stockroom import ClosedError, LockedError, ReadOnlyError, StockRoom
from stockroom.repository.lease import acquire_lease


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "writer.lock"


def test_a_second_lease_is_refused_naming_the_first(lock):
    first = acquire_lease(lock, timeout_s=0)
    assert first.is_held
    with pytest.raises(LockedError, match="waited 0 s") as caught:
        acquire_lease(lock, timeout_s=0)
    assert (caught.value.pid, caught.value.host) == (os.getpid(), socket.gethostname())
    first.release()
    first.release()
    assert not first.is_held
    acquire_lease(lock, timeout_s=0).release()


def test_a_lease_nobody_holds_on_to_is_free_again(lock):
    lease = acquire_lease(lock, timeout_s=0)
    del lease
    acquire_lease(lock, timeout_s=0).release()


def test_a_writer_dropped_without_closing_keeps_nobody_out(stock):
    writer = StockRoom(stock.path, enable_write=True)
    writer.data["x"] = [1]
    del writer
    with StockRoom(stock.path, enable_write=True, timeout_s=0) as writer:
        assert list(writer.data) == []  # it was never flushed


def test_what_a_dead_holder_wrote_about_itself_keeps_nobody_out(lock):
    for left_behind in (
        b"",
        b"garbage",
        b'{"pid":1,"host":"gone","since":"1970-01-01T00:00:00+00:00"}',
        b"\xff" * 9999,
    ):
        lock.write_bytes(left_behind)
        lease = acquire_lease(lock, timeout_s=0)
        with pytest.raises(LockedError) as caught:
            acquire_lease(lock, timeout_s=0)
        assert caught.value.pid == os.getpid()
        lease.release()


def test_a_holder_that_cannot_be_named_still_holds(lock):
    lease = acquire_lease(lock, timeout_s=0)
    lock.write_bytes(b"not json")
    with pytest.raises(LockedError, match=r"another writer.*this process itself holds") as caught:
        acquire_lease(lock, timeout_s=0)
    assert caught.value.pid in (os.getpid(), None)
    lease.release()


def test_threads_of_one_process_exclude_each_other(lock):
    inside, most, errors = [], [], []

    def work():
        try:
            for _ in range(20):
                lease = acquire_lease(lock, timeout_s=30)
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                lease.release()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(most) == {1}


def test_a_forked_child_has_no_lease_and_cannot_free_its_parents(lock):
    lease = acquire_lease(lock, timeout_s=0)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            was_held = lease.is_held
            lease.release()
            acquire_lease(lock, timeout_s=0)
        except LockedError as error:
            status = 0 if error.pid == os.getppid() and not was_held else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert lease.is_held
    with pytest.raises(LockedError):
        acquire_lease(lock, timeout_s=0)
    lease.release()


def test_a_folder_that_cannot_be_written_is_read_only_not_locked(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(ReadOnlyError, match="only reads"):
        acquire_lease(tmp_path / "writer.lock", timeout_s=0)


def in_a_child(fn):
    """Whether `fn` raised `ClosedError` in a forked child."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            fn()
        except ClosedError:
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_child_writes_nothing_through_its_parents_handle(stock):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"] = np.zeros((2, 100))
        column = writer.data["x"]
        column[2] = np.ones(100)

        def leave_a_block():
            writer.close()
            column[0]

        for use in (
            lambda: column.__setitem__(0, np.ones(100)),
            lambda: column.__delitem__(0),
            lambda: column.extend([np.ones(100)]),
            lambda: writer.data.__setitem__("y", [1]),
            lambda: writer.data.__delitem__("x"),
            lambda: writer.commit("by the child"),
            lambda: writer.flush(),
            lambda: writer.reset(),
            lambda: writer.undo(),
            lambda: writer.checkout("other", create=True),
            lambda: column[2],  # not written out
            leave_a_block,
        ):
            assert in_a_child(use)
        writer.commit("by the parent")
    stock.refresh()
    assert [commit.message for commit in stock.log()] == ["by the parent"]
    assert [sample[0] for sample in stock.data["x"].values()] == [0, 0, 1]
    assert stock.verify().ok


def test_a_write_block_left_by_a_forked_child_is_still_the_parents(stock):
    with stock.enable_write("by the parent"):
        stock.data["x"] = np.zeros((2, 100))
        pid = os.fork()
        if pid == 0:
            try:
                stock._pin.workspace.finish("by the child")  # what the end of the block does
            except ClosedError:
                stock._pin.workspace.rollback()
                stock._pin.workspace.close()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    assert [commit.message for commit in stock.log()] == ["by the parent"]
    assert stock.data["x"][:].shape == (2, 100)
    assert stock.verify().ok


def test_a_forked_child_reads_what_its_parent_flushed(stock):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"] = np.ones((2, 100))
        writer.flush()
        column = writer.data["x"]
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if column[1].sum() == 100 and column[:].sum() == 200 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
