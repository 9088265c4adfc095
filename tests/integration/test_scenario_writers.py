"""Writers and readers of one repository in several processes: leases, pinned readers, write blocks, killed writers."""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from stockroom import (
    ClosedError,
    ColumnNotFoundError,
    LockedError,
    ReadOnlyError,
    RefNotFoundError,
    StockRoom,
    make_torch_dataset,
)

PATIENCE_S = 60

HEADER = """
import fcntl, os, sys
import numpy as np
from stockroom import LockedError, StockRoom
path = sys.argv[1]
def say(*words):
    print(*words, flush=True)
def wait():
    return sys.stdin.readline().strip()
"""


class Child:
    """A process of its own that runs `code` and talks in lines."""

    def __init__(self, path, code, *arguments):
        source = HEADER + textwrap.dedent(code)
        self.process = subprocess.Popen(
            [sys.executable, "-c", source, str(path), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.process.stdout, selectors.EVENT_READ)

    @property
    def pid(self):
        return self.process.pid

    def hear(self):
        assert self._selector.select(PATIENCE_S), "the child process said nothing"
        return self.process.stdout.readline().decode().strip()

    def tell(self, line=""):
        self.process.stdin.write(f"{line}\n".encode())

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def finish(self):
        self.process.stdin.close()
        assert self.process.wait(PATIENCE_S) == 0


@pytest.fixture
def start(request):
    """Start a child; whatever is still running when the test ends is killed."""

    def start_child(path, code, *arguments):
        child = Child(path, code, *arguments)
        request.addfinalizer(lambda: child.process.stdout.close())
        request.addfinalizer(lambda: child.process.wait(PATIENCE_S))
        request.addfinalizer(child.process.kill)
        return child

    return start_child


HOLD = """
with StockRoom(path, enable_write=True) as stock:
    say("held")
    wait()
"""

CONTEND = """
gate = os.open(sys.argv[2], os.O_RDONLY)
while (word := wait()) == "round":
    say("ready")
    fcntl.flock(gate, fcntl.LOCK_SH)  # opened for all at once
    fcntl.flock(gate, fcntl.LOCK_UN)
    try:
        stock = StockRoom(path, enable_write=True, timeout_s=0)
    except LockedError as error:
        say("locked", error.pid)
        continue
    os.close(os.open(sys.argv[2] + ".held", os.O_CREAT | os.O_EXCL))  # fails with two holders
    say("held", os.getpid())
    wait()
    os.unlink(sys.argv[2] + ".held")
    stock.close()
    say("free")
"""


def test_of_four_processes_at_the_same_instant_exactly_one_becomes_the_writer(stock, start, tmp_path):
    gate_path = tmp_path / "gate"
    gate_path.touch()
    contenders = [start(stock.path, CONTEND, gate_path) for _ in range(4)]
    with gate_path.open() as gate:
        for _ in range(50):
            fcntl.flock(gate, fcntl.LOCK_EX)
            for child in contenders:
                child.tell("round")
            assert [child.hear() for child in contenders] == ["ready"] * 4
            fcntl.flock(gate, fcntl.LOCK_UN)
            answers = [child.hear().split() for child in contenders]
            holders = [child for child, answer in zip(contenders, answers, strict=True) if answer[0] == "held"]
            assert len(holders) == 1
            assert [answer[1] for answer in answers] == [str(holders[0].pid)] * 4
            with StockRoom(stock.path) as reader:  # readers are let in all the while
                assert reader.commit_id is None
            holders[0].tell()
            assert holders[0].hear() == "free"
    for child in contenders:
        child.finish()


def test_a_second_writer_waits_and_then_names_the_holder(stock, start):
    holder = start(stock.path, HOLD)
    assert holder.hear() == "held"
    with pytest.raises(LockedError) as caught:
        StockRoom(stock.path, enable_write=True, timeout_s=0.1)
    assert caught.value.pid == holder.pid
    assert caught.value.host
    assert str(holder.pid) in str(caught.value)
    assert caught.value.since in str(caught.value)
    with pytest.raises(LockedError), stock.enable_write(timeout_s=0):
        pass


def test_a_waiting_writer_gets_in_when_the_holder_finishes(stock, start):
    holder = start(stock.path, HOLD)
    assert holder.hear() == "held"
    opened = []
    waiter = threading.Thread(target=lambda: opened.append(StockRoom(stock.path, enable_write=True, timeout_s=30)))
    waiter.start()
    holder.finish()
    waiter.join(PATIENCE_S)
    assert len(opened) == 1
    opened[0].close()


def test_a_failed_open_holds_nothing(stock):
    with stock.enable_write() as writer:
        writer.data["x"] = [1]
    stock.create_branch("experiment")
    with pytest.raises(RefNotFoundError, match="'experiment'") as caught:
        StockRoom(stock.path, ref="experimnet")
    assert caught.value.near == ("experiment",)
    with StockRoom(stock.path, enable_write=True, timeout_s=0) as writer:
        assert list(writer.data) == ["x"]


def test_a_writer_that_fails_to_open_frees_the_lease(stock):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"] = [1]
        writer.commit("one")
        writer.data["x"] = [2]
    head = (stock.path / "head.stock").read_text()
    (stock.path / "head.stock").write_text("not a head\n")
    with pytest.raises(Exception, match=r"head\.stock"):
        StockRoom(stock.path, enable_write=True)
    (stock.path / "head.stock").write_text(head)
    with StockRoom(stock.path, enable_write=True, timeout_s=0) as writer:
        assert writer.data["x", 0] == 2


CHANGE = """
with StockRoom(path) as stock:
    with stock.enable_write("change"):
        column = stock.data["x"]
        column[1] = np.int64(100)
        column[7] = np.int64(700)
        del column[0]
        stock.data["new"] = [1.5]
        del stock.data["old"]
say("done")
"""


def test_a_reader_keeps_what_it_opened_until_it_refreshes(stock, start):
    with stock.enable_write() as writer:
        writer.data["x"] = np.arange(3)
        writer.data["old"] = ["gone"]
    other = StockRoom(stock.path)
    column = stock.data["x"]
    first = stock.commit_id
    child = start(stock.path, CHANGE)
    assert child.hear() == "done"

    assert {**column} == {0: 0, 1: 1, 2: 2}
    assert {**stock.data["x"]} == {0: 0, 1: 1, 2: 2}
    assert list(stock.data) == ["old", "x"]
    assert stock.data["old", 0] == "gone"
    assert stock.commit_id == first
    with StockRoom(stock.path) as fresh:
        assert {**fresh.data["x"]} == {1: 100, 2: 2, 7: 700}
    stock.refresh()
    assert stock.commit_id != first
    assert {**stock.data["x"]} == {1: 100, 2: 2, 7: 700}
    assert list(stock.data) == ["new", "x"]
    with pytest.raises(ColumnNotFoundError):
        stock.data["old"]
    assert {**column} == {0: 0, 1: 1, 2: 2}  # taken before the refresh
    stock.close()
    assert {**other.data["x"]} == {0: 0, 1: 1, 2: 2}
    other.close()


USES_OF_WHAT_IS_CLOSED = [
    "next(keys)",
    "next(columns)",
    "next(items)",
    "next(values)",
    "next(log)",
    "next(operations)",
    "len(diff)",
    "column[0]",
    "column[99]",
    "big[1]",
    "column[[0, 1]]",
    "column[0:2]",
    "column.take([0])",
    "column.view(0)",
    'named["a"]',
    "0 in column",
    "len(column)",
    "list(column)",
    "column.shape",
    "column.dtype",
    "column.key_type",
    "column.nbytes",
    "column.attrs",
    "column.root",
    "column.codec",
    "column.digest(0)",
    "column.present()",
    "column.prefetch()",
    "column.positions_of([0])",
    "column.update({0: np.zeros(3, int)})",
    "column.extend([])",
    "column.__setitem__(0, np.zeros(3, int))",
    "column.__delitem__(0)",
    "text[0]",
    "dataset[0]",
    "len(dataset)",
    "dataset.__getstate__()",
    'shelf["x"]',
    'shelf["x", 0]',
    '"x" in shelf',
    "len(shelf)",
    "list(shelf)",
    'shelf.__setitem__("y", [1])',
    'shelf.__delitem__("x")',
    'shelf.create("y", dtype="uint8")',
    "stock.data",
    "stock.commit_id",
    "stock.branch",
    "stock.branches",
    "stock.tags",
    "stock.refresh()",
    "stock.status()",
    "stock.reset()",
    "stock.log()",
    "stock.diff()",
    "stock.verify()",
    "stock.undo()",
    "stock.operations()",
    'stock.commit("m")',
    "stock.flush()",
    'stock.checkout("main")',
    'stock.create_branch("b")',
    'stock.delete_branch("b")',
    'stock.create_tag("t")',
    'stock.delete_tag("t")',
    "stock.enable_write().__enter__()",
]


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "beside another"])
def taken(request, tmp_path_factory):
    """By name, a closed handle and all that was taken from it before; and another handle, which may be open."""
    with StockRoom.init(tmp_path_factory.mktemp("closed") / "repo") as stock:
        with stock.enable_write() as writer:
            writer.data["x"] = np.arange(12).reshape(4, 3)
            writer.data["big"] = np.zeros((3, 100))
            writer.data["text"] = ["a", "b", "c", "d"]
            writer.data["named"] = {"a": 1}
            writer.commit("first")
            writer.data["more"] = [1]
        other = StockRoom(stock.path) if request.param else None
        shelf = stock.data
        column, big, text, named = (shelf[name] for name in ("x", "big", "text", "named"))
        keys, columns, items, values = iterators = (
            iter(column),
            iter(shelf),
            iter(column.items()),
            iter(text.values()),
        )
        for iterator in iterators:
            next(iterator)
        log, operations, diff = stock.log(), stock.operations(), stock.diff("HEAD~1", "HEAD")
        dataset = make_torch_dataset([column, text])
        column[0], big[0], dataset[0]  # so that something is open and kept
    yield locals()
    if other is not None:
        other.close()


@pytest.mark.parametrize("use", USES_OF_WHAT_IS_CLOSED)
def test_whatever_was_taken_from_a_closed_handle_raises_closed_error(taken, use):
    with pytest.raises(ClosedError):
        print(eval(use, {"np": np}, taken))


def test_a_handle_may_be_closed_twice_and_closes_no_other(taken):
    taken["stock"].close()
    assert "closed" in repr(taken["stock"])
    if taken["other"] is not None:
        assert taken["other"].data["x"][0].tolist() == [0, 1, 2]


KILLED = {
    "in the middle of writing samples": """
        stock = StockRoom(path, enable_write=True)
        column = stock.data["x"]
        say("writing")
        key = 1000
        while True:
            column[key] = np.full(64, key)
            key += 1
    """,
    "in the middle of committing": """
        stock = StockRoom(path, enable_write=True)
        column = stock.data["x"]
        column[1000] = np.full(64, 1)
        prepare = type(stock._repository.paths.head).prepare
        def stop(self, head):
            prepare(self, head)
            say("writing")
            wait()
        type(stock._repository.paths.head).prepare = stop
        stock.commit("never finished")
    """,
    "in the middle of a bulk import": """
        stock = StockRoom(path, enable_write=True)
        def samples():
            say("writing")
            key = 0
            while True:
                yield np.full(64, key)
                key += 1
        stock.data["x"].extend(samples())
    """,
}


@pytest.mark.parametrize("where", KILLED)
def test_a_writer_killed(stock, start, where):
    with stock.enable_write("first") as writer:
        writer.data["x"] = np.zeros((3, 64), int)
    first = stock.commit_id
    child = start(stock.path, KILLED[where])
    assert child.hear() == "writing"
    with pytest.raises(LockedError):  # alive: it is not displaced
        StockRoom(stock.path, enable_write=True, timeout_s=0)
    child.kill()
    with StockRoom(stock.path, enable_write=True, timeout_s=0) as writer:
        assert [commit.id for commit in writer.log()] == [first]
        assert list(writer.data["x"]) == [0, 1, 2]
        assert writer.verify().ok
        writer.data["x"][3] = np.ones(64, int)
        second = writer.commit("second")
    stock.refresh()
    assert [commit.id for commit in stock.log()] == [second, first]


def test_a_reader_refuses_to_write_and_says_how(stock):
    with stock.enable_write() as writer:
        writer.data["x"] = [1, 2]
    column = stock.data["x"]
    uses = [
        lambda: column.__setitem__(0, 5),
        lambda: column.__delitem__(0),
        lambda: column.update({0: 5}),
        lambda: column.extend([5]),
        lambda: setattr(column, "attrs", {"a": 1}),
        lambda: setattr(column, "codec", "raw"),
        lambda: stock.data.__setitem__("y", [1]),
        lambda: stock.data.__setitem__(("x", 0), 1),
        lambda: stock.data.__delitem__("x"),
        lambda: stock.data.create("y", dtype="uint8"),
        lambda: stock.commit("m"),
        lambda: stock.flush(),
    ]
    for use in uses:
        with pytest.raises(ReadOnlyError, match="enable_write"):
            use()
    with StockRoom(stock.path, ref="main") as pinned, pytest.raises(ReadOnlyError), pinned.enable_write():
        pass
    assert stock.status().clean


def test_a_write_block_commits_what_changed_and_pins_the_handle(stock):
    with stock.enable_write("add x") as writer:
        assert writer is stock
        stock.data["x"] = [1, 2]
    assert [commit.message for commit in stock.log()] == ["add x"]
    assert stock.commit_id == next(stock.log()).id
    assert stock.data["x", 1] == 2


def test_a_write_block_without_changes_commits_nothing(stock):
    with stock.enable_write():
        pass
    assert list(stock.log()) == []
    with stock.enable_write():
        stock.data["x"] = [1]
    with stock.enable_write():
        stock.data["x"] = [1]
        stock.data["y"] = [1]
        del stock.data["y"]
    assert len(list(stock.log())) == 1


def test_a_write_block_without_changes_leaves_the_stage_as_it_was(stock):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"] = [1]
    with stock.enable_write():
        assert stock.data["x", 0] == 1
    assert list(stock.log()) == []
    assert list(stock.status().changes) == ["data/x"]
    with stock.enable_write():
        del stock.data["x"]
    assert list(stock.log()) == []
    assert stock.status().clean


@pytest.mark.parametrize("flushed", [False, True])
def test_an_exception_in_a_write_block_discards_its_changes_and_frees_the_lease(stock, flushed):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["x"] = np.zeros((3, 100))
    with pytest.raises(RuntimeError, match="on purpose"), stock.enable_write():  # noqa: PT012 - the block is what is tested
        stock.data["x"][0] = np.ones(100)
        stock.data["y"] = np.ones((50, 100))
        kept = stock.data["x"]
        if flushed:
            stock.flush()
        raise RuntimeError("on purpose")
    with pytest.raises(ColumnNotFoundError):  # the handle is back on HEAD, which has no commit
        kept[0]
    with StockRoom(stock.path, enable_write=True, timeout_s=0) as writer:
        assert list(writer.data) == ["x"]
        assert not writer.data["x"][0].any()
    assert stock.verify().ok


def test_a_commit_inside_a_block_stands_when_the_block_fails_later(stock):
    with pytest.raises(KeyError), stock.enable_write():  # noqa: PT012 - the block is what is tested
        stock.data["x"] = [1]
        stock.commit("inside")
        stock.data["x"] = [2]
        raise KeyError("later")
    assert [commit.message for commit in stock.log()] == ["inside"]
    assert stock.data["x", 0] == 1
    assert stock.status().clean


def test_write_blocks_do_not_nest(stock):
    with stock.enable_write():
        stock.data["x"] = [1]
        with pytest.raises(LockedError, match="nest"), stock.enable_write():
            pass
        stock.data["x"].extend([2])
    assert stock.data["x"][:].tolist() == [1, 2]


def test_a_handle_closed_inside_its_block_keeps_the_lease_no_longer(stock):
    with pytest.raises(ClosedError), stock.enable_write():  # noqa: PT012 - the block is what is tested
        stock.data["x"] = [1]
        stock.close()
    with StockRoom(stock.path, enable_write=True, timeout_s=0) as writer:
        assert list(writer.status().changes) == ["data/x"]  # close makes staged changes durable


def test_a_column_taken_in_a_block_reads_on_after_it_and_writes_no_more(stock):
    with stock.enable_write():
        stock.data["x"] = [1]
        column = stock.data["x"]
    assert column[0] == 1
    with pytest.raises(ReadOnlyError):
        column[0] = 2
    with stock.enable_write(), pytest.raises(ReadOnlyError, match="take it again"):
        column[0] = 2


READ_HEADS = """
reported = 0
while True:
    with StockRoom(path) as stock:
        count = len(list(stock.log()))
        if count:
            assert stock.data["x", 0] == count, (stock.data["x", 0], count)
    if not reported:
        say("reading")
        reported = 1
    if count == 200:
        break
say("done")
"""


def test_readers_opening_during_commits_disturb_no_commit(stock, start):
    readers = [start(stock.path, READ_HEADS) for _ in range(2)]
    assert [reader.hear() for reader in readers] == ["reading"] * 2
    with StockRoom(stock.path, enable_write=True) as writer:
        for count in range(1, 201):
            writer.data["x"] = [count]
            writer.commit(f"number {count}")
    assert [reader.hear() for reader in readers] == ["done"] * 2
    for reader in readers:
        reader.finish()


def test_a_forked_child_holds_nothing_of_its_parents_lease(stock):
    ready, go = os.pipe(), os.pipe()
    writer = StockRoom(stock.path, enable_write=True)
    pid = os.fork()
    if pid == 0:  # lives on while the parent closes
        os.write(ready[1], b".")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    with pytest.raises(LockedError):
        StockRoom(stock.path, enable_write=True, timeout_s=0)
    writer.close()
    StockRoom(stock.path, enable_write=True, timeout_s=0).close()
    os.write(go[1], b".")
    assert os.waitpid(pid, 0)[1] == 0
    for end in (*ready, *go):
        os.close(end)
