"""Checks that what a repository says is what it holds: digests of packs and objects, trees, refs.

Reads only. Each finding names what is damaged and what to do; healthy parts are untouched by damage elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import CorruptionError, StockroomError
from stockroom.refs import Stage
from stockroom.repository.column import ColumnRecord
from stockroom.repository.merging import read_merging
from stockroom.repository.repository import Repository
from stockroom.repository.snapshot import Snapshot
from stockroom.repository.state import STATE_ENTRIES, StateRecord, ValueRecord
from stockroom.repository.structure import iter_stored, measure_leaf
from stockroom.store.chunking import decode_chunk_list
from stockroom.store.entry import EntryKind
from stockroom.store.verify import Damage, iter_pack_damage, list_pack_directories
from stockroom.trees import iter_range
from stockroom.trees.check import check_tree


@dataclass(slots=True)
class VerifyReport:
    """What was looked at, and what was found wrong."""

    packs: int = 0
    commits: int = 0
    objects: int = 0
    chunks: int = 0
    damage: list[Damage] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.damage


def verify_repository(
    repository: Repository, *, sample: float | None = None, on_progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Verify packs (a fraction `sample` of them, or all), objects, and everything that refs and the stage reach."""
    report = VerifyReport()
    _verify_packs(repository, report, sample, on_progress)
    _verify_objects(repository, report)
    _Connectivity(repository, report).run()
    return report


def _verify_packs(
    repository: Repository,
    report: VerifyReport,
    sample: float | None,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    directories = list_pack_directories(repository.tensors.packs_directory)
    if sample is not None:
        directories = directories[:: max(1, round(1 / sample))]
    on_disk = {directory.name for directory in directories}
    for done, directory in enumerate(directories, 1):
        report.packs += 1
        report.damage += iter_pack_damage(directory)
        if on_progress is not None:
            on_progress(done, len(directories))
    for digest in repository.tensors.catalog.read_packs().values():
        name = digest.hex()
        if sample is None and name not in on_disk:
            report.damage.append(
                Damage(f"pack {name}", "is in the catalog but not on disk", "restore it from a backup")
            )


def _verify_objects(repository: Repository, report: VerifyReport) -> None:
    for digest in repository.objects.iter_digests():
        report.objects += 1
        try:
            repository.objects.verify_object(digest)
        except CorruptionError as error:
            report.damage.append(_describe(f"object {digest.hex()}", error))


class _Connectivity:
    """Follows refs and the stage down to chunks; each root and record is looked at once."""

    def __init__(self, repository: Repository, report: VerifyReport) -> None:
        self._repository = repository
        self._report = report
        self._seen: set[bytes] = set()

    def run(self) -> None:
        self._guard("branches", self._check_branches)
        self._guard("tags", self._check_tags)
        self._guard("HEAD", self._check_head)
        self._guard("stage", self._check_stages)

    def _check_branches(self) -> None:
        for name, commit in self._repository.refs.branches().items():
            self._guard(f"branch {name}", lambda commit=commit: self._walk_history(commit))  # type: ignore[misc]

    def _check_tags(self) -> None:
        for name, commit in self._repository.refs.tags().items():
            self._guard(f"tag {name}", lambda commit=commit: self._walk_history(commit))  # type: ignore[misc]

    def _check_head(self) -> None:
        commit = self._repository.read_head().commit
        if commit is not None:
            self._walk_history(commit)

    def _check_stages(self) -> None:
        for name, stage in self._repository.refs.stages().items():
            self._guard(f"stage {name}", lambda stage=stage: self._check_stage(stage))  # type: ignore[misc]

    def _check_stage(self, stage: Stage) -> None:
        self._check_root(stage.root)
        if stage.merging is not None:
            self._check_root(ObjectDigest(read_merging(self._repository.objects, stage.merging).theirs))

    def _walk_history(self, start: CommitId) -> None:
        self._repository.read_commit(start)  # if it is not there, the ref is what is wrong
        waiting = [start]
        while waiting:
            commit = waiting.pop()
            if commit not in self._seen:
                self._seen.add(commit)
                self._guard(f"commit {commit.hex()}", lambda c=commit: waiting.extend(self._check_commit(c)))  # type: ignore[misc]

    def _check_commit(self, commit: CommitId) -> tuple[CommitId, ...]:
        """The parents of a commit whose content was looked at."""
        record = self._repository.refs.get_commit(commit)
        self._report.commits += 1
        self._guard(f"commit {commit.hex()}", lambda: self._repository.refs.check_link(commit))
        self._guard(f"content of commit {commit.hex()}", lambda: self._check_root(record.tree_digest))
        return () if commit in self._repository.refs.shallow() else record.parent_ids

    def _check_root(self, root: ObjectDigest) -> None:
        if root in self._seen:
            return
        self._seen.add(root)
        snapshot = Snapshot(self._repository.nodes, root)
        for _ in check_tree(snapshot.tree, self._seen):
            pass
        for paths, digests in iter_range(snapshot.tree):
            for path, digest in zip(paths, digests, strict=True):
                record_digest = ObjectDigest(digest.tobytes())
                if record_digest not in self._seen:
                    self._seen.add(record_digest)
                    self._guard(str(path), lambda d=record_digest: self._check_record(snapshot, d))  # type: ignore[misc]

    def _check_record(self, snapshot: Snapshot, digest: ObjectDigest) -> None:
        record = snapshot.read_record(digest)
        if isinstance(record, ValueRecord):
            return
        tree = snapshot.open_tree(record)
        for values in check_tree(tree, self._seen):
            self._check_values(record, values)
        if isinstance(record, StateRecord):
            self._check_leaves(snapshot, record)

    def _check_leaves(self, snapshot: Snapshot, record: StateRecord) -> None:
        """Whether a state's structure and its tree tell of the same leaves."""
        where = f"structure {record.structure.hex()[:16]}"
        expected = {path: measure_leaf(leaf) for path, leaf in iter_stored(snapshot.read_structure(record).top)}
        for paths, values in iter_range(snapshot.open_tree(record)):
            for path, value in zip(paths, values, strict=True):
                nbytes = STATE_ENTRIES.decode(value.tobytes()).nbytes
                if path not in expected or expected.pop(path) not in (None, nbytes):
                    raise CorruptionError(f"{where}: leaf {path!r} of {nbytes} bytes does not fit it")
        if expected:
            raise CorruptionError(f"{where}: leaf {next(iter(expected))!r} is nowhere")

    def _check_values(self, record: ColumnRecord | StateRecord, values: NDArray[np.uint8]) -> None:
        entry_format = record.entry_format
        kinds = entry_format.decode_kinds(values)
        chunks = values[kinds == EntryKind.CHUNK]
        if len(chunks):
            self._report.chunks += len(chunks)
            self._repository.tensors.locate(entry_format.slice_digests(chunks), entry_format.measure(chunks))
        for value in values[kinds == EntryKind.CHUNK_LIST]:
            entry = entry_format.decode(value.tobytes())
            chunk_list = decode_chunk_list(
                self._repository.objects.get_object(ObjectDigest(entry.payload)), where=entry.payload.hex()
            )
            self._report.chunks += len(chunk_list.digests)
            self._repository.tensors.locate(chunk_list.digests)

    def _guard(self, where: str, check: Callable[[], None]) -> None:
        try:
            check()
        except StockroomError as error:
            self._report.damage.append(_describe(where, error))


def _describe(where: str, error: StockroomError) -> Damage:
    return Damage(where, str(error), "restore it from a clone or a backup")
