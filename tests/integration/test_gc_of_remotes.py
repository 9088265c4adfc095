"""Gc of a remote, in a folder and on an S3 server: marked first, removed later, and saved by a push in between."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit.programs import run_stock

from stockroom import CorruptionError, RemoteError, StockRoom
from stockroom.errors import InvalidInputError, StockroomError, UnreachableError
from stockroom.remotes.format.marks import ItemKind
from stockroom.remotes.gc import RemoteGcReport, collect_remote
from stockroom.remotes.push import push
from stockroom.remotes.ref_state_log import find_newest_state, read_marks
from stockroom.remotes.refspecs import resolve_push
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.protocol import Transport
from stockroom.remotes.transport.url import RemoteSettings
from stockroom.testing.transports import CountingTransport, UnreliableTransport

NOW = timedelta(0)
DAY = timedelta(days=1)


def reach(remote: dict[str, Any]) -> CountingTransport:
    return CountingTransport(open_transport(RemoteSettings(remote["url"], remote.get("endpoint_url"))))


def make(seed: int, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 600), dtype=np.uint8)


def make_source(path: Path, remote: dict[str, Any]) -> StockRoom:
    """`main`, and a branch `old` with data of its own, both pushed; `old` is then deleted there."""
    stock = StockRoom.init(path)
    with stock.enable_write("Base"):
        stock.data["base"] = make(0)
    stock.add_remote("origin", **remote)
    stock.push()
    stock.checkout("old", create=True)
    with stock.enable_write("Old"):
        stock.data["old"] = make(1)
    stock.push()
    stock.checkout("main")
    stock.push(ref=":old")
    return stock


def gc(stock: StockRoom, transport: Transport, *, grace: timedelta = DAY, dry_run: bool = False) -> RemoteGcReport:
    return collect_remote(stock._repository, "origin", grace=grace, dry_run=dry_run, transport=transport)


def list_packs(transport: Transport) -> set[str]:
    return {file.path.split("/")[2] for file in transport.iter_files("packs/")}


def check_clone(path: Path, remote: dict[str, Any], **columns: int) -> None:
    """A fresh clone has these columns of `make(seed)`, and is whole."""
    with StockRoom.clone(path=path, **remote) as clone:
        for name, seed in columns.items():
            assert np.array_equal(np.asarray(clone.data[name]), make(seed)), name
        report = clone.verify()
        assert report.ok, report.damage


def test_what_nothing_leads_to_is_marked_and_removed_after_the_grace_period(
    remote: dict[str, Any], tmp_path: Path
) -> None:
    transport = reach(remote)
    with make_source(tmp_path / "a", remote) as stock:
        before = list_packs(transport)
        number = find_newest_state(transport).number  # type: ignore[union-attr]
        planned = gc(stock, transport, dry_run=True)
        assert (planned.marked, planned.packs, planned.dry_run) == (1, 0, True)
        assert find_newest_state(transport).number == number  # type: ignore[union-attr]
        assert not list(transport.iter_files("marks/")) + list(transport.iter_files("clock"))

        first = gc(stock, transport)
        assert (first.marked, first.packs, first.waiting, first.rewritten) == (1, 0, 1, 1)
        assert list_packs(transport) == before
        transport.late_s = 86_300
        again = gc(stock, transport)
        assert (again.marked, again.packs, again.waiting) == (0, 0, 1)
        check_clone(tmp_path / "b", remote, base=0)
        transport.late_s = 86_500
        last = gc(stock, transport)
        assert (last.packs, last.waiting) == (1, 0)
        assert last.bundles >= 1
        assert last.nbytes > make(1).nbytes
        assert len(before - list_packs(transport)) == 1
        check_clone(tmp_path / "c", remote, base=0)
        idle = find_newest_state(transport).number  # type: ignore[union-attr]
        assert gc(stock, transport).packs == 0
        assert find_newest_state(transport).number == idle  # type: ignore[union-attr]
        with StockRoom.clone(path=tmp_path / "d", metadata_only=True, **remote) as clone:
            assert len(list((tmp_path / "d/.stockroom/packs").glob("*/*/zarr.json"))) == 1
            assert np.array_equal(np.asarray(clone.data["base"]), make(0))


@pytest.mark.parametrize("moment", ["marked", "removed"])
def test_a_push_that_needs_it_saves_what_is_marked_and_sends_what_is_removed(
    moment: str, remote: dict[str, Any], tmp_path: Path
) -> None:
    transport = reach(remote)
    with make_source(tmp_path / "a", remote) as stock:
        gc(stock, transport, grace=DAY if moment == "marked" else NOW)
        assert len(list_packs(transport)) == (2 if moment == "marked" else 1)
        sent = transport.sent_nbytes
        stock.checkout("old")
        push(stock._repository, "origin", resolve_push(stock._repository, None), transport=transport)
        assert (transport.sent_nbytes - sent > make(1).nbytes) == (moment == "removed")
        state = find_newest_state(transport)
        marks = read_marks(transport, state, Tracking(stock._repository.paths, "origin"))
        assert not [kind for kind, _ in marks if kind is ItemKind.PACK]
        transport.late_s = 10**7
        report = gc(stock, transport)
        assert report.packs == 0
        assert len(list_packs(transport)) == 2
    check_clone(tmp_path / "b", {**remote, "ref": "old"}, base=0, old=1)


def test_new_data_equal_to_what_is_marked_saves_it_too(folder: dict[str, Any], tmp_path: Path) -> None:
    """The clone has the pack of the deleted branch, and writes the same content on another one."""
    transport = reach(folder)
    with make_source(tmp_path / "a", folder) as stock:
        gc(stock, transport)
        with stock.enable_write("Again"):
            stock.data["again"] = make(1)
        assert stock.push().packs == 0
        transport.late_s = 10**7
        assert gc(stock, transport).packs == 0
    check_clone(tmp_path / "b", folder, base=0, again=1)


@pytest.mark.parametrize("fetches", [True, False])
def test_a_clone_without_the_bytes_does_not_rely_on_them_once_it_has_fetched(
    fetches: bool, folder: dict[str, Any], tmp_path: Path
) -> None:
    """Equal content is put anew: the remote's pack may be gone by the time that it is pushed."""
    with make_source(tmp_path / "a", folder) as stock:
        stock.checkout("old")
        stock.push()
        with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder) as clone:
            stock.checkout("main")
            stock.push(ref=":old")
            gc(stock, reach(folder))
            if fetches:
                assert clone.fetch(prune=True).leaving == 0
            with clone.enable_write("Again"):
                clone.data["again"] = make(1)
            if fetches:
                gc(stock, reach(folder), grace=NOW)
            report = clone.push()
            assert report.packs == (1 if fetches else 0)
        late = reach(folder)
        late.late_s = 10**7
        gc(stock, late)
    check_clone(tmp_path / "c", folder, base=0, again=1)


def test_a_fetch_tells_what_branches_here_will_miss(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a", folder) as stock:
        stock.checkout("old")
        stock.push()
        with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder) as clone:
            clone.create_branch("mine", "origin/old")
            clone.checkout("mine")
            stock.checkout("main")
            stock.push(ref=":old")
            gc(stock, reach(folder))
            assert clone.fetch(prune=True).leaving == 1
            told = run_stock(tmp_path / "b", "fetch")
            assert told.returncode == 0
            assert "1 pack that your branches" in told.stdout + told.stderr
            clone.prefetch()
            assert clone.fetch().leaving == 0
            gc(stock, reach(folder), grace=NOW)
            assert np.array_equal(np.asarray(clone.data["old"]), make(1))
            assert clone.drop().kept == 1
            clone.push()
    check_clone(tmp_path / "c", {**folder, "ref": "mine"}, base=0, old=1)


def test_what_is_marked_is_not_given_up_here(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a", folder) as stock:
        assert stock.drop(dry_run=True).packs == 2
        gc(stock, reach(folder))
        report = stock.drop()
        assert (report.packs, report.kept) == (1, 1)
        gc(stock, reach(folder), grace=NOW)
        assert np.array_equal(np.asarray(stock.data["base"]), make(0))
        stock.checkout("old")
        assert np.array_equal(np.asarray(stock.data["old"]), make(1))


def test_what_is_not_understood_stays(folder: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "remote"
    with make_source(tmp_path / "a", folder) as stock:
        strange = ["README", "packs/zz/x", "packs/notes", f"packs/00/{'a' * 64}/c/0", f"packs/aa/{'a' * 64}/other"]
        strange += [f"bundles/aa/{'A' * 64}", f"bundles/aa/{'a' * 64}/x", "refs/99x", f"marks/aa/{'a' * 63}"]
        for path in strange:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("kept")
        left = root / "packs/aa/.put-0123456789abcdef"
        left.write_text("left by a push that was killed")
        os.utime(left, (1e9, 1e9))
        gc(stock, reach(folder), grace=NOW)
        assert all((root / path).read_text() == "kept" for path in strange)
        assert not left.exists()
        assert len([*root.glob("packs/*/*/chunks")]) == 1


def test_packs_of_a_push_at_work_are_marked_and_sent_again(folder: dict[str, Any], tmp_path: Path) -> None:
    """Between its packs and its ref state a gc with no grace period removes them: the push notices."""
    with make_source(tmp_path / "a", folder) as stock:
        with stock.enable_write("New"):
            stock.data["new"] = make(5)
            stock.data["text"] = [f"text {n}" * 50 for n in range(100)]
        collected: list[RemoteGcReport] = []

        def collect_before_publishing(kind: str, path: str, done: bool) -> bool:
            if kind == "put_if_absent" and not done and not collected:
                collected.append(gc(stock, reach(folder), grace=NOW))
            return False

        transport = UnreliableTransport(reach(folder), collect_before_publishing)
        push(stock._repository, "origin", resolve_push(stock._repository, None), transport=transport)
        assert collected[0].packs >= 2
    check_clone(tmp_path / "b", folder, base=0, new=5)


def test_a_gc_meets_a_push_that_takes_a_mark_away(folder: dict[str, Any], tmp_path: Path) -> None:
    """The push comes after gc has chosen what to remove, and before it says so."""
    with make_source(tmp_path / "a", folder) as stock:
        gc(stock, reach(folder))
        stock.checkout("old")
        pushed: list[object] = []

        def push_before_publishing(kind: str, path: str, done: bool) -> bool:
            if kind == "put_if_absent" and not done and not pushed:
                pushed.append(stock.push())
            return False

        report = gc(stock, UnreliableTransport(reach(folder), push_before_publishing), grace=NOW)
        assert pushed
        assert report.packs == 0
    check_clone(tmp_path / "b", {**folder, "ref": "old"}, base=0, old=1)


def test_gc_that_breaks_off_at_any_request_goes_on(folder: dict[str, Any], tmp_path: Path) -> None:
    """At each put and delete in turn: the remote can be cloned, pushed to, and collected by the next."""
    at, finished = 0, False
    with make_source(tmp_path / "a", folder) as stock:
        while not finished:
            at += 1
            stock.checkout("old")
            stock.push()
            stock.checkout("main")
            stock.push(ref=":old")
            left = [at]

            def fail(kind: str, path: str, done: bool, left: list[int] = left) -> bool:
                if kind != "get":
                    left[0] -= 1
                return left[0] == 0

            class Breaking(UnreliableTransport):
                def delete(self, paths: Any) -> None:
                    for path in paths:
                        self._fail("delete", path, done=False)
                        super().delete([path])
                        self._fail("delete", path, done=True)

            try:
                gc(stock, Breaking(reach(folder), fail), grace=NOW)
                finished = True
            except UnreachableError:
                pass
            check_clone(tmp_path / f"b{at}", folder, base=0)
            late = reach(folder)
            late.late_s = 4000 * at  # past the time for which the gc that broke off is believed to be at work
            gc(stock, late, grace=NOW)
            assert len(list_packs(late)) == 1
            if at % 3 == 0 or finished:
                check_clone(tmp_path / f"c{at}", folder, base=0)
    assert at > 10


def test_a_push_waits_for_a_removal_and_says_so_if_that_lasts(
    folder: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockroom.remotes.push._PATIENCE_S", 0.0)
    with make_source(tmp_path / "a", folder) as stock:

        class Killed(CountingTransport):
            def delete(self, paths: Any) -> None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            gc(stock, Killed(reach(folder)), grace=NOW)
        stock.checkout("old")
        with pytest.raises(RemoteError, match=r"a gc there is removing .* again in 36[0-9][0-9] s"):
            stock.push()
        assert gc(stock, reach(folder), grace=NOW).packs == 0  # another may be at it: left alone
        late = reach(folder)
        late.late_s = 3700
        push(stock._repository, "origin", resolve_push(stock._repository, None), transport=late)
    check_clone(tmp_path / "b", {**folder, "ref": "old"}, base=0, old=1)


def test_what_git_history_or_a_shallow_clone_knows_decides_right(folder: dict[str, Any], tmp_path: Path) -> None:
    """A gc run from a clone with one commit of history keeps all of it on the remote."""
    with StockRoom.init(tmp_path / "a") as stock:
        stock.add_remote("origin", **folder)
        for seed in range(4):
            with stock.enable_write(f"{seed}"):
                stock.data["only"] = make(seed)
        stock.push()
        commits = [commit.id for commit in stock.log()]
    with StockRoom.clone(path=tmp_path / "b", metadata_only=True, depth=1, **folder) as shallow:
        assert gc(shallow, reach(folder), grace=NOW).packs == 0
    with StockRoom.clone(path=tmp_path / "c", **folder) as clone:
        for seed, commit in enumerate(reversed(commits)):
            assert np.array_equal(np.asarray(StockRoom(tmp_path / "c", ref=commit).data["only"]), make(seed))
        assert clone.verify().ok


def test_a_damaged_remote_is_left_alone(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a", folder) as stock:
        bundle = next((tmp_path / "remote/bundles").glob("*/*"))
        content = bytearray(bundle.read_bytes())
        content[-5] ^= 1
        bundle.write_bytes(content)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "remote").rglob("*")}
        with pytest.raises(CorruptionError, match="bundles/"):
            gc(stock, reach(folder), grace=NOW)
        after = {path: path.stat().st_mtime_ns for path in (tmp_path / "remote").rglob("*") if path.name != "clock"}
        assert {path for path in after if before.get(path) != after[path]} <= {tmp_path / "remote"}


@pytest.mark.parametrize("kind", ["bundles", "marks"])
def test_a_remote_that_lacks_a_file_is_left_alone(folder: dict[str, Any], tmp_path: Path, kind: str) -> None:
    with make_source(tmp_path / "a", folder) as stock:
        gc(stock, reach(folder))
        for lost in (tmp_path / "remote" / kind).glob("*/*"):
            lost.unlink()
        before = list_packs(reach(folder))
        with StockRoom.init(tmp_path / "other") as other:
            other.add_remote("origin", **folder)
            with pytest.raises(StockroomError, match=f"{kind}/"):
                gc(other, reach(folder), grace=NOW)
        assert list_packs(reach(folder)) == before


def test_gc_of_a_remote_refuses_what_it_cannot_do(folder: dict[str, Any], tmp_path: Path) -> None:
    with make_source(tmp_path / "a", folder) as stock:
        with pytest.raises(InvalidInputError, match="grace period of 0 or longer"):
            gc(stock, reach(folder), grace=timedelta(seconds=-1))

        class OnTheWeb(CountingTransport):
            can_write = False

        with pytest.raises(RemoteError, match="read-only; run gc on the folder"):
            gc(stock, OnTheWeb(reach(folder)))


PUSHER = """
import sys, time
import numpy as np
from stockroom import StockRoom, RefChangedError
path, seed, until = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
rng = np.random.default_rng(seed)

def pool(n):
    return np.random.default_rng(n % 6).integers(0, 256, (20, 500), np.uint8)

with StockRoom(path) as stock:
    n = 0
    while time.monotonic() < until:
        n += 1
        name, which = f"p{seed}-{n}", int(rng.integers(6))
        stock.checkout(name, create=True)
        with stock.enable_write(f"bulk {n}"):
            stock.data["bulk"] = pool(which)
            stock.data["own"] = rng.integers(0, 256, (5, 300), np.uint8)
        stock.push()
        stock.checkout("main")
        if n % 3:
            stock.push(ref=f":{name}")
            stock.delete_branch(name, force=True)
        else:
            print(name, which, flush=True)
"""

COLLECTOR = """
import sys, time
from datetime import timedelta
from stockroom import StockRoom, RefChangedError, RemoteError
path, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
packs = 0
with StockRoom(path) as stock:
    while time.monotonic() < until:
        packs += stock.gc_remote(grace=timedelta(0)).packs
        time.sleep(0.2)  # others want their turn as well
print(packs)
"""


def test_gc_again_and_again_beside_those_who_push_and_clone(folder: dict[str, Any], tmp_path: Path) -> None:
    """With no grace period at all, two collectors and three who push: every branch that stayed is whole."""
    with make_source(tmp_path / "a", folder):
        pass
    for name in ("a2", "p0", "p1", "p2"):
        StockRoom.clone(path=tmp_path / name, **folder).close()
    seconds = "8"
    pushers = [
        subprocess.Popen(
            [sys.executable, "-c", PUSHER, str(tmp_path / f"p{seed}"), str(seed), seconds],
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(3)
    ]
    collectors = [
        subprocess.Popen([sys.executable, "-c", COLLECTOR, str(tmp_path / name), seconds], stdout=subprocess.PIPE)
        for name in ("a", "a2")
    ]
    kept: dict[str, int] = {}
    for pusher in pushers:
        said, _ = pusher.communicate(timeout=120)
        assert pusher.returncode == 0
        kept |= {line.split()[0]: int(line.split()[1]) for line in said.splitlines()}
    packs = 0
    for collector in collectors:
        output, _ = collector.communicate(timeout=120)
        assert collector.returncode == 0
        packs += int(output)
    assert kept
    assert packs
    with StockRoom.clone(path=tmp_path / "z", **folder) as clone:
        assert clone.verify().ok
        for name, which in kept.items():
            with StockRoom(tmp_path / "z", ref=f"origin/{name}") as at:
                expected = np.random.default_rng(which % 6).integers(0, 256, (20, 500), np.uint8)
                assert np.array_equal(np.asarray(at.data["bulk"]), expected)


def test_what_is_here_twice_is_read_and_pushed_from_the_pack_that_is_whole(
    folder: dict[str, Any], tmp_path: Path
) -> None:
    """A clone wrote what a branch has that it fetches later, in another pack; then the remote's pack goes."""
    both = np.concatenate([make(1), make(2)])
    with make_source(tmp_path / "a", folder) as stock:
        gc(stock, reach(folder), grace=NOW)
        with StockRoom.clone(path=tmp_path / "b", metadata_only=True, **folder) as clone:
            with clone.enable_write("Both"):
                clone.data["both"] = both
            stock.checkout("old")
            stock.push()
            clone.fetch()
            stock.checkout("main")
            stock.push(ref=":old")
            gc(stock, reach(folder), grace=NOW)
        with StockRoom(tmp_path / "b") as clone:
            assert np.array_equal(np.asarray(clone.data["both"]), both)
            assert np.array_equal(clone.data["both"][3], both[3])
            assert clone.data["both"].take([5, 45]).tolist() == both[[5, 45]].tolist()
            with clone.enable_write("Again"):
                clone.data["again"] = both[:10]
            clone.fetch(prune=True)
            clone.push()
    check_clone(tmp_path / "c", folder, base=0)
    with StockRoom(tmp_path / "c") as clone:
        assert np.array_equal(np.asarray(clone.data["both"]), both)
        assert np.array_equal(np.asarray(clone.data["again"]), both[:10])
