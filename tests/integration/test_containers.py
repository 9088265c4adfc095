"""One repository in several containers: their processes have equal ids, and mounts give it several paths."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tests.kit.containers import can_contain, contain, finish, kill

from stockroom import ReadOnlyError, StockRoom
from stockroom.kv import Environment, file_system, list_damage

needs_containers = pytest.mark.skipif(not can_contain(), reason="containers take root and the right to mount")

OPEN = """
import os, sys
from pathlib import Path
from stockroom.kv import Environment
env = Environment.open(Path(sys.argv[1]), databases=["things"], metasync=False)
assert os.getpid() == 1
"""

HOLD = (
    OPEN
    + """
def read(txn):
    print("inside", flush=True)
    sys.stdin.readline()
    return sum(len(value) for _, value in txn.iterate("things"))
print(env.view(read))
"""
)

HAMMER = (
    OPEN
    + """
print("open", flush=True)
seen = 0
while seen < int(sys.argv[2]):
    values = env.view(lambda txn: [value for _, value in txn.iterate("things")])
    assert len(values) == 40 and len({value[:8] for value in values}) == 1, "a snapshot changed"
    assert {len(value) for value in values} == {len(values[0])}
    assert int(values[0][:8]) >= seen
    seen = int(values[0][:8])
"""
)

WRITE = (
    OPEN
    + """
print("open", flush=True)
for n in range(1, int(sys.argv[2]) + 1):
    value = b"%08d" % n + bytes(n * 37 % 3000)
    env.update(lambda txn: [txn.put("things", b"%03d" % m, value) for m in range(40)])
"""
)


def fill(env: Environment, nbytes: int) -> None:
    env.update(lambda txn: [txn.put("things", b"%03d" % n, os.urandom(nbytes)) for n in range(50)])


def await_line(process, line: str) -> None:
    assert process.stdout.readline() == f"{line}\n"


@needs_containers
def test_readers_in_containers_keep_their_snapshots_while_another_process_writes(tmp_path):
    with Environment.open(tmp_path, databases=["things"], metasync=False) as env:
        fill(env, 2000)
        readers = [contain(HOLD, tmp_path) for _ in range(2)]
        for reader in readers:
            await_line(reader, "inside")
        for _ in range(20):
            fill(env, 100)
        assert [finish(reader) for reader in readers] == ["100000\n"] * 2
    assert list_damage(tmp_path) == []


@needs_containers
def test_containers_read_what_another_one_writes_and_no_snapshot_changes(tmp_path):
    with Environment.open(tmp_path, databases=["things"], metasync=False) as env:
        env.update(lambda txn: [txn.put("things", b"%03d" % n, b"%08d" % 0) for n in range(40)])
    readers = [contain(HAMMER, tmp_path, 300) for _ in range(2)]
    for reader in readers:
        await_line(reader, "open")
    finish(contain(WRITE, tmp_path, 300))
    assert [finish(reader) for reader in readers] == [""] * 2
    assert list_damage(tmp_path) == []


@needs_containers
def test_two_containers_write_in_turn_and_lose_nothing(tmp_path):
    Environment.open(tmp_path, databases=["things"]).close()
    code = (
        OPEN
        + """
for n in range(60):
    env.update(lambda txn: txn.put("things", f"{sys.argv[2]} {n}".encode(), os.urandom(500)))
"""
    )
    writers = [contain(code, tmp_path, name) for name in ("a", "b")]
    for writer in writers:
        finish(writer)
    with Environment.open(tmp_path, databases=["things"]) as env:
        assert env.view(lambda txn: txn.count("things")) == 120
    assert list_damage(tmp_path) == []


@needs_containers
def test_a_reader_killed_in_its_container_keeps_no_page(tmp_path):
    with Environment.open(tmp_path, databases=["things"], metasync=False) as env:
        fill(env, 4000)
        sizes = []
        for _ in range(4):
            reader = contain(HOLD, tmp_path)
            await_line(reader, "inside")
            fill(env, 4000)
            kill(reader)
            for _ in range(6):
                fill(env, 4000)
            sizes.append((tmp_path / "data.mdb").stat().st_size)
        assert sizes[-1] == sizes[1]


@needs_containers
def test_a_reader_of_a_read_only_mount_keeps_its_snapshot_from_writers_elsewhere(tmp_path):
    folder, mounted = tmp_path / "env", tmp_path / "mounted"
    mounted.mkdir()
    with Environment.open(folder, databases=["things"], metasync=False) as env:
        fill(env, 2000)
        reader = contain(
            HOLD.replace("assert os", "assert env.readonly and os"), mounted, mount=(folder, mounted, "ro")
        )
        await_line(reader, "inside")
        for _ in range(20):
            fill(env, 100)
        assert finish(reader) == "100000\n"


READ_ALL = """
import os, sys
from stockroom import StockRoom
assert os.getpid() == 1
with StockRoom(sys.argv[1]) as stock:
    pinned = stock.data["x"]
    print(len(pinned), flush=True)
    for line in sys.stdin:
        assert pinned[:].sum() == len(pinned) * 8 * 7
        stock.refresh()
        print(len(stock.data["x"]), len(list(stock.log())), flush=True)
"""


@needs_containers
@pytest.mark.parametrize("how", ["rw", "ro"])
def test_a_repository_is_read_in_two_containers_while_a_third_process_commits(tmp_path, how):
    path, mounted = tmp_path / "repo", tmp_path / "mounted"
    mounted.mkdir()
    with StockRoom.init(path) as stock, stock.enable_write("first"):
        stock.data["x"] = np.full((4, 8), 7)
    with StockRoom(path) as stock:
        readers = [contain(READ_ALL, mounted, mount=(path, mounted, how)) for _ in range(2)]
        for reader in readers:
            await_line(reader, "4")
        for n in range(1, 6):
            with stock.enable_write(f"more {n}"):
                stock.data["x"].extend(np.full((2, 8), 7))
            for reader in readers:
                reader.stdin.write("go\n")
                reader.stdin.flush()
                await_line(reader, f"{4 + 2 * n} {n + 1}")
        for reader in readers:
            finish(reader, "")


@needs_containers
def test_a_repository_is_one_by_two_real_paths_in_one_process_and_in_its_children(tmp_path):
    path, mounted = tmp_path / "repo", tmp_path / "mounted"
    mounted.mkdir()
    with StockRoom.init(path) as stock, stock.enable_write("first"):
        stock.data["x"] = np.arange(6)
    code = """
    import os, sys
    from stockroom import LockedError, StockRoom
    here, there = StockRoom(sys.argv[1], enable_write=True), StockRoom(sys.argv[2])
    assert there.data["x"][3] == 3
    here.data["x"].extend([6])
    here.commit("more")
    there.refresh()
    assert len(there.data["x"]) == 7
    try:
        StockRoom(sys.argv[2], enable_write=True, timeout_s=0)
    except LockedError as error:
        print(error)
    pid = os.fork()
    if pid == 0:
        with StockRoom(sys.argv[2]) as child:
            os._exit(0 if len(child.data["x"]) == 7 and len(there.data["x"]) == 7 else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    said = finish(contain(code, path, mounted, mount=(path, mounted, "rw"))).splitlines()
    assert "this process itself has been writing" in said[0]
    assert said[1:] == ["0"]


@needs_containers
def test_a_read_only_mount_that_was_opened_first_keeps_nobody_from_writing_by_another_path(tmp_path):
    path, mounted = tmp_path / "repo", tmp_path / "mounted"
    mounted.mkdir()
    with StockRoom.init(path) as stock, stock.enable_write("first"):
        stock.data["x"] = np.arange(6)
    code = """
    import sys
    from stockroom import ReadOnlyError, StockRoom
    there, here = StockRoom(sys.argv[2]), StockRoom(sys.argv[1])
    try:
        there.enable_write("there").__enter__()
    except ReadOnlyError:
        print("refused")
    with here.enable_write("here"):
        here.data["x"].extend([6])
    there.refresh()
    print(len(there.data["x"]))
    """
    assert finish(contain(code, path, mounted, mount=(path, mounted, "ro"))).split() == ["refused", "7"]


@needs_containers
def test_a_writer_in_another_container_is_not_taken_for_this_process(tmp_path):
    path = tmp_path / "repo"
    StockRoom.init(path).close()
    hold = """
    import sys
    from stockroom import StockRoom
    with StockRoom(sys.argv[1], enable_write=True):
        print("writing", flush=True)
        sys.stdin.readline()
    """
    try_it = """
    import sys
    from stockroom import LockedError, StockRoom
    try:
        StockRoom(sys.argv[1], enable_write=True, timeout_s=0)
    except LockedError as error:
        print(error)
    """
    holder = contain(hold, path)
    await_line(holder, "writing")
    said = finish(contain(try_it, path))
    assert said.startswith("process 1 (-c) on ")
    assert "has been writing since" in said
    finish(holder)


def list_content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def on_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_system, "_find_of_device", lambda _: "nfs4")


def test_a_repository_on_a_network_file_system_is_read_and_every_way_of_writing_is_refused(tmp_path, request):
    path = tmp_path / "repo"
    with StockRoom.init(path) as stock, stock.enable_write("first"):
        stock.data["x"] = np.arange(6)
    before = list_content(path)
    request.getfixturevalue("on_network")
    with StockRoom(path) as stock:
        assert stock.data["x"][3] == 3
        assert [commit.message for commit in stock.log()] == ["first"]
        assert stock.status().clean
        assert stock.verify().ok
        for write in (
            lambda: stock.enable_write("more").__enter__(),
            lambda: stock.session("main"),
            lambda: stock.create_branch("dev"),
            lambda: stock.gc(),
            lambda: StockRoom.init(tmp_path / "new"),
            lambda: StockRoom.clone(path, tmp_path / "clone"),
        ):
            with pytest.raises(ReadOnlyError, match=r"network file system \(nfs4\).*only reads work here.*stock push"):
                write()
    assert list_content(path) == before
    assert list_content(tmp_path / "new") == list_content(tmp_path / "clone") == {}
