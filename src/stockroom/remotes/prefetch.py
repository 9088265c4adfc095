"""Prefetch: fetches samples before they are read, and estimates the cost."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import PackDigest
from stockroom.remotes.agent.downloads import GAP_NBYTES, PIECE_NBYTES
from stockroom.remotes.lazy import make_agent_fetcher
from stockroom.remotes.progress import OnProgress, TransferProgress
from stockroom.repository.repository import Repository
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.pack_filler import PackFiller
from stockroom.store.tensor_store import TensorStore

_CHUNKS_AT_ONCE: Final = 65536
_PACKS_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class PrefetchPlan:
    """Units to fetch and their bytes; the bytes and requests that reading them takes; units beyond the budget."""

    wanted: list[tuple[PackDigest, NDArray[np.int64]]]
    nbytes: int
    read_nbytes: int
    requests: int
    left_out: int


def plan_prefetch(tensors: TensorStore, digests: NDArray[np.uint8], *, max_nbytes: int | None = None) -> PrefetchPlan:
    """Plan which absent units of the chunks `(n, 32)` to fetch, in their order, up to `max_nbytes`."""
    wanted: list[tuple[PackDigest, NDArray[np.int64]]] = []
    nbytes = read_nbytes = requests = left_out = 0
    for pack, units in _iter_absent(tensors, digests):
        with closing(PackFiller(locate_pack(tensors.packs_directory, pack), pack)) as filler:
            fitting = units if max_nbytes is None else _fit(filler, units, max_nbytes - nbytes)
            left_out += len(units) - len(fitting)
            if len(fitting):
                wanted.append((pack, fitting))
                nbytes += filler.measure(fitting)
                ranges = filler.plan_ranges(fitting, gap_nbytes=GAP_NBYTES, max_nbytes=PIECE_NBYTES)
                requests += len(ranges)
                read_nbytes += sum(span.nbytes for span in ranges)
    return PrefetchPlan(wanted, nbytes, read_nbytes, requests, left_out)


def fetch_planned(repository: Repository, plan: PrefetchPlan, on_progress: OnProgress | None = None) -> None:
    """Carry out a plan, some packs at a time. Raises `AbsentDataError` if no remote has them."""
    count, done_units = len(plan.wanted), 0
    units = sum(len(some) for _, some in plan.wanted)
    with closing(make_agent_fetcher(repository.paths)) as fetcher:
        for start in range(0, count, _PACKS_AT_ONCE):
            if on_progress is not None:
                on_progress(TransferProgress("packs", start, count, plan.nbytes * done_units // units, plan.nbytes))
            some = plan.wanted[start : start + _PACKS_AT_ONCE]
            fetcher.fetch(some, is_bulk=True)
            repository.tensors.check_present(some, why=fetcher.why)
            done_units += sum(len(wanted) for _, wanted in some)
    if on_progress is not None:
        on_progress(TransferProgress("packs", count, count, plan.nbytes, plan.nbytes))


def _iter_absent(tensors: TensorStore, digests: NDArray[np.uint8]) -> list[tuple[PackDigest, NDArray[np.int64]]]:
    parts: dict[PackDigest, list[NDArray[np.int64]]] = {}
    for start in range(0, len(digests), _CHUNKS_AT_ONCE):
        for pack, units in tensors.list_absent(digests[start : start + _CHUNKS_AT_ONCE]):
            parts.setdefault(pack, []).append(units)
    return [(pack, np.unique(np.concatenate(units))) for pack, units in parts.items()]


def _fit(filler: PackFiller, units: NDArray[np.int64], nbytes: int) -> NDArray[np.int64]:
    """Return the first of `units` that together take at most `nbytes`."""
    sizes = np.cumsum([filler.measure(units[i : i + 1]) for i in range(len(units))])
    return units[: int(np.searchsorted(sizes, nbytes, "right"))]
