"""Drop: frees the disk space of packs that a remote holds. They are fetched again when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from typing import Final

from stockroom.digest import PackDigest
from stockroom.errors import ReadOnlyError
from stockroom.remotes.copies import list_equal_copies
from stockroom.remotes.format.marks import ItemKind, MarkTable
from stockroom.remotes.format.pack_files import LocalPack, list_unsent
from stockroom.remotes.lazy import make_agent_fetcher
from stockroom.remotes.pack_copy import check_copy
from stockroom.remotes.progress import OnProgress, TransferTally
from stockroom.remotes.ref_state_log import find_following_state, find_newest_state, read_marks
from stockroom.remotes.settings import read_remotes
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport.protocol import MissingFileError, Transport
from stockroom.remotes.trust import open_remote
from stockroom.repository.repository import Repository
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.writer_folder import open_writer_folder
from stockroom.store.upkeep.removal import forbid_removal

_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class DropPlan:
    """The packs to drop, largest first; the bytes they take here; and how many others no remote was seen to hold.

    `holders` names a remote that holds each pack.
    """

    packs: tuple[PackDigest, ...]
    nbytes: int
    kept: int
    holders: Mapping[PackDigest, str] = field(default_factory=dict)


def plan_drop(
    repository: Repository, candidates: Iterable[PackDigest] | None = None, *, keep_nbytes: int | None = None
) -> DropPlan:
    """Plan which of `candidates` (None: all packs) to drop, until all packs take `keep_nbytes` (None: drop all).

    Only packs that a remote holds at this moment, with every file at its right size, are chosen. `drop` looks closer.
    """
    with _forbidding_removal(repository):
        repository.tensors.index.refresh()
        present = {pack.digest: pack.measure_present() for pack in repository.tensors.iter_packs()}
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
    return DropPlan(tuple(chosen), nbytes, len(wanted) - len(held), held)


def drop(repository: Repository, plan: DropPlan, on_progress: OnProgress | None = None) -> DropPlan:
    """Carry out a plan, as far as a remote's copies are sound. Return the packs dropped; the others count as kept.

    A copy is sound if it is equal to the pack here, by the store's own checksum or by its bytes, or matches the digests
    in the manifest. The packs are hollowed out by the fetch agent, the only process that writes to partial packs.
    """
    sound: dict[PackDigest, int] = {}
    for name, settings in read_remotes(repository.paths).items():
        packs = _open_packs(repository, [pack for pack in plan.packs if plan.holders.get(pack) == name])
        if packs:
            found = _list_sound(repository, open_remote(name, settings), packs, on_progress)
            sound.update({pack.digest: pack.pack.measure_present() for pack in packs if pack.digest in found})
    chosen = tuple(pack for pack in plan.packs if pack in sound)
    if chosen:
        with (
            closing(make_agent_fetcher(repository.paths)) as fetcher,
            forbid_removal(repository.tensors, timeout_s=_PATIENCE_S),
        ):
            in_place = [pack for pack in chosen if locate_pack(repository.tensors.packs_directory, pack).is_dir()]
            fetcher.drop(in_place)
        repository.tensors.cache.forget()
    return DropPlan(chosen, sum(sound.values()), plan.kept + len(plan.packs) - len(chosen))


def _list_sound(
    repository: Repository, transport: Transport, packs: Sequence[LocalPack], on_progress: OnProgress | None
) -> set[PackDigest]:
    """Return those of `packs` with a sound copy on a remote."""
    tally = TransferTally("comparing", on_progress, total_files=len(packs), total_nbytes=0)
    sound = list_equal_copies(transport, packs, lambda _: tally.add(files=1))
    with open_writer_folder(repository.tensors.tmp_directory) as folder:
        for pack in packs:
            if pack.digest not in sound and check_copy(transport, pack.digest, pack.sizes, folder=folder).is_sound:
                sound.add(pack.digest)  # the one here is damaged
    return sound


def _open_packs(repository: Repository, digests: Iterable[PackDigest]) -> list[LocalPack]:
    """Open packs, except those that gc has rewritten since."""
    with _forbidding_removal(repository):
        directory = repository.tensors.packs_directory
        return [LocalPack.open(repository, each) for each in digests if locate_pack(directory, each).is_dir()]


def _list_held(repository: Repository, packs: Sequence[PackDigest]) -> dict[PackDigest, str]:
    """Return those of `packs` that a remote is known to hold, confirms now, and has not marked; with its name."""
    held: dict[PackDigest, str] = {}
    for name, settings in read_remotes(repository.paths).items():
        tracking = Tracking(repository.paths, name)
        known = tracking.read_packs()
        asked = _open_packs(repository, [digest for digest in packs if digest in known and digest not in held])
        if asked:
            transport = open_remote(name, settings)
            unsent = {pack.digest for pack in list_unsent(transport, asked)}
            marks = _read_newest_marks(transport, tracking)
            for digest in (pack.digest for pack in asked if pack.digest not in unsent):
                if (ItemKind.PACK, digest) not in marks:
                    held[digest] = name
    return held


def _forbidding_removal(repository: Repository) -> AbstractContextManager[object]:
    """Keep other processes from removing packs, unless this user may only read here."""
    try:
        return forbid_removal(repository.tensors, timeout_s=_PATIENCE_S)
    except ReadOnlyError:
        return nullcontext()


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
