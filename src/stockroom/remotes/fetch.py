"""Fetch: takes in the newest ref state, its new bundles, and their content. Packs stay on the remote.

Content is verified before it is kept. Refs move last, so a kill leaves nothing wrong. The next fetch takes in again any
bundle that was not noted as taken in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from stockroom.digest import CommitId, PackDigest
from stockroom.errors import CorruptionError, RefChangedError
from stockroom.refs import Ref, RefChange, RefMove
from stockroom.remotes.collisions import LeftOutRef, leave_out_colliding
from stockroom.remotes.format.ref_state import RefState
from stockroom.remotes.intake import Intake
from stockroom.remotes.progress import OnProgress
from stockroom.remotes.ref_state_log import get_newest_state
from stockroom.remotes.settings import open_transport_of, read_remotes
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport.protocol import Transport
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.reachable import count_needed
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.presence import PRESENCE_NAME
from stockroom.store.upkeep.removal import forbid_removal

_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class FetchReport:
    """The result of a fetch: refs moved (name, old, new), and how much was new.

    `leaving` counts packs that branches, tags or changes here need and that are not whole here, but that the remote is
    about to remove as unreachable there: push, or fetch their bytes. `left_out` names branches and tags of the remote
    that differ from another name here only in case or accents' form, and that name.
    """

    remote: str
    number: int
    moved: tuple[tuple[str, CommitId | None, CommitId | None], ...]
    bundles: int
    commits: int
    objects: int
    packs: int
    nbytes: int
    leaving: int = 0
    left_out: tuple[LeftOutRef, ...] = ()


def fetch(
    repository: Repository,
    remote: str,
    *,
    prune: bool = False,
    transport: Transport | None = None,
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """Take in the new content of a remote, and move its remote-tracking refs. New tags become tags here.

    Raises:
        CorruptionError: the remote is damaged; no ref was moved.
        FormatVersionError: a newer Stockroom wrote it.
        RemoteError: the remote does not answer, or nothing was ever pushed there.
    """
    if transport is None:
        transport = open_transport_of(repository.paths, remote)
    tracking = Tracking(repository.paths, remote)
    state = get_newest_state(transport, tracking.read_state())
    with forbid_removal(repository.tensors, timeout_s=_PATIENCE_S):  # packs already here must not be removed meanwhile
        intake = Intake(repository, transport, tracking)
        state = intake.take_in_newest(state, on_progress)
        moves, left_out = plan_moves(repository, remote, state, prune=prune)
        apply_moves(repository, moves, kind="fetch")
        tracking.write_state(state)
        leaving = count_leaving(repository)
    refs = tuple((str(move.ref), move.old, move.new) for move in moves)
    taken = (intake.bundles, intake.commits, intake.objects, intake.packs, intake.nbytes)
    return FetchReport(remote, state.number, refs, *taken, leaving, tuple(left_out))


def plan_moves(
    repository: Repository, remote: str, state: RefState, *, prune: bool
) -> tuple[list[RefMove], list[LeftOutRef]]:
    """Plan how refs here follow a remote's state. Return the moves, and the refs that collide with another name."""
    refs = repository.refs
    moves = []
    for name, tip in sorted(state.branches.items(), key=lambda item: (item[0] != state.head, item[0])):
        ref = Ref("remote", f"{remote}/{name}")
        moves.append(RefMove(ref=ref, old=refs.find_ref(ref), new=CommitId(tip)))
    for name, tip in sorted(state.tags.items()):
        ref = Ref("tag", name)
        if refs.find_ref(ref) is None:
            moves.append(RefMove(ref=ref, old=None, new=CommitId(tip)))
    if prune:
        prefix = f"{remote}/"
        for name, tip in refs.remotes().items():
            if name.startswith(prefix) and name.removeprefix(prefix) not in state.branches:
                moves.append(RefMove(ref=Ref("remote", name), old=tip, new=None))
    is_shallow = bool(refs.shallow())
    possible = [
        move
        for move in moves
        if move.old != move.new and not (is_shallow and move.new is not None and not refs.has_commit(move.new))
    ]
    return leave_out_colliding(refs, possible)


def apply_moves(repository: Repository, moves: Sequence[RefMove], *, kind: str) -> None:
    """Move refs in one transaction. If another fetch has moved some meanwhile, move the rest."""
    if not moves:
        return
    try:
        repository.refs.apply(RefChange(kind=kind, moves=tuple(moves)))
    except RefChangedError:
        now = [RefMove(ref=move.ref, old=repository.refs.find_ref(move.ref), new=move.new) for move in moves]
        left = tuple(move for move in now if move.old != move.new)
        if left:
            repository.refs.apply(RefChange(kind=kind, moves=left))


def count_leaving(repository: Repository) -> int:
    """Note the partial packs that no remote describes any more. Return how many of them are needed here."""
    described: set[PackDigest] = set()
    for name in read_remotes(repository.paths):
        tracking = Tracking(repository.paths, name)
        state = tracking.read_state()
        if state is not None:
            described |= tracking.read_described(entry.digest for entry in state.bundles)
    tensors = repository.tensors
    others = set(tensors.catalog.read_packs().values()) - described
    leaving = {pack for pack in others if (locate_pack(tensors.packs_directory, pack) / PRESENCE_NAME).exists()}
    repository.marks.replace_leaving(leaving)
    if not leaving:
        return 0
    try:
        return count_needed(repository, leaving)
    except CorruptionError:  # `stock fsck` reports damage
        return len(leaving)
