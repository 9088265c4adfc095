"""Push, clone and lazy reading against an S3 server on loopback, beside raw obstore transfers of the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from materials import LARGE_SHAPE, SMALL_SHAPE, Materials
from row import BYTES, SECONDS, Row
from servers import BUCKET, Server, start_server
from stockroom import StockRoom, make_torch_dataset
from stockroom.remotes.clone import CloneOptions, clone
from stockroom.remotes.push import push
from stockroom.remotes.refspecs import resolve_push
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.url import RemoteSettings
from stockroom.repository.repository import Repository
from stockroom.testing.transports import CountingTransport

REQUESTS = "requests"
PIECE_NBYTES = 8 << 20
AT_ONCE = 16
ROUNDS = 3
EPOCH_BATCH = 32


@dataclass(slots=True)
class Remote:
    """One prefix on the server, and the raw client of the same bucket."""

    server: Server
    prefix: str

    @property
    def settings(self) -> RemoteSettings:
        return RemoteSettings(f"s3://{BUCKET}/{self.prefix}", self.server.endpoint_url)

    @property
    def options(self) -> dict[str, Any]:
        return {"endpoint_url": self.server.endpoint_url}

    def open_raw(self) -> Any:
        """obstore's own client, with nothing around it."""
        from obstore.store import S3Store

        client = {"allow_http": True, "timeout": "60s"}
        endpoint = self.server.endpoint_url
        return S3Store(BUCKET, prefix=self.prefix, endpoint=endpoint, region="us-east-1", client_options=client)


def whole_transfers(materials: Materials) -> Iterator[Row]:
    """Push of new packs and a full clone, beside raw puts and gets of the same files."""
    samples = materials.make_samples(materials.sizes.pushed, LARGE_SHAPE)
    source = make_repository(materials.folder / "pushed", image=samples)
    files = [path for path in (source / ".stockroom/packs").rglob("*") if path.is_file() and path.name != "present"]
    nbytes = sum(path.stat().st_size for path in files)
    del samples
    with start_server() as server:
        times: dict[str, list[float]] = {"put": [], "push": [], "get": [], "download": [], "clone": []}
        for number in range(ROUNDS):
            remote, raw = Remote(server, f"push-{number}"), Remote(server, f"raw-{number}").open_raw()
            steps: list[tuple[str, Callable[[], object]]] = [
                ("put", lambda raw=raw: put_raw(raw, files)),
                ("push", lambda remote=remote: push_to(source, remote)),
            ]
            for name, step in steps if number % 2 == 0 else reversed(steps):
                times[name].append(measure(step))
            target, downloads = materials.folder / f"full-{number}", materials.folder / f"raw-{number}"
            steps = [
                ("get", lambda raw=raw: get_raw(raw, files)),
                ("download", lambda raw=raw, folder=downloads: download_raw(raw, files, folder)),
                ("clone", lambda remote=remote, target=target: clone_from(remote, target, metadata_only=False)),
            ]
            for name, step in steps if number % 2 == 0 else reversed(steps):
                times[name].append(measure(step))
            check_equal(source, target)
            shutil.rmtree(target)
            shutil.rmtree(downloads)
            for path in [f"raw-{number}", f"push-{number}"]:
                clear(Remote(server, path))
    size = f"{nbytes / 1e9:.2g} GB"
    yield compare(f"push of {size} of new packs", times["put"], times["push"], 0.7)
    yield compare(f"full clone of {size}, beside gets into synced files", times["download"], times["clone"], 0.6)
    yield Row("the same, beside gets into memory", SECONDS, median(times["clone"]), limit=median(times["get"]))


def metadata_clone(materials: Materials) -> Iterator[Row]:
    """A clone of metadata only of a million samples, the first sample afterwards, and a push of one changed sample."""
    count = materials.sizes.cloned
    source = make_repository(
        materials.folder / "million", image=_Distinct(count), label=np.arange(count, dtype=np.int64) % 1000
    )
    with start_server() as server:
        remote = Remote(server, "million")
        push_to(source, remote)
        seconds, firsts, pulled = [], [], []
        for number in range(ROUNDS):
            target = materials.folder / f"metadata-{number}"
            transport = CountingTransport(open_transport(remote.settings))
            seconds.append(measure(lambda target=target, transport=transport: clone_counted(remote, target, transport)))
            firsts.append(time_first_sample(target))
            pulled.append(measure_pulled(target))
            if number + 1 < ROUNDS:
                shutil.rmtree(target)
        name = f"metadata-only clone of {count:,} samples (image and label)"
        yield Row(name, SECONDS, median(seconds), at_most=3, rounds=ROUNDS)
        yield Row(f"{name}: bytes a sample", BYTES, transport.received_nbytes / count, at_most=80)
        yield Row(f"{name}: requests", REQUESTS, transport.requests.total(), at_most=12)
        yield Row("first sample after it, in a fresh process", SECONDS, median(firsts), at_most=0.3, rounds=ROUNDS)
        yield Row("pulled for it", BYTES, median(pulled), at_most=1 << 20)
        with StockRoom(source) as stock, stock.enable_write("Change one"):
            stock.data["image"][count // 2] = np.full(SMALL_SHAPE, 7, np.uint8)
        transport = CountingTransport(open_transport(remote.settings))
        push_to(source, remote, transport)
        yield Row(f"push after changing 1 of {count:,}: requests", REQUESTS, transport.requests.total(), at_most=6)
        yield Row(f"push after changing 1 of {count:,}: bytes sent", BYTES, transport.sent_nbytes, at_most=256 << 10)


def lazy_epoch(materials: Materials) -> Iterator[Row]:
    """A sequential DataLoader epoch on a clone without samples, beside raw ranged gets; and a second one."""
    count = materials.sizes.lazy_epoch
    source = make_repository(
        materials.folder / "epoch", image=materials.make_samples(count, LARGE_SHAPE), label=np.arange(count)
    )
    packs = list((source / ".stockroom/packs").rglob("c.*"))
    with start_server() as server:
        remote = Remote(server, "epoch")
        push_to(source, remote)
        raw = remote.open_raw()
        times: dict[str, list[float]] = {"get": [], "batches": [], "lazy": [], "second": [], "whole": []}
        for number in range(ROUNDS):
            target = materials.folder / f"lazy-{number}"
            clone_from(remote, target, metadata_only=True)
            steps: list[tuple[str, Callable[[], object]]] = [
                ("get", lambda: get_raw(raw, packs)),
                ("batches", lambda: get_raw(raw, packs, piece_nbytes=EPOCH_BATCH * 150_528, at_once=2)),
                ("lazy", lambda target=target: run_epoch(target, count)),
            ]
            for name, step in steps if number % 2 == 0 else reversed(steps):
                times[name].append(measure(step))
            requests = ask_agent(target).requests
            steps = [
                ("whole", lambda: run_epoch(source, count)),
                ("second", lambda target=target: run_epoch(target, count)),
            ]
            for _ in range(2):
                steps.reverse()
                for name, step in steps:
                    times[name].append(measure(step))
            shutil.rmtree(target)
    size = f"{count * 150_528 / 1e6:.0f} MB"
    yield compare(f"lazy DataLoader epoch of {size}, 2 workers, in order", times["get"], times["lazy"], 0.6)
    for limit, name in (
        ("batches", "gets of a batch each in two threads"),
        ("whole", "an epoch of the whole repository"),
    ):
        yield Row(f"the same, beside {name}", SECONDS, median(times["lazy"]), limit=median(times[limit]))
    yield compare("second epoch, beside the same of a whole repository", times["whole"], times["second"], 0.95)
    large = [path for path in packs if path.stat().st_size > 1 << 20]
    yield Row("requests of the lazy epoch for each pack of 64 MiB", REQUESTS, requests / len(large), at_most=12)


def sparse_reads(materials: Materials) -> Iterator[Row]:
    """A random hundredth of the samples, in one call, from a clone without samples."""
    for shape, count, bound, rate in ((LARGE_SHAPE, 2000, 1.3, None), (SMALL_SHAPE, 50_000, 3.0, 0.5)):
        samples = materials.make_samples(count, shape)
        source = make_repository(materials.folder / f"sparse-{count}", image=samples)
        chosen = materials.random.permutation(count)[: count // 100]
        own_nbytes = len(chosen) * int(np.prod(shape))
        with start_server() as server:
            remote = Remote(server, f"sparse-{count}")
            push_to(source, remote)
            raw, times = remote.open_raw(), {"get": [], "take": []}
            for number in range(ROUNDS + 2):
                target = materials.folder / f"sparse-{count}-{number}"
                with StockRoom.clone(remote.settings.url, target, metadata_only=True, **remote.options) as stock:
                    column = stock.data["image"]
                    ranges = find_ranges(column, chosen)
                    times["get"].append(measure(lambda raw=raw, ranges=ranges: get_ranges_raw(raw, ranges)))
                    start = time.perf_counter()
                    read = column.take(chosen)
                    times["take"].append(time.perf_counter() - start)
                    pulled = ask_agent(target).nbytes
                assert np.array_equal(read, samples[chosen])
                shutil.rmtree(target)
        name = f"a random 1 % of {count:,} samples of {np.prod(shape) / 1024:.0f} KiB"
        yield Row(f"{name}: bytes pulled for each of their own", "x", pulled / own_nbytes, at_most=bound)
        if rate is not None:
            yield compare(f"{name}, one call", times["get"], times["take"], rate)


class _Distinct:
    """So many samples of 3 KiB, all different, made when they are stored."""

    def __init__(self, count: int) -> None:
        self.count = count

    def iter_batches(self) -> Iterator[NDArray[np.uint8]]:
        base = np.random.default_rng(3).integers(0, 256, (10_000, 3072), dtype=np.uint8)
        for start in range(0, self.count, len(base)):
            batch = base[: self.count - start].copy()
            batch[:, :8] = np.arange(start, start + len(batch), dtype="<i8").view(np.uint8).reshape(-1, 8)
            yield batch.reshape(-1, *SMALL_SHAPE)


def make_repository(path: Path, **columns: Any) -> Path:
    """A repository with these columns in one commit."""
    with StockRoom.init(path) as stock, stock.enable_write("Samples"):
        for name, values in columns.items():
            if isinstance(values, _Distinct):
                column = stock.data.create(name, dtype="uint8", shape=SMALL_SHAPE)
                for batch in values.iter_batches():
                    column.extend(batch)
            else:
                stock.data[name] = values
    return path


def push_to(source: Path, remote: Remote, transport: CountingTransport | None = None) -> None:
    """Push the branch that is checked out."""
    with StockRoom(source) as stock:
        if "origin" not in stock.remotes:
            stock.add_remote("origin", remote.settings.url, **remote.options)
        else:
            stock.set_remote("origin", remote.settings.url, **remote.options)
    repository = Repository.locate(source)
    try:
        push(repository, "origin", resolve_push(repository, None), transport=transport)
    finally:
        repository.close()


def clone_from(remote: Remote, target: Path, *, metadata_only: bool) -> None:
    StockRoom.clone(remote.settings.url, target, metadata_only=metadata_only, **remote.options).close()


def clone_counted(remote: Remote, target: Path, transport: CountingTransport) -> None:
    clone(remote.settings, target, CloneOptions(metadata_only=True), transport=transport)


FIRST_SAMPLE = """
import sys, time
from stockroom import StockRoom
start = time.perf_counter()
with StockRoom(sys.argv[1]) as stock:
    stock.data["image"][12345]
    print(time.perf_counter() - start)
"""


def time_first_sample(target: Path) -> float:
    """Seconds from opening the repository to its first sample, in a process that has only imported the package."""
    done = subprocess.run([sys.executable, "-c", FIRST_SAMPLE, str(target)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def measure_pulled(target: Path) -> int:
    with StockRoom(target) as stock:
        return stock.measure_presence().present_nbytes


def ask_agent(target: Path) -> Any:
    """What the repository's agent has asked of remotes since it started."""
    from stockroom.remotes.agent.fetcher import AgentFetcher

    fetcher = AgentFetcher(target / ".stockroom", has_remotes=lambda: True)
    try:
        return fetcher.measure()
    finally:
        fetcher.close()


def run_epoch(path: Path, count: int) -> None:
    with StockRoom(path) as stock:
        columns = make_torch_dataset([stock.data["image"], stock.data["label"]])
        loader = DataLoader(columns, batch_size=EPOCH_BATCH, num_workers=2)
        assert sum(len(labels) for _, labels in loader) == count


def put_raw(store: Any, files: Sequence[Path]) -> None:
    import obstore

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda path: obstore.put(store, raw_name(path), path), files):
            pass


def get_raw(store: Any, files: Sequence[Path], *, piece_nbytes: int = PIECE_NBYTES, at_once: int = AT_ONCE) -> int:
    """Get whole files in ranges; unless told otherwise of the size, and as many at once, as the product does."""
    sizes = [(raw_name(path), path.stat().st_size) for path in files]
    ranges = [(name, at, min(at + piece_nbytes, size)) for name, size in sizes for at in range(0, size, piece_nbytes)]
    return get_ranges_raw(store, ranges, at_once=at_once)


def download_raw(store: Any, files: Sequence[Path], folder: Path) -> None:
    """Get whole files in ranges, as `get_raw`, into files of a new folder, synced."""
    import obstore

    folder.mkdir()
    targets = {path: os.open(folder / str(number), os.O_CREAT | os.O_RDWR) for number, path in enumerate(files)}

    def fetch_planned(span: tuple[Path, int, int]) -> None:
        path, start, stop = span
        content = memoryview(obstore.get_range(store, raw_name(path), start=start, end=stop))
        os.pwrite(targets[path], content, start)

    sizes = [(path, path.stat().st_size) for path in files]
    spans = [(path, at, min(at + PIECE_NBYTES, size)) for path, size in sizes for at in range(0, size, PIECE_NBYTES)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(fetch_planned, spans):
            pass
    for target in targets.values():
        os.fdatasync(target)
        os.close(target)


def get_ranges_raw(store: Any, ranges: Sequence[tuple[str, int, int]], *, at_once: int = AT_ONCE) -> int:
    import obstore

    with ThreadPoolExecutor(at_once) as pool:
        return sum(pool.map(lambda span: len(obstore.get_range(store, span[0], start=span[1], end=span[2])), ranges))


@cache
def raw_name(path: Path) -> str:
    """Where a local pack's file lies on a remote."""
    return "/".join(path.parts[path.parts.index("packs") :])


def find_ranges(column: Any, positions: NDArray[np.int64]) -> list[tuple[str, int, int]]:
    """Where each sample's bytes lie on the remote."""
    tensors = column._opened.pin.tensors
    locations = tensors.locate(column.list_chunks(positions))
    ranges = []
    for location in locations.tolist():
        pack = tensors.cache.get(location >> 32)
        start, nbytes = pack.get_span(location & 0xFFFFFFFF)
        name = pack.digest.hex()
        ranges.append((f"packs/{name[:2]}/{name}/{pack.layout.shard_name}", start, start + nbytes))
    return ranges


def clear(remote: Remote) -> None:
    transport = open_transport(remote.settings)
    transport.delete([file.path for file in transport.iter_files("")])


def check_equal(source: Path, target: Path) -> None:
    for path in (source / ".stockroom/packs").rglob("c.*"):
        other = target / path.relative_to(source)
        assert path.read_bytes() == other.read_bytes(), path


def measure(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(work: str, limit: Sequence[float], product: Sequence[float], ratio: float) -> Row:
    return Row(
        work, SECONDS, median(product), limit=median(limit), at_least_ratio=ratio, rounds=min(len(limit), len(product))
    )
