"""Content being changed: a root, like a commit's, and the edits not yet applied to it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

import numpy as np

from stockroom.content.column import ColumnRecord, check_schema
from stockroom.content.column_edit import ColumnEdit
from stockroom.content.merge.conflict import Arbiter, Conflict, Decide, decide_nothing
from stockroom.content.merge.reads import Reads
from stockroom.content.snapshot import DATA, METRIC, Snapshot
from stockroom.content.state import StateRecord, ValueRecord
from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import ClosedError, InvalidInputError
from stockroom.fork_locks import make_fork_lock
from stockroom.locks import FileLock
from stockroom.refs import ObjectStore, RefChange, Stage
from stockroom.refs.commit import MetadataValue
from stockroom.refs.names import FoldedNames
from stockroom.refs.stage import SESSION_STAGES
from stockroom.repository.claim import Claim
from stockroom.repository.head import Head
from stockroom.repository.paths import Identity
from stockroom.repository.repository import Repository
from stockroom.repository.writing.series_log import SeriesLog
from stockroom.repository.writing.staged_root import StagedRoot
from stockroom.trees import NodeCache, Tree

if TYPE_CHECKING:
    from stockroom.content.merge.unfinished import Merging
    from stockroom.store.tensor_writer import TensorWriter

ATTEMPTS: Final = 1000
"""How often a commit is tried again because the branch's tip moved."""
_TURN_TIMEOUT_S: Final = 2.0
_PAUSE_S: Final = 0.0005

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W", bound="Workspace")


def one_at_a_time(method: Callable[Concatenate[W, P], T]) -> Callable[Concatenate[W, P], T]:
    """Return `method` limited to one thread at a time."""

    @wraps(method)
    def run(self: W, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.lock:
            return method(self, *args, **kwargs)

    return run


class Workspace(ABC):
    """A writer's changes on top of `base`, the content of the commit in `head`.

    Threads may share it: each of its methods, and any other change to the stage, waits for its `lock`.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.lock = make_fork_lock()
        self._claim = Claim(repository.paths.folder, repository.marks)
        repository.avoid_marked(self._claim)
        self.objects = ObjectStore(repository.env)
        self.nodes = NodeCache(self.objects, sharing=repository.nodes)
        self._edits: dict[str, ColumnEdit] = {}
        self._columns: FoldedNames | None = None
        self._series = SeriesLog()
        self.reads = Reads()

    def start_from(self, commit: CommitId | None, root: ObjectDigest | None = None) -> None:
        """Continue from the content of a commit, with `root` staged on top of it."""
        self.base = self.repository.open_snapshot(commit, self.nodes)
        self._staged = self.base if root is None else Snapshot(self.nodes, root)
        self._columns = None
        self._start, self._start_base = self._staged.root, self.base

    def _forget_edits(self) -> None:
        """Drop open columns and logged points, as the content below them has been replaced."""
        self._edits = {}
        self._columns = None
        self._series = SeriesLog()
        self.reads = Reads()

    def _start_unit(self) -> None:
        """Take everything so far as committed."""
        self.reads = Reads()
        self._series.start_unit()
        for edit in self._edits.values():
            edit.appended = range(0)

    head: Head
    """The branch that a commit moves, and the commit that the content is on top of."""

    merging: Merging | None = None
    """The unfinished merge; a `SessionWorkspace` has none."""

    drops: int = 0
    """How often the stage has been dropped, with its objects and chunks."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether this process may still write here."""

    @abstractmethod
    def commit(
        self,
        message: str,
        metadata: Mapping[str, MetadataValue],
        author: Identity | None = None,
        *,
        allow_empty: bool = False,
    ) -> CommitId:
        """Commit the stage. Raises `NothingToCommitError` if the branch has the same content, unless `allow_empty`."""

    @abstractmethod
    def finish(self, message: str) -> None:
        """Commit the changes of this workspace, if any."""

    @abstractmethod
    def keep(self) -> str:
        """Make the stage durable although it could not be committed; return where, in words."""

    @abstractmethod
    def reset(self, *, undoable: bool = True) -> None:
        """Drop everything staged; `undo` brings back what a stage with an operation log held, if `undoable`."""

    @abstractmethod
    def rollback(self) -> None:
        """Return to the stage as it was when the workspace was opened or last committed."""

    @abstractmethod
    def close(self) -> None:
        """Stop writing. Unflushed changes are lost."""

    @property
    def _staged(self) -> Snapshot:
        """The staged content without open edits."""
        return self._records.apply()

    @_staged.setter
    def _staged(self, content: Snapshot) -> None:
        self._records = StagedRoot(content)

    @abstractmethod
    def _write_stage(self) -> None:
        """Write the stage to the refs, if this workspace has one there."""

    @one_at_a_time
    def flush(self) -> None:
        """Write out the staged changes. A stage with a place in the refs then outlives this process."""
        self.check_open()
        self._stage_edits()
        self._flush_tensors()
        self._write_stage()
        self.repository.join_packs()

    @cached_property
    def tensors(self) -> TensorWriter:
        """The writer of chunks; opened on first use, since many changes put none."""
        return self.repository.open_writer()

    def check_open(self) -> None:
        """Raise `ClosedError` if closed, or in a forked process, which must not use the writer's files and threads."""
        if not self.is_open:
            raise ClosedError("this writer belongs to another process or is closed; open the repository again to write")

    @property
    @one_at_a_time
    def snapshot(self) -> Snapshot:
        """The staged content with all edits applied."""
        self._stage_edits()
        return self._staged

    @one_at_a_time
    def iter_names(self, shelf: str) -> list[str]:
        """Return the current names on a shelf, in order."""
        return list(self.snapshot.iter_names(shelf))

    @one_at_a_time
    def count_names(self, shelf: str) -> int:
        """Return the current number of names on a shelf."""
        if shelf in (DATA, METRIC):
            self._stage_edits()
        return self._records.count_names(shelf)

    @one_at_a_time
    def has_path(self, path: str) -> bool:
        """Return whether there is a record at a path now."""
        if path.startswith(f"{METRIC}/"):
            self._series.work_in(self)
        return path in self._edits or self._records.find_digest(path) is not None

    @one_at_a_time
    def find_colliding(self, name: str) -> str | None:
        """Return another column whose name differs from `name` only in case or in Unicode's composition, or None."""
        if self._columns is None:  # else a thousand new columns would read the names of all a thousand times
            self._columns = FoldedNames(self.snapshot.iter_names(DATA))
        return self._columns.find_colliding(name)

    @one_at_a_time
    def find_column(self, path: str) -> ColumnEdit | None:
        """Return the column or series at a path, for reading and writing, or None."""
        edit = self._edits.get(path)
        if edit is None:
            digest = self._records.find_digest(path)
            if digest is None:
                return None
            record = self.base.read_column(digest)
            edit = self._edits[path] = ColumnEdit(self.nodes, record, staged=record)
        return edit

    @one_at_a_time
    def create_column(self, path: str, record: ColumnRecord) -> ColumnEdit:
        """Create an empty column with the schema in `record`, at an unused path."""
        check_schema(record)
        empty = Tree.empty(self.nodes, record.tree_format)
        edit = self._edits[path] = ColumnEdit(self.nodes, record.replace_root(empty.root))
        self._note_column(path, is_there=True)
        return edit

    @one_at_a_time
    def find_state(self, path: str) -> StateRecord | ValueRecord | None:
        """Return the record of the state at a path, or None."""
        digest = self._records.find_digest(path)
        return None if digest is None else self.base.read_state(digest)

    @one_at_a_time
    def note_read(self, path: str) -> None:
        """Note that the record at a path is read, to tell later whether others changed it before it was written."""
        if path not in self.reads.paths:
            self.reads.paths[path] = self._records.find_digest(path)

    @one_at_a_time
    def put_states(self, records: Mapping[str, StateRecord | ValueRecord]) -> None:
        """Set the records at these paths, or none of them if one does not fit its format."""
        encoded = {path: record.encode() for path, record in records.items()}
        self._records.change({path: self.objects.put_object(data) for path, data in encoded.items()})

    @one_at_a_time
    def delete(self, *paths: str) -> bool:
        """Delete paths; return whether any existed."""
        self._series.work_in(self)
        known = [path for path in paths if self._records.find_digest(path) is not None]
        exists = bool(known) or any(path in self._edits for path in paths)
        for path in paths:
            self._series.forget(path.removeprefix(f"{METRIC}/"))
            self._edits.pop(path, None)
            self._note_column(path, is_there=False)
        self._records.change({}, known)
        return exists

    @one_at_a_time
    def log(self, values: Mapping[str, object], step: int | None) -> int:
        """Add one point to each of some series, and return their step."""
        return self._series.log(self, values, step)

    @property
    def is_flushed(self) -> bool:
        """Whether the store can find all chunks put in this workspace."""
        writer = self.__dict__.get("tensors")
        return writer is None or writer.is_flushed

    @one_at_a_time
    def read_unflushed_chunk(self, digest: bytes) -> bytes | None:
        """Return the bytes of a chunk put in this workspace, if the store cannot find it yet."""
        writer: TensorWriter | None = self.__dict__.get("tensors")
        if writer is None:
            return None
        if self.is_open:
            return writer.read(digest)
        if not self.repository.tensors.contains(np.frombuffer(digest, np.uint8).reshape(1, -1))[0]:
            raise ClosedError("this sample was unflushed when its writer was forked; flush or commit before you fork")
        return None

    @one_at_a_time
    def wait_for_writes(self) -> None:
        """Wait until arrays given to the tensor writer have been written out of the caller's memory."""
        writer = self.__dict__.get("tensors")
        if writer is not None:
            writer.wait()

    def _stage_edits(self) -> None:
        """Apply all open columns and logged points to the staged root."""
        self._series.work_in(self)
        puts: dict[str, ObjectDigest] = {}
        changed = []
        for path, edit in self._edits.items():
            edit.record = edit.finish()
            if edit.is_changed:
                changed.append(edit)
                puts[path] = self.objects.put_object(edit.record.encode())
        self._records.change(puts)
        for edit in changed:  # last: an interrupt before this makes the next call repeat it all
            edit.staged = edit.record

    def _note_column(self, path: str, *, is_there: bool) -> None:
        name = path.removeprefix(f"{DATA}/")
        if self._columns is not None and name != path:
            (self._columns.add if is_there else self._columns.discard)(name)

    @one_at_a_time
    def stage_content(self, content: Snapshot) -> None:
        """Replace the staged content."""
        if content.root != self._staged.root:
            self._staged = content
            self._forget_edits()

    def _merge_onto(self, tip: Snapshot, decide: Decide = decide_nothing) -> tuple[Snapshot, list[Conflict]]:
        """Return the stage on top of the commits of others, and the conflicts that prevent it."""
        from stockroom.content.merge.appends import move_appends  # here for start-up time
        from stockroom.content.merge.content import ContentMerge
        from stockroom.content.merge.lost_updates import iter_lost_updates

        appends = {path: edit.appended for path, edit in self._edits.items() if edit.appended}
        series, steps = self._series.list_appended()
        appends |= {f"{METRIC}/{name}": steps for name in series}
        ours = move_appends(self.base, self._staged, tip, self.objects, appends)
        arbiter = Arbiter(decide)
        restarted = [f"{METRIC}/{name}" for name in self._series.restarted]
        for conflict in iter_lost_updates(self.base, ours, tip, self.reads, restarted):
            arbiter.choose(conflict)
        merged = ContentMerge(self.base, ours, tip, self.objects, decide).run()
        return merged.snapshot, [*merged.conflicts, *arbiter.conflicts]

    def _flush_tensors(self) -> None:
        writer = self.__dict__.get("tensors")
        if writer is not None:
            writer.flush()

    def _keep_as_session(self, name: str) -> str:
        """Store the staged changes as the stage of a named session; return how to go on, in words."""
        self._stage_edits()
        self._flush_tensors()
        stage = Stage(base=self.head.commit, root=self._staged.root)
        change = RefChange(kind="stage", stages={f"{SESSION_STAGES}{name}": stage})
        self.repository.refs.apply(change, objects=self.objects)
        branch = self.head.branch
        return (
            f"in the session {name!r}: go on with stock.session(branch={branch!r}, name={name!r}), which takes a "
            "strategy and can `resolve`, or `reset` it there"
        )

    @contextmanager
    def _take_turn(self) -> Iterator[None]:
        """Take turns with other commits, so that none merges in vain; compare-and-swap decides, so a wait may end."""
        with FileLock(self.repository.paths.commit_lock) as lock:
            lock.wait(_TURN_TIMEOUT_S, pause_s=_PAUSE_S)
            yield

    def _renew_claim(self) -> None:
        """Renew the claim after a commit, when nothing else is relied on; gc may then delete newly marked things."""
        if self._claim.renew():
            self.repository.avoid_marked(self._claim)
            if "tensors" in self.__dict__:
                self.repository.open_writer()  # the same one, which then avoids newly marked packs

    def _abort_tensors(self) -> None:
        """Abort the tensor writer, with all it has not sealed, and release the claim."""
        writer = self.__dict__.pop("tensors", None)
        try:
            if writer is not None:
                writer.abort()
        finally:
            self._claim.release()

    def _drop_edits(self) -> None:
        self.drops += 1
        self._forget_edits()
        self.objects.discard_unflushed()
        Snapshot.empty(self.nodes)  # puts the empty root again, which the base may need and which was just discarded
        writer = self.__dict__.get("tensors")
        if writer is not None:
            writer.abort()


def make_session_name() -> str:
    """Return a new name for the session in which changes are kept that could not be committed."""
    return f"kept-{os.urandom(4).hex()}"


def check_message(message: object, metadata: Mapping[str, object]) -> None:
    """Raise `InvalidInputError` unless these can be a commit's message and metadata."""
    if not isinstance(message, str):
        raise InvalidInputError(f"expected a commit message, found {message!r}")
    for key, value in metadata.items():
        if not isinstance(value, MetadataValue):
            raise InvalidInputError(
                f"commit metadata {key!r}: expected str, int, float, bool or None, found {type(value).__name__}"
            )
