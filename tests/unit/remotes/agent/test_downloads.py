"""Downloads into partial packs: nothing is seen before it was verified, and only the folder in place counts."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from tests.kit.forging import forge_row
from tests.kit.programs import wait_until

from stockroom.digest import Buffer, PackDigest
from stockroom.errors import AuthenticationError, CorruptionError
from stockroom.remotes.agent.downloads import Downloads
from stockroom.remotes.agent.open_remotes import OpenRemote
from stockroom.remotes.transport.directory import DirectoryTransport
from stockroom.remotes.transport.environment import RemoteEnvironment
from stockroom.store.chunk_run import Stream
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.pack_lock import lock_packs
from stockroom.store.pack.sparse_pack import hollow_out
from stockroom.store.tensor_store import TensorStore
from stockroom.store.tensor_writer import TensorWriter
from stockroom.store.upkeep.verify import check_pack

STALL_S = 60.0


class Mirror:
    """A pack of one store, whole on a remote, and the downloads that fill it."""

    def __init__(self, root: Path, codec: str) -> None:
        self.root = root
        self.digest = _write_pack(root, codec)
        self.directory = locate_pack(root / "packs", self.digest)
        self.whole = bytes(Pack(self.directory, self.digest).mapping)
        shutil.copytree(root / "packs", root / "remote/packs")
        source = OpenRemote("origin", DirectoryTransport(root / "remote"))
        self.downloads = Downloads(root / "packs", lambda *_: [source], threads=2)

    def fetch(self, *units: int) -> None:
        self.downloads.fetch([(self.digest, np.array(units, np.int64))], RemoteEnvironment({}), stall_s=STALL_S)

    def check(self) -> None:
        """Whatever the folder in place says is here is right."""
        assert list(check_pack(self.directory).damage) == []

    def check_whole(self) -> None:
        pack = Pack(self.directory, self.digest)
        assert pack.presence is None
        assert bytes(pack.mapping) == self.whole


def _write_pack(root: Path, codec: str) -> PackDigest:
    random = np.random.default_rng(5)
    store = TensorStore(root)
    writer = TensorWriter(store)
    for _ in range(40):
        row = np.repeat(random.integers(0, 256, 300, dtype=np.uint8), 50)
        writer.put_row(row.tobytes(), Stream("uint8", None, codec))
    writer.flush()
    writer.close()
    (digest,) = store.catalog.read_packs().values()
    store.close()
    return digest


@pytest.fixture(params=["raw", "zstd"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mirror]:
    made = Mirror(tmp_path, request.param)
    yield made
    made.downloads.close()


def come_back(mirror: Mirror) -> None:
    """What gc and a fetch do together: the pack leaves its place, and comes back with nothing of it here."""
    hollow_out(mirror.root, mirror.digest)


def come_back_under_another_inode(mirror: Mirror) -> None:
    """The same by copies, as a backup brings it back."""
    hollow_out(mirror.root, mirror.digest)
    mirror.directory.rename(mirror.root / "away")
    shutil.copytree(mirror.root / "away", mirror.directory)


@pytest.mark.parametrize("change", [come_back, come_back_under_another_inode])
@pytest.mark.parametrize("before", ["nothing", "a part", "all but one", "all"])
def test_a_pack_that_left_its_place_and_came_back_empty_is_filled_again(
    mirror: Mirror, before: str, change: Callable[[Mirror], None]
) -> None:
    hollow_out(mirror.root, mirror.digest)
    units = Pack(mirror.directory, mirror.digest).presence.units
    first = {"nothing": 0, "a part": 2, "all but one": units - 1, "all": units}[before]
    mirror.fetch(*range(max(first, 1)))
    change(mirror)
    mirror.fetch(*range(first, units)) if first < units else mirror.fetch(0)
    mirror.check()
    found = Pack(mirror.directory, mirror.digest)
    assert found.presence is not None or not first
    wanted = np.arange(first, units) if first < units else np.array([0])
    assert not len(found.list_absent_units(wanted))
    mirror.fetch()
    mirror.check_whole()


def test_a_whole_pack_that_came_back_empty_is_fetched(mirror: Mirror) -> None:
    mirror.fetch(0)  # opened while it is whole
    come_back(mirror)
    mirror.fetch()
    mirror.check_whole()


def test_a_map_that_was_replaced_meanwhile_counts_and_not_the_old_one(mirror: Mirror) -> None:
    """As a repair does it, which found by reading what is here, and that a unit is damaged."""
    hollow_out(mirror.root, mirror.digest)
    empty = (mirror.directory / "present").read_bytes()
    mirror.fetch(0, 1)
    shard = next(mirror.directory.glob("c.*"))
    with shard.open("r+b") as file:
        file.write(bytes(100))
    (mirror.directory / "present.new").write_bytes(empty)
    (mirror.directory / "present.new").replace(mirror.directory / "present")
    mirror.fetch(*range(1, Pack(mirror.directory, mirror.digest).presence.units))
    mirror.check()
    mirror.fetch()
    mirror.check_whole()


def test_a_complete_map_that_cannot_be_removed_stays_and_does_no_harm(mirror: Mirror) -> None:
    hollow_out(mirror.root, mirror.digest)
    with lock_packs(mirror.root / "packs", alone=True):
        mirror.fetch()
        assert (mirror.directory / "present").exists()
        mirror.check_whole()
    mirror.fetch()
    mirror.check_whole()


def test_a_remote_whose_block_has_another_row_gives_no_wrong_row_in_any_order(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, "zstd")
    forged, blocks, row = forge_row(Pack(mirror.directory, mirror.digest), mirror.whole)
    shard = next((tmp_path / "remote/packs").glob("*/*/c.*"))
    shard.write_bytes(forged)
    hollow_out(tmp_path, mirror.digest)
    for block in [*blocks, *blocks[::-1]]:
        mirror.fetch(block)
        mirror.check()
    for wanted in (blocks, ()):
        with pytest.raises(CorruptionError, match=r"remote 'origin'.*arrived damaged 3 times"):
            mirror.fetch(*wanted)
        mirror.check()
    assert len(Pack(mirror.directory, mirror.digest).list_absent(np.array([row])))
    shard.write_bytes(mirror.whole)
    mirror.fetch()
    mirror.check_whole()
    mirror.downloads.close()


class Guard(DirectoryTransport):
    """A folder behind a door: it lets nobody in before `opened`, and then only those with its key."""

    def __init__(self, root: Path, environment: RemoteEnvironment) -> None:
        super().__init__(root)
        self._environment = environment
        self.reached, self.opened = threading.Event(), threading.Event()

    def get_range(self, path: str, start: int, stop: int) -> Buffer:
        self.reached.set()
        assert self.opened.wait(60)
        if self._environment.get("AWS_PROFILE") != "good":
            raise AuthenticationError(f"refused {self._environment['AWS_PROFILE']}")
        return super().get_range(path, start, stop)


class Guards:
    """The remote of a mirror, for callers with different credentials."""

    def __init__(self, mirror: Mirror) -> None:
        self._root = mirror.root / "remote"
        self.of: dict[RemoteEnvironment, Guard] = {}
        hollow_out(mirror.root, mirror.digest)
        self.downloads = Downloads(mirror.root / "packs", self._list, threads=2)
        self._wanted = [(mirror.digest, np.array([0], np.int64))]

    def _list(self, _: PackDigest, environment: RemoteEnvironment) -> list[OpenRemote]:
        guard = self.of.setdefault(environment, Guard(self._root, environment))
        return [OpenRemote("origin", guard)]

    def fetch(self, profile: str) -> Future[None]:
        """Begin to fetch the first unit in another thread."""
        environment, done = RemoteEnvironment({"AWS_PROFILE": profile}), Future[None]()
        self.of.setdefault(environment, Guard(self._root, environment))

        def run() -> None:
            try:
                done.set_result(self.downloads.fetch(self._wanted, environment, stall_s=STALL_S))
            except Exception as error:
                done.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return done

    def count_callers(self) -> int:
        """How many callers wait for the unit."""
        jobs = [job for pack in self.downloads._packs.values() for job in pack.jobs]
        return max((len(job.callers) for job in jobs), default=0)

    def __getitem__(self, profile: str) -> Guard:
        return self.of[RemoteEnvironment({"AWS_PROFILE": profile})]


@pytest.fixture
def guards(mirror: Mirror) -> Iterator[Guards]:
    made = Guards(mirror)
    yield made
    made.downloads.close()


def test_bytes_that_two_want_come_with_the_credentials_of_the_one_who_may(mirror: Mirror, guards: Guards) -> None:
    bad = guards.fetch("bad")
    assert guards["bad"].reached.wait(60)
    good = guards.fetch("good")
    assert wait_until(lambda: guards.count_callers() == 2, 60)
    guards["good"].opened.set()
    guards["bad"].opened.set()
    bad.result(60)
    good.result(60)
    mirror.check()


def test_each_of_two_who_may_not_gets_the_refusal_of_its_own_credentials(guards: Guards) -> None:
    first = guards.fetch("bad")
    assert guards["bad"].reached.wait(60)
    second = guards.fetch("worse")
    assert wait_until(lambda: guards.count_callers() == 2, 60)
    guards["worse"].opened.set()
    guards["bad"].opened.set()
    for done, name in ((first, "bad"), (second, "worse")):
        with pytest.raises(AuthenticationError, match=f"refused {name}"):
            done.result(60)
    good = guards.fetch("good")
    guards["good"].opened.set()
    good.result(60)
