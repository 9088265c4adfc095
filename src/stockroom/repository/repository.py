"""An open repository: its names and history, its tensors, its HEAD. Pinned to nothing."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from stockroom.digest import CommitId
from stockroom.errors import RefNotFoundError
from stockroom.kv import Environment
from stockroom.refs import DATABASES, ObjectStore, RefStore, resolve
from stockroom.refs.commit import CommitRecord
from stockroom.repository.head import Head
from stockroom.repository.paths import RepositoryPaths, find_repository, open_paths
from stockroom.repository.snapshot import Snapshot
from stockroom.store import TensorStore
from stockroom.trees import NodeCache


class Repository:
    """Opening reads a few small files, contacts nobody and executes nothing."""

    def __init__(self, paths: RepositoryPaths) -> None:
        self.paths = paths
        self.env = Environment.open(paths.refs, databases=DATABASES)
        self.refs = RefStore(self.env)
        self.objects = ObjectStore(self.env)
        self.nodes = NodeCache(self.objects)

    @classmethod
    def find(cls, path: Path | None) -> Repository:
        """The repository at `path`, or, for None, the one that the working directory lies in."""
        return cls(find_repository(Path.cwd() if path is None else path))

    @classmethod
    def open(cls, root: Path) -> Repository:
        """The repository whose work tree is exactly `root`."""
        return cls(open_paths(root))

    @cached_property
    def tensors(self) -> TensorStore:
        """The chunks; opened on first use, since history needs none of them."""
        return TensorStore(self.paths.state)

    def close(self) -> None:
        """Let go of every file."""
        tensors = self.__dict__.pop("tensors", None)
        if tensors is not None:
            tensors.close()
        self.env.close()

    def read_head(self) -> Head:
        """What is checked out, finishing a move of HEAD that a killed process left half done."""
        return self.paths.head.read(self._took_effect)

    def resolve(self, spec: str, head: Head | None = None) -> CommitId:
        """The commit that `spec` names, as git would read it; `RefNotFoundError`, `AmbiguousRefError`."""
        at = self.read_head() if head is None else head
        return resolve(self.refs, spec, head=at.commit)

    def read_commit(self, commit: CommitId) -> CommitRecord:
        """The record of a commit; `RefNotFoundError` if this repository does not have it."""
        if not self.refs.has_commit(commit):
            raise RefNotFoundError(f"commit {commit.hex()} is not in this repository", ref=commit.hex())
        return self.refs.get_commit(commit)

    def open_snapshot(self, commit: CommitId | None, nodes: NodeCache | None = None) -> Snapshot:
        """The content at a commit, or nothing at all for None; read through `nodes` if given."""
        through = self.nodes if nodes is None else nodes
        if commit is None:
            return Snapshot.empty(through)
        return Snapshot(through, self.read_commit(commit).tree_digest)

    def _took_effect(self, pending: Head, head: Head) -> bool:
        """Whether the refs moved from `head` to `pending` before whoever moved them died."""
        if pending.branch is None or pending.branch != head.branch or pending.commit is None:
            return False
        if self.refs.find_ref(f"branch/{pending.branch}") != pending.commit:
            return False
        parents = self.refs.get_commit(pending.commit).parent_ids
        return head.commit in parents if head.commit is not None else not parents
