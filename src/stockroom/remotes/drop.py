"""Drop: frees the disk space of packs that a remote holds. They are fetched again when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from stockroom.digest import PackDigest
from stockroom.remotes.format.marks import ItemKind, MarkTable
from stockroom.remotes.format.pack_files import LocalPack, list_unsent
from stockroom.remotes.lazy import make_agent_fetcher
from stockroom.remotes.ref_state_log import find_following_state, find_newest_state, read_marks
from stockroom.remotes.settings import read_remotes
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.protocol import MissingFileError, Transport
from stockroom.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class DropPlan:
    """The packs to drop, largest first; the bytes they take here; and how many others no remote was seen to hold."""

    packs: tuple[PackDigest, ...]
    nbytes: int
    kept: int


def plan_drop(
    repository: Repository, candidates: Iterable[PackDigest] | None = None, *, keep_nbytes: int | None = None
) -> DropPlan:
    """Plan which of `candidates` (None: all packs) to drop, until all packs take `keep_nbytes` (None: drop all).

    Only packs that a remote holds at this moment, with every file at its right size, are chosen.
    """
    tensors = repository.tensors
    present = {pack.digest: pack.measure_present() for pack in tensors.iter_packs()}
    wanted = [digest for digest in (present if candidates is None else candidates) if present.get(digest)]
    excess = None if keep_nbytes is None else sum(present.values()) - keep_nbytes
    if not wanted or (excess is not None and excess <= 0):
        return DropPlan((), 0, 0)
    held = _list_held(repository, wanted)
    chosen: list[PackDigest] = []
    nbytes = 0
    for digest in sorted(held, key=lambda digest: -present[digest]):
        if excess is not None and nbytes >= excess:
            break
        chosen.append(digest)
        nbytes += present[digest]
    return DropPlan(tuple(chosen), nbytes, len(wanted) - len(held))


def drop(repository: Repository, plan: DropPlan) -> None:
    """Carry out a plan through the fetch agent, the only process that writes to partial packs."""
    if not plan.packs:
        return
    with closing(make_agent_fetcher(repository.paths)) as fetcher:
        fetcher.drop(plan.packs)
    repository.tensors.cache.forget()


def _list_held(repository: Repository, packs: Sequence[PackDigest]) -> set[PackDigest]:
    """Return those of `packs` that a remote is known to hold, confirms now, and has not marked as unreachable."""
    held: set[PackDigest] = set()
    for name, settings in read_remotes(repository.paths).items():
        tracking = Tracking(repository.paths, name)
        known = tracking.read_packs()
        asked = [LocalPack.open(repository, digest) for digest in packs if digest in known and digest not in held]
        if asked:
            transport = open_transport(settings)
            unsent = {pack.digest for pack in list_unsent(transport, asked)}
            marks = _read_newest_marks(transport, tracking)
            held.update(p.digest for p in asked if p.digest not in unsent and (ItemKind.PACK, p.digest) not in marks)
    return held


def _read_newest_marks(transport: Transport, tracking: Tracking) -> MarkTable:
    """Read the current marks of a remote."""
    state = find_newest_state(transport, tracking.read_state())
    while True:
        try:
            return read_marks(transport, state, tracking)
        except MissingFileError:
            assert state is not None
            state = find_following_state(transport, state)
            if state is None:
                raise
