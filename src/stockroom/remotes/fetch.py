"""Fetch: takes in the newest ref state, its new bundles, and their content. Packs stay on the remote.

Content is verified before it is kept. Refs move last, so a kill leaves nothing wrong. The next fetch takes in again any
bundle that was not noted as taken in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from stockroom.digest import CommitId, PackDigest
from stockroom.errors import CorruptionError, RefChangedError, RefNotFoundError, did_you_mean, near_names
from stockroom.refs import Ref, RefChange, RefMove
from stockroom.remotes.collisions import LeftOutRef, leave_out_colliding
from stockroom.remotes.format.ref_state import RefState
from stockroom.remotes.history_depth import Depth
from stockroom.remotes.intake import Intake
from stockroom.remotes.progress import OnProgress
from stockroom.remotes.ref_state_log import get_newest_state
from stockroom.remotes.settings import open_transport_of, read_remotes
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport.protocol import Transport
from stockroom.remotes.transport.working_repository import WorkingRepositoryTransport
from stockroom.remotes.working_repository import forget_rewritten
from stockroom.repository.repository import Repository
from stockroom.repository.upkeep.reachable import count_needed
from stockroom.store.pack.layout import locate_pack
from stockroom.store.pack.presence import PRESENCE_NAME
from stockroom.store.upkeep.removal import forbid_removal

_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """What a fetch brings: the named branches and tags, or those that the clone follows; see `StockRoom.fetch`."""

    refs: tuple[str, ...] = ()
    prune: bool = False
    prune_tags: bool = False
    tags: bool = False
    force: bool = False
    depth: Depth | None = None


class RejectedTag(NamedTuple):
    """A tag here that is elsewhere on the remote, and its commits here and there."""

    name: str
    here: CommitId
    there: CommitId


@dataclass(frozen=True, slots=True)
class FetchReport:
    """The result of a fetch: refs moved (name, old, new), and how much was new.

    `leaving` counts packs that branches, tags or changes here need and that are not whole here, but that the remote is
    about to remove as unreachable there: push, or fetch their bytes. `left_out` names branches and tags of the remote
    that differ from another name here only in case or accents' form, and that name. `rejected` tags stay where they are
    here, since only `force` moves a tag. `shallow` is the number of commits whose parents are left out, after a change
    of depth.
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
    rejected: tuple[RejectedTag, ...] = ()
    shallow: int | None = None


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """How refs here follow a remote's state: the moves, and the refs that do not."""

    moves: list[RefMove]
    left_out: list[LeftOutRef]
    rejected: list[RejectedTag]


def fetch(
    repository: Repository,
    remote: str,
    options: FetchOptions | None = None,
    *,
    transport: Transport | None = None,
    on_progress: OnProgress | None = None,
) -> FetchReport:
    """Take in the new content of a remote, and move its remote-tracking refs. New tags become tags here.

    Raises:
        RefNotFoundError: the remote has no branch or tag of a name in the options; no ref was moved.
        CorruptionError: the remote is damaged; no ref was moved.
        FormatVersionError: a newer Stockroom wrote it.
        RemoteError: the remote does not answer, or nothing was ever pushed there.
    """
    options = options or FetchOptions()
    if transport is None:
        transport = open_transport_of(repository.paths, remote)
    tracking = Tracking(repository.paths, remote)
    state = get_newest_state(transport, tracking.read_state())
    branches = read_branches(repository, remote)
    with forbid_removal(repository.tensors, timeout_s=_PATIENCE_S):  # packs already here must not be removed meanwhile
        is_shallow = bool(repository.refs.shallow())
        list_tips = partial(_list_tips, branches=branches, options=options, is_shallow=is_shallow)
        list_tips(state)  # says what is not there before anything is downloaded
        takes_all = branches is None and not options.refs and not is_shallow
        intake = Intake(
            repository, transport, tracking, list_tips=None if takes_all else list_tips, depth=options.depth
        )
        state = intake.take_in_newest(state, on_progress)
        plan = plan_moves(repository, remote, state, options)
        apply_moves(repository, plan.moves, kind="fetch")
        tracking.write_state(state)
        leaving = count_leaving(repository)
    if leaving and isinstance(transport, WorkingRepositoryTransport) and forget_rewritten(repository):
        leaving = count_leaving(repository)
    shallow = None if options.depth is None else len(repository.refs.shallow())
    refs = tuple((str(move.ref), move.old, move.new) for move in plan.moves)
    taken = (intake.bundles, intake.commits, intake.objects, intake.packs, intake.nbytes)
    return FetchReport(remote, state.number, refs, *taken, leaving, tuple(plan.left_out), tuple(plan.rejected), shallow)


def read_branches(repository: Repository, remote: str) -> tuple[str, ...] | None:
    """Return the branches of a remote that this clone follows; None is all."""
    settings = read_remotes(repository.paths).get(remote)
    return None if settings is None else settings.branches


def list_followed_tips(
    state: RefState, branches: Sequence[str] | None, *, refs: Sequence[str] = (), with_tags: bool = False
) -> list[CommitId]:
    """Return the commits of a state's branches and tags: those named by `refs`, else of `branches` (None: all).

    Raises `RefNotFoundError` if the state has none of a name in `refs`.
    """
    tips: dict[bytes, None] = {}
    for name in refs:
        found = state.branches.get(name, state.tags.get(name))
        if found is None:
            known = [*state.branches, *state.tags]
            hint = did_you_mean(near_names(name, known)) or f"it has: {', '.join(known) or 'none'}"
            raise RefNotFoundError(f"the remote has no branch or tag {name!r}; {hint}", ref=name, near=known)
        tips[found] = None
    if not refs:
        tips |= dict.fromkeys(tip for name, tip in state.branches.items() if branches is None or name in branches)
    if with_tags:
        tips |= dict.fromkeys(state.tags.values())
    return [CommitId(tip) for tip in tips]


def plan_moves(repository: Repository, remote: str, state: RefState, options: FetchOptions | None = None) -> FetchPlan:
    """Plan how refs here follow a remote's state. Tags follow if their commits are here."""
    refs, options = repository.refs, options or FetchOptions()
    branches = read_branches(repository, remote)
    moves, rejected = [], []
    for name, tip in sorted(state.branches.items(), key=lambda item: (item[0] != state.head, item[0])):
        ref = Ref("remote", f"{remote}/{name}")
        if name in options.refs if options.refs else branches is None or name in branches:
            moves.append(RefMove(ref=ref, old=refs.find_ref(ref), new=CommitId(tip)))
    for name, tip in sorted(state.tags.items()):
        old = refs.find_ref(Ref("tag", name))
        if old is None or options.force:
            moves.append(RefMove(ref=Ref("tag", name), old=old, new=CommitId(tip)))
        elif old != tip:
            rejected.append(RejectedTag(name, old, CommitId(tip)))
    moves += _plan_pruning(repository, remote, state, options)
    possible = [move for move in moves if move.old != move.new and (move.new is None or refs.has_commit(move.new))]
    return FetchPlan(*leave_out_colliding(refs, possible), rejected)


def _plan_pruning(repository: Repository, remote: str, state: RefState, options: FetchOptions) -> list[RefMove]:
    """Return the deletions of refs here that the remote does not have."""
    refs, prefix = repository.refs, f"{remote}/"
    gone: dict[Ref, CommitId] = {}
    if options.prune:
        mine = {name: tip for name, tip in refs.remotes().items() if name.startswith(prefix)}
        gone |= {Ref("remote", n): tip for n, tip in mine.items() if n.removeprefix(prefix) not in state.branches}
    if options.prune_tags:
        gone |= {Ref("tag", name): tip for name, tip in refs.tags().items() if name not in state.tags}
    return [RefMove(ref=ref, old=tip, new=None) for ref, tip in gone.items()]


def _list_tips(
    state: RefState, *, branches: Sequence[str] | None, options: FetchOptions, is_shallow: bool
) -> list[CommitId]:
    follows_all = branches is None and not is_shallow and not options.refs
    return list_followed_tips(state, branches, refs=options.refs, with_tags=options.tags or follows_all)


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
