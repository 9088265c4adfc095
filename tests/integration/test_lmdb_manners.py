"""How environments behave between processes: forks, kills, growth by others, limits, full disks, cut files."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.kit.children import call_in_fork

from stockroom import StockRoom
from stockroom.errors import CorruptionError, LockedError, StockroomError
from stockroom.kv import Environment, list_damage

DATABASES = ["things"]

HEADER = """
import os, sys
from pathlib import Path
from stockroom.errors import *
from stockroom.kv import Environment
env = Environment.open(Path(sys.argv[1]), databases=["things"])
"""


def open_env(path, **options):
    return Environment.open(path, databases=DATABASES, **options)


def put(env, key, value=b"v"):
    env.update(lambda txn: txn.put("things", key, value))


def get(env, key):
    return env.view(lambda txn: txn.get("things", key))


def start_process(path, code):
    return subprocess.Popen(
        [sys.executable, "-c", HEADER + textwrap.dedent(code), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# fork


def test_a_forked_child_reads_and_writes_and_the_parent_is_still_fine(tmp_path):
    with open_env(tmp_path) as env:
        put(env, b"parent", b"1")

        def child():
            assert get(env, b"parent") == b"1"
            put(env, b"child", b"2")
            env.close()

        assert call_in_fork(child) == 0
        assert get(env, b"child") == b"2"
        put(env, b"parent", b"3")
        assert get(env, b"parent") == b"3"


def test_a_snapshot_stands_while_forked_children_write(tmp_path):
    with open_env(tmp_path, metasync=False) as env:
        for n in range(50):
            put(env, b"%03d" % n, bytes(2000))
        holder = start_process(
            tmp_path,
            """
            def hold(txn):
                print("inside", flush=True)
                sys.stdin.readline()
                return sum(len(value) for _, value in txn.iterate("things"))
            print(env.view(hold))
            """,
        )
        assert holder.stdout.readline() == "inside\n"

        def child():
            for n in range(50):
                put(env, b"%03d" % n, os.urandom(100))

        assert [call_in_fork(child) for _ in range(4)] == [0] * 4
        out, _ = holder.communicate("go\n")
        assert out == f"{50 * 2000}\n"


def test_a_fork_waits_for_other_threads_transactions_so_that_children_inherit_none(tmp_path):
    with open_env(tmp_path, metasync=False) as env:
        put(env, b"a", b"1")
        stop, failures = threading.Event(), []

        def churn():
            try:
                while not stop.is_set():
                    put(env, b"churn")
                    get(env, b"a")
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=churn) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                assert call_in_fork(lambda: get(env, b"a")) == 0
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == []
        put(env, b"after")


def test_a_child_forked_inside_a_transaction_is_told_so_and_harms_nobody(tmp_path):
    with open_env(tmp_path) as env:
        put(env, b"a", b"1")

        def child():
            with pytest.raises(StockroomError, match="spawn"):
                open_env(tmp_path)

        def fork_inside(txn):
            before = txn.get("things", b"a")
            status = call_in_fork(child)
            return before, status, txn.get("things", b"a")

        assert env.view(fork_inside) == (b"1", 0, b"1")
        put(env, b"b")
        assert env.update(fork_inside) == (b"1", 0, b"1")
        put(env, b"c")


def test_a_grandchild_works_as_well(tmp_path):
    with open_env(tmp_path) as env:
        put(env, b"a", b"1")

        def child():
            assert get(env, b"a") == b"1"
            assert call_in_fork(lambda: put(env, b"grandchild")) == 0

        assert call_in_fork(child) == 0
        assert get(env, b"grandchild") == b"v"


def test_a_child_that_closes_what_it_never_used_leaves_the_parent_alone(tmp_path):
    with open_env(tmp_path) as env:
        put(env, b"a")
        assert call_in_fork(env.close) == 0
        assert get(env, b"a") == b"v"


def _worker(path, n, results):
    with open_env(path) as env:
        put(env, b"worker %d" % n)
        results.put(get(env, b"a"))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_start_method_of_multiprocessing(tmp_path, method):
    context = multiprocessing.get_context(method)
    with open_env(tmp_path) as env:
        put(env, b"a", b"1")
        results = context.SimpleQueue()
        workers = [context.Process(target=_worker, args=(tmp_path, n, results)) for n in range(2)]
        for worker in workers:
            worker.start()
        assert [results.get() for _ in workers] == [b"1"] * 2
        for worker in workers:
            worker.join()
        assert env.view(lambda txn: txn.count("things")) == 3


# kills


def test_killed_readers_leave_nothing_behind_and_the_file_does_not_grow_without_bound(tmp_path):
    with open_env(tmp_path, metasync=False) as env:
        for n in range(20):
            put(env, b"%03d" % n, bytes(4000))
        sizes = []
        for _ in range(5):
            holder = start_process(
                tmp_path, 'env.view(lambda txn: (print("inside", flush=True), sys.stdin.readline()))'
            )
            assert holder.stdout.readline() == "inside\n"
            holder.send_signal(signal.SIGKILL)
            holder.communicate()
            for round_ in range(4):
                for n in range(20):
                    put(env, b"%03d" % n, bytes([round_]) * 4000)
            sizes.append((tmp_path / "data.mdb").stat().st_size)
        assert sizes[-1] == sizes[1]


def test_a_killed_writer_leaves_no_lock_and_nothing_half_done(tmp_path):
    with open_env(tmp_path) as env:
        put(env, b"a", b"1")
        holder = start_process(
            tmp_path,
            """
            def write(txn):
                txn.put("things", b"a", b"2")
                print("inside", flush=True)
                sys.stdin.readline()
            env.update(write)
            """,
        )
        assert holder.stdout.readline() == "inside\n"
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
        put(env, b"b", b"2")
        assert (get(env, b"a"), get(env, b"b")) == (b"1", b"2")


# growth


def test_the_map_grows_and_another_process_that_has_it_open_follows(tmp_path):
    with open_env(tmp_path, map_nbytes=1 << 16) as env:
        put(env, b"a", b"1")
        other = start_process(
            tmp_path,
            """
            print("open", flush=True)
            for line in sys.stdin:
                key = line.strip().encode()
                env.update(lambda txn: txn.put("things", b"seen " + key, bytes(50_000)))
                print(env.view(lambda txn: txn.get("things", key))[:4].decode(), flush=True)
            """,
        )
        assert other.stdout.readline() == "open\n"
        for n in range(10):
            put(env, b"%d" % n, b"%04d" % n + bytes(200_000))
            other.stdin.write(f"{n}\n")
            other.stdin.flush()
            assert other.stdout.readline() == f"{n:04d}\n"
            assert len(get(env, b"seen %d" % n)) == 50_000
        other.communicate()
        assert other.returncode == 0
        assert env.map_nbytes >= 10 * 200_000


def test_both_processes_grow_a_tiny_map(tmp_path):
    with open_env(tmp_path, map_nbytes=1 << 16, metasync=False) as env:
        code = """
        env.close()
        env = Environment.open(Path(sys.argv[1]), databases=["things"], map_nbytes=1 << 16, metasync=False)
        for n in range(30):
            env.update(lambda txn: txn.put("things", b"other %d" % n, bytes(20_000)))
        """
        other = start_process(tmp_path, code)
        for n in range(30):
            put(env, b"mine %d" % n, bytes(20_000))
        other.communicate()
        assert other.returncode == 0
        assert env.view(lambda txn: txn.count("things")) == 60


# limits


def test_the_reader_limit_is_one_of_threads_gives_a_clear_error_and_lifts_by_itself(tmp_path):
    with open_env(tmp_path, max_readers=3) as env:  # one is kept for the readers of other processes
        put(env, b"a")
        inside, done = threading.Barrier(3), threading.Event()
        threads = [
            threading.Thread(target=env.view, args=(lambda txn: (inside.wait(), done.wait()),)) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        inside.wait()
        with pytest.raises(LockedError, match="reader limit"):
            get(env, b"a")
        done.set()
        for thread in threads:
            thread.join()
        assert get(env, b"a") == b"v"


def _limit_file_size(nbytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, resource.RLIM_INFINITY))


def test_a_full_disk_is_said_loses_nothing_and_works_again_once_there_is_room(tmp_path):
    def child():
        with open_env(tmp_path) as env:
            _limit_file_size(300_000)
            for n in range(40):
                put(env, b"%03d" % n, os.urandom(4000))
            with pytest.raises(StockroomError, match="the write failed"):
                env.update(lambda txn: [txn.put("things", b"more %d" % n, os.urandom(4000)) for n in range(99)])
            assert env.view(lambda txn: txn.count("things")) == 40
            _limit_file_size(resource.RLIM_INFINITY)
            put(env, b"zzz")
            assert env.view(lambda txn: txn.count("things")) == 41

    assert call_in_fork(child) == 0
    with open_env(tmp_path) as env:
        assert get(env, b"zzz") == b"v"
    assert list_damage(tmp_path) == []


def test_little_address_space_gives_a_smaller_map(tmp_path):
    def child():
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()  # by earlier tests too
        resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), resource.RLIM_INFINITY))
        with open_env(tmp_path, map_nbytes=64 << 30) as env:
            put(env, b"a")
            assert env.map_nbytes < 4 << 30

    assert call_in_fork(child) == 0


@pytest.mark.skipif(find_spec("lmdb.verify") is None, reason="needs py-lmdb 3")
@pytest.mark.parametrize("kept", [0.02, 0.2, 0.5, 0.9])
def test_a_file_that_was_cut_off_is_damage_and_does_not_kill_the_process(tmp_path, kept):
    with open_env(tmp_path, metasync=False) as env:
        for n in range(40):
            env.update(lambda txn, n=n: [txn.put("things", b"%d %d" % (n, m), bytes(300)) for m in range(20)])
    data = tmp_path / "data.mdb"
    os.truncate(data, int(data.stat().st_size * kept))

    def child():
        with pytest.raises(CorruptionError, match="truncated"):
            open_env(tmp_path)

    assert call_in_fork(child) == 0


# read-only


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_opens_for_reading(tmp_path):
    with open_env(tmp_path) as env:
        put(env, b"a")
    tmp_path.chmod(0o500)
    try:
        with open_env(tmp_path) as env:
            assert env.readonly
            assert get(env, b"a") == b"v"
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_another_user_who_may_not_write_reads():
    # Not in tmp_path, whose parents may be closed to others.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with open_env(folder) as env:
            put(env, b"a")
        (folder / "data.mdb").chmod(0o644)

        def child():
            os.setuid(65534)
            with open_env(folder) as env:
                assert env.readonly
                assert get(env, b"a") == b"v"
                with pytest.raises(PermissionError, match="permissions"):
                    put(env, b"b")

        assert call_in_fork(child) == 0


READ_ONLY_MOUNT = """
set -e
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
exec "$2" -c "$3" "$1"
"""


def test_a_read_only_file_system_is_read_and_writing_there_is_refused(tmp_path):
    repository = tmp_path / "repo"
    with StockRoom.init(repository) as stock, stock.enable_write("first"):
        stock.data["image"] = np.arange(4096, dtype=np.uint8).reshape(16, 256)
        stock.data["label"] = np.arange(16)
    code = """
    import sys
    from stockroom import ReadOnlyError, StockRoom
    with StockRoom(sys.argv[1]) as stock:
        assert stock.data["label"][3] == 3
        assert stock.data["image"][15][255] == 255
        assert [commit.message for commit in stock.log()] == ["first"]
        assert stock.status().clean and stock.verify().ok
        for write in (lambda: StockRoom(sys.argv[1], enable_write=True), lambda: stock.create_branch("dev")):
            try:
                write()
            except ReadOnlyError as error:
                print("refused", error)
    """
    words = ["unshare", "--mount", "sh", "-c", READ_ONLY_MOUNT, "sh", repository, sys.executable, textwrap.dedent(code)]
    if os.geteuid() != 0 or subprocess.run([*words[:2], "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting a folder read-only takes root and a mount namespace")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "mount:" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["refused", "refused"]
