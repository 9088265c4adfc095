"""Lazy reading from many processes, and the agent behind it: forks, deaths, silence, and each block fetched once."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit.programs import find_agents, wait_until
from tests.kit.servers import BUCKET, Proxy, fail_with
from torch.utils.data import DataLoader

from stockroom import StockRoom, UnreachableError, errors, make_torch_dataset
from stockroom.remotes.agent.address import choose_socket_path
from stockroom.remotes.agent.fetcher import AgentFetcher

IMAGES = np.random.default_rng(2).integers(0, 256, (1200, 3, 32, 32), dtype=np.uint8)


@pytest.fixture
def clone(proxy: Proxy, tmp_path: Path) -> Path:
    """A clone without samples, whose remote is behind the proxy."""
    url = f"s3://{BUCKET}/{tmp_path.name}"
    with StockRoom.init(tmp_path / "source") as source:
        with source.enable_write("Images"):
            source.data["image"] = IMAGES
            source.data["label"] = np.arange(len(IMAGES))
        source.add_remote("origin", url, endpoint_url=proxy.url)
        source.push()
    path = tmp_path / "clone"
    StockRoom.clone(url, path, metadata_only=True, endpoint_url=proxy.url).close()
    proxy.requests.clear()
    return path


def run_epoch(dataset: Any, **options: Any) -> None:
    """Every sample comes once and is right."""
    seen = []
    timeout_s = 60 if options.get("num_workers") else 0
    for images, labels in DataLoader(dataset, batch_size=64, timeout=timeout_s, **options):
        assert np.array_equal(images.numpy(), IMAGES[labels.numpy()])
        seen += labels.tolist()
    assert sorted(seen) == list(range(len(IMAGES)))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_read_lazily_after_their_parent_has(clone: Path, method: str) -> None:
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # one of another test has another environment
    with StockRoom(clone) as stock:
        assert np.array_equal(stock.data["image"][5], IMAGES[5])  # the parent itself, before it forks
        dataset = make_torch_dataset([stock.data["image"], stock.data["label"]])
        loader = {"num_workers": 2, "multiprocessing_context": method, "persistent_workers": True}
        run_epoch(dataset, shuffle=method == "fork", **loader)
        run_epoch(dataset, num_workers=0)
        assert stock.verify().ok


def read_all(path: Path, start: Any, done: Any) -> None:
    with StockRoom(path) as stock:
        start.wait()
        column = stock.data["image"]
        for first in range(0, len(IMAGES), 100):
            assert np.array_equal(column[first : first + 100], IMAGES[first : first + 100])
    done.put(os.getpid())


def test_eight_processes_fetch_each_block_once(clone: Path, proxy: Proxy) -> None:
    context = multiprocessing.get_context("spawn")
    start, done = context.Barrier(8), context.Queue()
    processes = [context.Process(target=read_all, args=(clone, start, done)) for _ in range(8)]
    for process in processes:
        process.start()
    assert len({done.get(timeout=100) for _ in processes}) == 8
    for process in processes:
        process.join(20)
    spans = sorted(
        tuple(map(int, span.removeprefix("bytes=").split("-"))) for _, path, span in proxy.requests if "packs" in path
    )
    assert all(left[1] < right[0] for left, right in itertools.pairwise(spans)), spans
    assert sum(stop - start + 1 for start, stop in spans) == IMAGES.nbytes
    assert len(find_agents(clone)) <= 1


def test_reading_in_order_takes_few_requests(clone: Path, proxy: Proxy) -> None:
    with StockRoom(clone) as stock:
        run_epoch(make_torch_dataset([stock.data["image"], stock.data["label"]]), num_workers=2)
    assert proxy.count("GET .*/packs/") <= 6


@pytest.mark.parametrize(
    "keys", [range(100, 300), range(0, 1200, 60), [7, 900, 30, 31, 500]], ids=["run", "stride", "some"]
)
def test_a_data_set_of_some_samples_brings_only_those(clone: Path, keys: Any) -> None:
    with StockRoom(clone) as stock:
        column = stock.data["image"]
        dataset = make_torch_dataset([column, stock.data["label"]], keys=keys)
        seen = [label for _, labels in DataLoader(dataset, batch_size=4, num_workers=2) for label in labels.tolist()]
        assert seen == list(keys)
        others = [key for key in range(1200) if min(abs(key - chosen) for chosen in keys) > 12]
        assert column.present(keys) == 1
        assert column.present(others) == 0


def test_the_agent_is_its_owners_alone_and_leaves_soon_after_its_last_client(clone: Path) -> None:
    with StockRoom(clone) as stock:
        assert stock.data["image"][0].shape == (3, 32, 32)
        (agent,) = find_agents(clone)
        path = choose_socket_path(clone / ".stockroom")
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[1] == "1"  # nobody's child to reap
        assert not wait_until(lambda: not find_agents(clone), 6.5)  # it stays while it has a client
    assert wait_until(lambda: not find_agents(clone), 10)
    assert not path.exists()


def test_an_agent_that_is_killed_is_replaced_in_the_middle_of_a_read(clone: Path, proxy: Proxy) -> None:
    waiting = threading.Event()

    def stall(_: object) -> None:
        waiting.set()
        proxy.released.wait(60)

    proxy.add("GET .*/packs/", stall, times=1)
    with StockRoom(clone) as stock:
        result: list[np.ndarray] = []
        reader = threading.Thread(target=lambda: result.append(stock.data["image"][7]))
        reader.start()
        assert waiting.wait(30)
        (agent,) = find_agents(clone)
        os.kill(agent, signal.SIGKILL)
        proxy.released.set()
        reader.join(60)
        assert np.array_equal(result[0], IMAGES[7])
        assert find_agents(clone) != [agent]


def test_an_agent_that_always_dies_is_an_error_that_says_so(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StockRoom(clone) as stock:
        fetcher = AgentFetcher(clone / ".stockroom", has_remotes=lambda: True)
        borrow = AgentFetcher._borrow

        def kill_after(self: AgentFetcher) -> Any:
            connection = borrow(self)
            for agent in find_agents(clone):
                os.kill(agent, signal.SIGKILL)
            wait_until(lambda: not find_agents(clone), 5)
            return connection

        monkeypatch.setattr(AgentFetcher, "_borrow", kill_after)
        digest = next(iter(stock._repository.tensors.catalog.read_packs().values()))
        with pytest.raises(UnreachableError, match=r"died twice .*agent/log"):
            fetcher.fetch([(digest, np.arange(3))])


READ_FOR_EVER = """
import sys
from stockroom import StockRoom
stock = StockRoom(sys.argv[1])
print("open", flush=True)
for key in stock.data["image"]:
    stock.data["image"][key]
"""


def test_a_client_that_is_killed_disturbs_nobody(clone: Path, proxy: Proxy) -> None:
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", READ_FOR_EVER, str(clone)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        seen = len(proxy.requests)
        wait_until(lambda seen=seen: len(proxy.requests) > seen, 20)
        process.kill()
        process.wait()
        process.stdout.close()
        with StockRoom(clone) as stock:
            assert np.array_equal(stock.data["image"][1000], IMAGES[1000])
    with StockRoom(clone) as stock:
        assert stock.verify().ok
        run_epoch(make_torch_dataset([stock.data["image"], stock.data["label"]]), num_workers=0)


def test_a_stall_ends_with_an_error_that_names_remote_pack_and_cause(
    clone: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKROOM_FETCH_TIMEOUT", "1.5")
    proxy.add("GET .*/packs/", lambda _: proxy.released.wait(60) and None)
    with StockRoom(clone) as stock:
        start_s = time.monotonic()
        with pytest.raises(
            errors.TimeoutError, match=r"nothing arrived for 1.5 s: pack [0-9a-f]{12} from remote 'origin'"
        ):
            stock.data["image"][3]
        assert time.monotonic() - start_s < 15
        proxy.clear()
        proxy.add("GET .*/packs/", fail_with(503))
        with pytest.raises((errors.TimeoutError, UnreachableError), match=r"503|no answer"):
            stock.data["image"][900]
        proxy.clear()
        proxy.released.set()
        assert np.array_equal(stock.data["image"][901], IMAGES[901])


def test_the_remote_vanishing_in_an_epoch_is_an_error_and_not_a_hang(
    clone: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKROOM_FETCH_TIMEOUT", "3")
    with StockRoom(clone) as stock:
        dataset = make_torch_dataset([stock.data["image"], stock.data["label"]])
        loader = DataLoader(dataset, batch_size=20, num_workers=2, timeout=90, shuffle=True)
        batches = iter(loader)
        next(batches)
        proxy.add("GET", fail_with(500))
        with pytest.raises(Exception, match=r"pack [0-9a-f]{12} from remote 'origin'"):
            list(batches)
        proxy.clear()
        monkeypatch.setenv("STOCKROOM_FETCH_TIMEOUT", "30")
        run_epoch(dataset, num_workers=2)


@pytest.mark.parametrize("value", ["0", "-3", "soon"])
def test_a_limit_that_is_none_is_refused(clone: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("STOCKROOM_FETCH_TIMEOUT", value)
    with StockRoom(clone) as stock, pytest.raises(errors.InvalidInputError, match="STOCKROOM_FETCH_TIMEOUT"):
        stock.data["image"][3]
