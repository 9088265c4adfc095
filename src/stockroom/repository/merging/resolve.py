"""Deciding the open conflicts of an unfinished merge: taking one side's samples, leaves or whole records."""

from __future__ import annotations

from collections.abc import Sequence

from stockroom.content.column import ColumnRecord
from stockroom.content.merge.columns import take_samples
from stockroom.content.merge.conflict import METADATA, Arbiter, Choice, Conflict
from stockroom.content.merge.content import put_record
from stockroom.content.merge.mappings import take_keys
from stockroom.content.merge.state_side import read_side
from stockroom.content.merge.states import Average, MergedState, StateMerge
from stockroom.content.merge.unfinished import Merging
from stockroom.content.snapshot import DATA, Snapshot
from stockroom.content.state import StateRecord
from stockroom.digest import ObjectDigest
from stockroom.errors import InvalidInputError, NotFoundError
from stockroom.refs.names import find_colliding
from stockroom.repository.writing.stage_workspace import StageWorkspace
from stockroom.trees import Key


def get_merging(workspace: StageWorkspace) -> Merging:
    """Return the unfinished merge. Raises `NotFoundError` if there is none."""
    if workspace.merging is None:
        raise NotFoundError("no merge is in progress; `stock merge REF --no-commit` starts one")
    return workspace.merging


def resolve(
    workspace: StageWorkspace, path: str, key: Key | None, choice: Choice | None, average: Average | None = None
) -> int:
    """Decide the open conflicts at a path, or the one at a key; return how many are still open in all.

    `ours` is the content of HEAD, `theirs` the content merged in. `choice` None takes the content staged there, such as
    a value set by hand.

    Raises:
        NotFoundError: there is no unfinished merge, or nothing there is in conflict.
        InvalidInputError: the choice cannot decide the conflict.
    """
    merging = get_merging(workspace)
    chosen = [c for c in merging.conflicts if c.path == path and (key is None or _is_key(c, key))]
    if not chosen:
        raise NotFoundError(
            f"no open conflict at {path}{'' if key is None else f', {key!r}'}; `stock merge` lists them"
        )
    content = workspace.snapshot if choice is None else _take(workspace, merging, path, chosen, choice, average)
    left = [conflict for conflict in merging.conflicts if conflict not in chosen]
    workspace.stage_merge(content, merging.leave(left))
    workspace.flush()
    return len(left)


def _take(
    workspace: StageWorkspace,
    merging: Merging,
    path: str,
    chosen: Sequence[Conflict],
    choice: Choice,
    average: Average | None,
) -> Snapshot:
    """Return the staged content with the conflicts at a path decided."""
    source = workspace.base if choice == "ours" else Snapshot(workspace.nodes, ObjectDigest(merging.theirs))
    if any(conflict.key is None for conflict in chosen):
        return _take_whole(workspace.snapshot, source, path, choice)
    digests = workspace.snapshot.find_digest(path), source.find_digest(path)
    staged, wanted = (None if digest is None else source.read_record(digest) for digest in digests)
    conflicts = list(chosen)
    record: ColumnRecord | StateRecord
    if isinstance(staged, ColumnRecord) and isinstance(wanted, ColumnRecord) and choice != "average":
        record = take_samples(source, path, staged, wanted, conflicts)
    elif isinstance(staged, StateRecord) and isinstance(wanted, StateRecord):
        merged = _take_leaves(source, path, (staged, wanted), conflicts, choice, average)
        record = merged.write(workspace.snapshot, workspace.objects)
    else:
        raise _explain(path, choice)
    return put_record(workspace.snapshot, path, workspace.objects.put_object(record.encode()))


def _take_whole(staged: Snapshot, source: Snapshot, path: str, choice: Choice) -> Snapshot:
    if choice == "average":
        raise _explain(path, choice)
    shelf, _, name = path.partition("/")
    digest = source.find_digest(path)
    other = find_colliding(name, staged.iter_names(DATA)) if shelf == DATA and digest is not None else None
    if other is not None:
        raise InvalidInputError(f"{path}: collides with the staged column {other!r}; delete one of them")
    return put_record(staged, path, digest)


def _take_leaves(
    content: Snapshot,
    path: str,
    records: tuple[StateRecord, StateRecord],
    conflicts: list[Conflict],
    choice: Choice,
    average: Average | None,
) -> MergedState:
    staged, wanted = (read_side(content, record) for record in records)
    asked = set()

    def decide(found: Conflict) -> Sequence[Choice]:
        asked.add(found.key)
        return [choice if choice == "average" else "theirs"]  # `theirs` is the side to take, whichever it is

    arbiter = Arbiter(decide)
    paths = frozenset(str(conflict.key) for conflict in conflicts if conflict.kind != METADATA)
    merged = StateMerge(path, None, staged, wanted, arbiter, average, only=paths).run()
    if merged is None or arbiter.conflicts or asked != paths:
        raise _explain(path, choice)
    metadata = take_keys(merged.metadata, wanted.metadata, METADATA, conflicts)
    return MergedState(merged.top, merged.entries, metadata)


def _is_key(conflict: Conflict, key: Key) -> bool:
    return conflict.key == key or str(conflict.key) == str(key)


def _explain(path: str, choice: Choice) -> InvalidInputError:
    return InvalidInputError(
        f"{path}: cannot be resolved as {choice!r}; choose another side, or set it yourself and resolve it as staged"
    )
