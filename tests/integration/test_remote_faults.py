"""What goes wrong between here and a remote: cut and damaged answers, hostile remotes, rivals, full disks."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from tests.kit.forging import forge_block
from tests.kit.programs import find_agents, run_stock
from tests.kit.servers import BUCKET, Exchange, Proxy, cut, fail_with, flip_bit

from stockroom import (
    AbsentDataError,
    AuthenticationError,
    CorruptionError,
    FormatVersionError,
    RefChangedError,
    StockRoom,
    StockroomError,
    UnreachableError,
)
from stockroom.digest import PackDigest
from stockroom.remotes.format.ref_state import BundleEntry, RefState, decode_state, new_write_id
from stockroom.remotes.push import push
from stockroom.remotes.refspecs import resolve_push
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.retry import RetryPolicy
from stockroom.remotes.transport.url import RemoteSettings
from stockroom.store.pack.pack import Pack
from stockroom.store.pack.pack_filler import PackFiller
from stockroom.testing.transports import UnreliableTransport

IMAGES = np.random.default_rng(4).integers(0, 256, (300, 3, 32, 32), dtype=np.uint8)


@pytest.fixture
def proxy(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    monkeypatch.setattr(RetryPolicy, "choose_pause_s", lambda *_: 0.01)
    monkeypatch.setenv("STOCKROOM_FETCH_TIMEOUT", "30")
    return proxy


def make_source(path: Path, url: str, **options: Any) -> StockRoom:
    stock = StockRoom.init(path)
    with stock.enable_write("Images"):
        stock.data["image"] = IMAGES
        stock.data["zeros"] = np.zeros((50, 64, 64), np.float32)
        stock.data["label"] = np.arange(len(IMAGES))
    stock.add_remote("origin", url, **options)
    return stock


def check_images(stock: StockRoom) -> None:
    assert np.array_equal(np.asarray(stock.data["image"]), IMAGES)
    assert np.asarray(stock.data["zeros"]).sum() == 0
    assert np.array_equal(np.asarray(stock.data["label"]), np.arange(len(IMAGES)))


PASSING = {
    "500": fail_with(500),
    "503": fail_with(503),
    "429": fail_with(429),
    "cut before the answer": cut(),
    "cut in the body": cut(5),
}


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_what_passes_is_survived(proxy: Proxy, tmp_path: Path, fault: str, method: str) -> None:
    """Every fourth request fails once, also those that had taken effect: push, clone, lazy reading all succeed."""
    turn = iter(range(10**6))

    def act(exchange: Exchange) -> None:
        if next(turn) % 4 == 1:
            PASSING[fault](exchange)

    proxy.add(method, act)
    url = f"s3://{BUCKET}/{tmp_path.name}"
    with make_source(tmp_path / "a", url, endpoint_url=proxy.url) as source:
        source.push()
        with source.enable_write("More"):
            source.data["label"][0] = 0
            source.data["more"] = IMAGES[:10] ^ 1
        source.push()
    with StockRoom.clone(url, tmp_path / "b", metadata_only=True, endpoint_url=proxy.url) as clone:
        check_images(clone)
    with StockRoom.clone(url, tmp_path / "c", endpoint_url=proxy.url) as clone:
        assert clone.verify().ok
        check_images(clone)


def test_damage_on_the_way_is_refused_and_fetched_again(proxy: Proxy, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/{tmp_path.name}"
    with make_source(tmp_path / "a", url, endpoint_url=proxy.url) as source:
        source.push()
    proxy.add("GET .*/bundles/", flip_bit(), times=2)
    proxy.add("GET .*/packs/", flip_bit(100), times=2)
    with StockRoom.clone(url, tmp_path / "b", metadata_only=True, endpoint_url=proxy.url) as clone:
        check_images(clone)
        assert clone.verify().ok


def test_damage_that_shows_only_when_the_rest_of_a_row_comes_is_fetched_again(tmp_path: Path) -> None:
    """A row that begins at the end of one block is checked when the next one comes: which is wrong does not show."""
    random = np.random.default_rng(1)
    scans = [np.repeat(random.integers(0, 256, 600, dtype=np.uint8), 50) for _ in range(20)]
    with StockRoom.init(tmp_path / "a") as source:
        with source.enable_write("Scans"):
            source.data.create("scan", dtype="uint8", shape=(None,), codec="zstd").extend(scans)
        source.add_remote("origin", str(tmp_path / "remote"))
        source.push()
    (directory,) = (tmp_path / "remote/packs").glob("*/*")
    whole = Pack(directory, PackDigest(bytes.fromhex(directory.name)))
    size = whole.layout.block_nbytes
    row, start = next((row, start) for row in range(20) if (start := whole.get_span(row)[0]) % size > size - 20_000)
    block = start // size
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "b", metadata_only=True) as clone:
        filler = PackFiller(tmp_path / "b/.stockroom/packs" / directory.parent.name / directory.name, whole.digest)
        (span,) = filler.plan_ranges(np.array([block]), gap_nbytes=0, max_nbytes=1)
        encoded = bytes(whole.mapping)[span.start : span.stop]
        assert not len(filler.accept(span, forge_block(whole, encoded, at=start % size)))
        filler.record_present()
        filler.close()
        assert np.array_equal(clone.data["scan"][row], scans[row])
        assert all((found == scan).all() for found, scan in zip(clone.data["scan"].values(), scans, strict=True))
        assert clone.verify().ok


@pytest.mark.parametrize("whole", [False, True])
def test_a_repair_beside_a_living_agent_leaves_no_zeros(tmp_path: Path, whole: bool) -> None:
    """The agent has the pack open that the repair moves aside; an empty one comes in its place."""
    with make_source(tmp_path / "a", str(make_folder(tmp_path / "remote"))) as source:
        source.push()
    with StockRoom.clone(str(tmp_path / "remote"), tmp_path / "b", metadata_only=True) as clone:
        image = clone.data["image"]
        assert np.array_equal(image[:] if whole else image[:50], IMAGES if whole else IMAGES[:50])
        agents = find_agents(tmp_path / "b")
        pack = next(path for path in (tmp_path / "b/.stockroom/packs").glob("*/*") if (path / "c.0.0.0.0").exists())
        damaged = bytearray((pack / "chunks").read_bytes())
        damaged[-1] ^= 1
        (pack / "chunks").unlink()
        (pack / "chunks").write_bytes(damaged)
        assert run_stock(tmp_path / "b", "fsck", "--repair").returncode == 0
        assert find_agents(tmp_path / "b") == agents
        clone.refresh()
        assert np.array_equal(clone.data["image"][:], IMAGES)
        check_images(clone)
        assert clone.verify().ok
    with StockRoom(tmp_path / "b", lazy=False) as reader:  # another process reads what is on disk
        assert np.array_equal(reader.data["image"][:], IMAGES)


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_damage_that_stays_is_reported_with_remote_and_pack(proxy: Proxy, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/{tmp_path.name}"
    with make_source(tmp_path / "a", url, endpoint_url=proxy.url) as source:
        source.push()
    with StockRoom.clone(url, tmp_path / "b", metadata_only=True, endpoint_url=proxy.url) as clone:
        proxy.add("GET .*/packs/", flip_bit(0))
        with pytest.raises(
            CorruptionError, match=r"remote 'origin' .*pack [0-9a-f]{64}: 1 of its rows arrived damaged"
        ):
            clone.data["image"][0]
        assert clone.data["image"].present([0]) == 0
        proxy.clear()
        check_images(clone)
    for pattern, error in (("GET .*/bundles/", CorruptionError), ("GET .*/refs/0", CorruptionError)):
        proxy.clear()
        proxy.add(pattern, flip_bit(-40))
        with pytest.raises(error, match=url):
            StockRoom.clone(url, tmp_path / "c", endpoint_url=proxy.url)
        assert not (tmp_path / "c").exists()


def test_refused_credentials_are_said_at_once(proxy: Proxy, tmp_path: Path) -> None:
    proxy.add("", fail_with(403))
    url = f"s3://{BUCKET}/{tmp_path.name}"
    with (
        make_source(tmp_path / "a", url, endpoint_url=proxy.url) as source,
        pytest.raises(AuthenticationError, match="AWS"),
    ):
        source.push()
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("kind", ["put", "put_if_absent", "get"])
def test_a_push_whose_replies_get_lost_is_neither_twice_nor_half(tmp_path: Path, kind: str) -> None:
    """Each request in turn loses its reply; the push then succeeds, or says why not and succeeds when run again."""
    url = str(tmp_path / "remote")
    with make_source(tmp_path / "a", url) as source:
        inner = open_transport(RemoteSettings(url))
        for turn in range(12):
            seen: list[str] = []

            def fails(what: str, path: str, done: bool, seen: list[str] = seen, turn: int = turn) -> bool:
                if what == kind and done:
                    seen.append(path)
                    return len(seen) == turn + 1
                return False

            with source.enable_write(f"Change {turn}"):
                source.data["label"][turn] = turn + 1000
            transport = UnreliableTransport(inner, fails)
            for _ in range(2):
                with suppress(UnreachableError):
                    push(source._repository, "origin", resolve_push(source._repository, None), transport=transport)
                    break
            with StockRoom.clone(url, tmp_path / f"clone-{turn}", metadata_only=True) as clone:
                assert clone.commit_id == source.commit_id
                assert clone.data["label"][turn] == turn + 1000


def rewrite_newest(remote: Path, change: Callable[[RefState], RefState]) -> None:
    path = max((remote / "refs").glob("0*"))
    state = change(decode_state(path.read_bytes(), number=int(path.name), where="test"))
    path.write_bytes(state.encode())


@pytest.fixture
def pushed(tmp_path: Path) -> Path:
    """A remote in a folder, with one commit."""
    with make_source(tmp_path / "a", str(tmp_path / "remote")) as source:
        source.push()
    return tmp_path / "remote"


def test_a_remote_of_a_newer_version_says_so(pushed: Path, tmp_path: Path) -> None:
    state = pushed / "refs/00000001"
    content = bytearray(state.read_bytes())
    content[4] += 2
    state.write_bytes(content)
    with pytest.raises(FormatVersionError, match="upgrade"):
        StockRoom.clone(str(pushed), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    content[4] -= 2
    state.write_bytes(content)
    (bundle,) = pushed.glob("bundles/*/*")
    content = bytearray(bundle.read_bytes())
    content[8] = 7
    serve_bundle(pushed, bytes(content))
    with pytest.raises(FormatVersionError, match="upgrade"):
        StockRoom.clone(str(pushed), tmp_path / "b")


def serve_bundle(remote: Path, content: bytes) -> None:
    """Make `content` the remote's only bundle, with a name and a state that fit it."""
    digest = blake3(content).digest()
    path = remote / "bundles" / digest.hex()[:2] / digest.hex()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    entry = BundleEntry(digest, len(content), 1, 1, 1)
    (remote / "refs/00000001").write_bytes(
        RefState(
            number=1,
            write_id=new_write_id(),
            time_ns=0,
            head="main",
            branches={"main": bytes(32)},
            tags={},
            bundles=(entry,),
        ).encode()
    )


@pytest.mark.parametrize("at", [2, 40, 80, 100, 2000, -2000, -500, -100])
def test_a_bundle_forged_to_fit_its_name_is_still_refused(pushed: Path, tmp_path: Path, at: int) -> None:
    (bundle,) = pushed.glob("bundles/*/*")
    content = bytearray(bundle.read_bytes())
    content[at] ^= 64
    serve_bundle(pushed, bytes(content))
    with pytest.raises((CorruptionError, FormatVersionError), match=str(pushed)):
        StockRoom.clone(str(pushed), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_packs_that_changed_their_names_give_no_wrong_sample(pushed: Path, tmp_path: Path) -> None:
    packs = sorted(path.parent for path in pushed.rglob("chunks"))
    contents = [(pack, {file.name: file.read_bytes() for file in pack.iterdir()}) for pack in packs]
    for (pack, _), (_, other) in zip(contents, contents[1:] + contents[:1], strict=True):
        for file in pack.iterdir():
            file.write_bytes(other.get(file.name, b"x" * 10_000_000))
    with StockRoom.clone(str(pushed), tmp_path / "b", metadata_only=True) as clone:
        for name in ("image", "zeros"):
            with pytest.raises(StockroomError, match="origin"):
                clone.data[name][0]
            assert clone.data[name].present() == 0


def test_a_remote_cannot_name_a_file_outside_itself(pushed: Path, tmp_path: Path) -> None:
    def escape(state: RefState) -> RefState:
        return RefState(
            number=1,
            write_id=state.write_id,
            time_ns=0,
            head=None,
            branches={"../../../etc/passwd": state.branches["main"]},
            tags={},
            bundles=state.bundles,
        )

    rewrite_newest(pushed, escape)
    with pytest.raises(CorruptionError, match=r"must not contain '\.\.'|no part of it may begin"):
        StockRoom.clone(str(pushed), tmp_path / "b")


def test_a_truncated_or_missing_pack_is_an_error_that_names_it(pushed: Path, tmp_path: Path) -> None:
    for path in pushed.rglob("c.*"):
        path.write_bytes(path.read_bytes()[:100])
    with StockRoom.clone(str(pushed), tmp_path / "b", metadata_only=True) as clone:
        with pytest.raises(StockroomError, match="damaged"):
            clone.data["image"][299]
        shutil.rmtree(pushed / "packs")
        with pytest.raises(AbsentDataError, match="does not have it") as caught:
            clone.data["image"][298]
        assert caught.value.remote == "origin"
        assert caught.value.pack
    with pytest.raises(AbsentDataError):
        StockRoom.clone(str(pushed), tmp_path / "c")


def test_two_clones_that_push_at_once_lose_nothing(tmp_path: Path) -> None:
    """50 rounds on one branch: exactly one wins each, the other pulls, which merges, and pushes."""
    url = str(tmp_path / "remote")
    with make_source(tmp_path / "a", url) as source:
        source.push()
    names = ("b", "c")
    clones = {name: StockRoom.clone(url, tmp_path / name, metadata_only=True) for name in names}
    lost = 0
    for turn in range(50):
        start = threading.Barrier(2)
        outcome: dict[str, object] = {}

        def run(
            name: str, turn: int = turn, start: threading.Barrier = start, outcome: dict[str, object] = outcome
        ) -> None:
            stock = clones[name]
            with stock.enable_write(f"{name} {turn}"):
                stock.data["label"][f"{name}{turn}" and turn * 2 + names.index(name) + 1000] = turn
            start.wait()
            try:
                outcome[name] = stock.push().number
            except RefChangedError as error:
                outcome[name] = error

        threads = [threading.Thread(target=run, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        losers = [name for name in names if isinstance(outcome[name], RefChangedError)]
        assert len(losers) == 1, outcome
        lost += 1
        assert "stock pull" in str(outcome[losers[0]])
        loser = clones[losers[0]]
        assert loser.pull().outcome == "merged"
        loser.push()
        winner = clones[names[1 - names.index(losers[0])]]
        assert winner.pull().outcome == "fast-forward"
        assert winner.commit_id == loser.commit_id
    assert lost == 50
    with StockRoom.clone(url, tmp_path / "d", metadata_only=True) as final:
        labels = final.data["label"]
        assert [labels[key] for key in range(1000, 1100)] == [key // 2 - 500 for key in range(1000, 1100)]
    for stock in clones.values():
        stock.close()


def test_pushes_to_different_branches_at_once_all_succeed(tmp_path: Path) -> None:
    url = str(tmp_path / "remote")
    with make_source(tmp_path / "a", url) as source:
        source.push()
    clones = [StockRoom.clone(url, tmp_path / f"c{number}", metadata_only=True) for number in range(4)]
    for number, stock in enumerate(clones):
        stock.checkout(f"branch-{number}", create=True)
    for turn in range(5):
        errors: list[BaseException] = []

        def run(number: int, turn: int = turn, errors: list[BaseException] = errors) -> None:
            try:
                with clones[number].enable_write(f"{turn}"):
                    clones[number].data["label"][number] = turn + 5000
                clones[number].push()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
    with StockRoom.clone(url, tmp_path / "d", metadata_only=True) as final:
        for number, stock in enumerate(clones):
            assert final.remote_branches[f"origin/branch-{number}"] == stock.commit_id
            stock.close()
    assert final.path.exists()


@pytest.fixture
def small_disk(mount_disk: Callable[[str], Path]) -> Path:
    """A file system of 12 MB."""
    return mount_disk("12m")


def test_a_disk_that_fills_while_fetching_loses_nothing(tmp_path: Path, small_disk: Path) -> None:
    url = str(tmp_path / "remote")
    big = np.random.default_rng(8).integers(0, 256, (30, 1 << 20), dtype=np.uint8)
    with make_source(tmp_path / "a", url) as source:
        with source.enable_write("Big"):
            source.data["big"] = big
        source.push()
    with StockRoom.clone(url, small_disk / "b", metadata_only=True) as clone:
        (small_disk / "other").write_bytes(bytes(1 << 20))
        with pytest.raises((StockroomError, OSError), match=r"No space left|nothing was lost"):
            np.asarray(clone.data["big"])
        for key in range(30):
            if clone.data["big"].present([key]) == 1:
                assert np.array_equal(clone.data["big"][key], big[key])
        assert clone.verify().ok
        (small_disk / "other").unlink()
        clone.drop("big")
        assert clone.data["big"].present() == 0
        assert np.array_equal(clone.data["big"][29], big[29])
    with pytest.raises((StockroomError, OSError)):
        StockRoom.clone(url, small_disk / "c")


def test_a_bundle_that_claims_an_absurd_size_is_refused_at_once(pushed: Path, tmp_path: Path) -> None:
    def claim(state: RefState) -> RefState:
        (entry,) = state.bundles
        huge = BundleEntry(entry.digest, 1 << 47, entry.objects, entry.commits, entry.packs)
        return RefState(
            number=1,
            write_id=state.write_id,
            time_ns=0,
            head=state.head,
            branches=state.branches,
            tags=state.tags,
            bundles=(huge,),
        )

    rewrite_newest(pushed, claim)
    with pytest.raises(StockroomError, match="bundles"):
        StockRoom.clone(str(pushed), tmp_path / "b")
    assert not (tmp_path / "b").exists()
