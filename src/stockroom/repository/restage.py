"""Changing the stage by path, as `reset PATH`, `rm` and `mv` do. Reads and writes no sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from stockroom.content.places import Place, find_part, list_places, list_records, read_version
from stockroom.content.restore import move_key, move_record, remove_places, take_places
from stockroom.content.snapshot import ARTIFACT, DATA, EXPERIMENT, METRIC, MODEL, Snapshot
from stockroom.errors import ConflictError, InvalidInputError, NotFoundError, did_you_mean, near_names
from stockroom.refs import check_collision, check_name
from stockroom.refs.names import check_free_name
from stockroom.repository.writing.workspace import Workspace
from stockroom.trees import iter_range

_NOUNS: Final = {DATA: "column", MODEL: "model", EXPERIMENT: "value", METRIC: "metric", ARTIFACT: "artifact"}


def resolve_places(snapshots: Sequence[Snapshot], paths: Iterable[str], *, missing_ok: bool = False) -> list[Place]:
    """Return the places that paths name in any of some snapshots.

    Raises `NotFoundError` if a path names none, unless `missing_ok`.
    """
    places: dict[Place, None] = {}
    for path in paths:
        found = [place for snapshot in snapshots for place in list_places(snapshot, path)]
        if not found and not missing_ok:
            raise _explain_missing(snapshots[0], path)
        places |= dict.fromkeys(found)
    return list(places)


def unstage(workspace: Workspace, paths: Sequence[str]) -> list[Place]:
    """Make the staged content at some paths that of HEAD again, and return the places."""
    staged, base = workspace.snapshot, workspace.base
    places = resolve_places([staged, base], paths)
    workspace.stage_content(take_places(staged, base, places, workspace.objects))
    return places


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """How to remove: everything below a folder, what has staged changes, nothing yet, or only what there is."""

    recursive: bool = False
    force: bool = False
    dry_run: bool = False
    missing_ok: bool = False


def remove(workspace: Workspace, paths: Sequence[str], how: Removal) -> list[Place]:
    """Stage the removal of what some paths name, and return the places.

    Raises:
        NotFoundError: nothing is there.
        InvalidInputError: a path is a folder, and it is not recursive; or a part of a model.
        ConflictError: something else is staged there already, and it is not forced.
    """
    staged = workspace.snapshot
    places = resolve_places([staged], paths, missing_ok=how.missing_ok)
    for path in paths:
        if not how.recursive and _is_folder(staged, path):
            raise InvalidInputError(f"{path} is a folder: remove everything below it with recursive (-r)")
    for place in places:
        name = str(place)
        if not how.force and read_version(staged, name) != read_version(workspace.base, name):
            raise ConflictError(
                f"{name} has staged changes, which its removal would lose: commit them, unstage them (`stock reset "
                f"{name}`), or remove it with force (-f)"
            )
    if not how.dry_run:
        workspace.stage_content(remove_places(staged, places, workspace.objects))
    return places


def move(workspace: Workspace, old: str, new: str, *, force: bool) -> list[tuple[Place, Place]]:
    """Stage a rename, and return the old and new places: of a record, of a folder, or of a key within its column.

    Raises:
        NotFoundError: nothing is there.
        InvalidInputError: something has the new name, and not `force`; or the two cannot be one kind of thing.
        InvalidNameError: the new name is bad.
    """
    staged = workspace.snapshot
    if not list_records(staged, old):
        return [_move_key(workspace, old, new, force=force)]
    source, target = old.strip("/"), _choose_target(staged, old, new)
    moves = [(path, target + path[len(source) :]) for path, _ in list_records(staged, source)]
    content = staged
    for path, goal in moves:
        content = _move_record(content, path, goal, force=force)
    workspace.stage_content(content)
    return [(Place(path), Place(goal)) for path, goal in moves]


def _move_record(content: Snapshot, path: str, goal: str, *, force: bool) -> Snapshot:
    (shelf, _, _), (goal_shelf, _, name) = path.partition("/"), goal.partition("/")
    if shelf != goal_shelf:
        raise InvalidInputError(f"expected a new path that begins with {shelf}/, as {path} does, found {goal}")
    if path == goal or (content.find_digest(goal) is not None and not force):
        raise InvalidInputError(f"{goal} already exists; choose another name, or replace it with force (-f)")
    if shelf == DATA:
        check_name("column", name)
        check_collision("column", name, [one for one in content.iter_names(DATA) if f"{DATA}/{one}" != path])
    else:
        check_free_name(_NOUNS[shelf], name)
    return move_record(content, path, goal)


def _move_key(workspace: Workspace, old: str, new: str, *, force: bool) -> tuple[Place, Place]:
    staged = workspace.snapshot
    (place,) = resolve_places([staged], [old])
    goal = find_part(staged, new)
    if place.key is None or goal is None or goal[0].path != place.path or goal[0].key is None:
        raise InvalidInputError(
            f"expected a new key in {place.path}, such as {place.path}/KEY, found {new}; a sample moves only within "
            "its column"
        )
    if list_places(staged, new) and (old == new or not force):
        raise InvalidInputError(f"{new} already exists; choose another key, or replace it with force (-f)")
    workspace.stage_content(move_key(staged, place.path, place.key, goal[0].key, workspace.objects))
    return place, goal[0]


def _choose_target(staged: Snapshot, old: str, new: str) -> str:
    """Return the new path: within an existing folder of that name, otherwise as it is."""
    into = new.endswith("/") or (_is_folder(staged, new) and staged.find_digest(new) is None)
    return f"{new.rstrip('/')}/{old.strip('/').rpartition('/')[2]}" if into else new


def _is_folder(snapshot: Snapshot, path: str) -> bool:
    name = path.strip("/")
    return any(found != name for found, _ in list_records(snapshot, path))


def _explain_missing(snapshot: Snapshot, path: str) -> NotFoundError:
    known = [str(name) for names, _ in iter_range(snapshot.tree) for name in names]
    hint = did_you_mean(near_names(path, known)) or "`stock ls` lists what there is"
    return NotFoundError(f"{path!r} matches nothing that is staged or committed; {hint}")
