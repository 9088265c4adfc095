"""A refs environment, and short ways to make history in it."""

from __future__ import annotations

import msgspec
import pytest

from stockroom.kv import Environment
from stockroom.refs import DATABASES, CommitRecord, ObjectStore, RefChange, RefStore
from stockroom.refs.changes import add_commit


class History:
    """A ref store and its object store, with commits by short names."""

    def __init__(self, env: Environment) -> None:
        self.env = env
        self.refs = RefStore(env)
        self.objects = ObjectStore(env)
        self.ids: dict[str, bytes] = {}
        self.tree = self.objects.put_object(b"a tree")
        self.objects.flush()

    def record(self, name, parents=(), *, time_ns=None, **fields):
        values = {
            "tree": self.tree,
            "parents": tuple(self.ids[parent] for parent in parents),
            "author": "Ann",
            "email": "ann@example.org",
            "time_ns": len(self.ids) if time_ns is None else time_ns,
            "offset_minutes": 0,
            "message": name,
            "metadata": {},
        }
        return CommitRecord(**(values | fields))

    def add(self, name, parents=(), **fields):
        """A commit that no ref leads to."""
        record = self.record(name, parents, **fields)
        self.refs.apply(RefChange(kind="test", commits=(record,)))
        self.ids[name] = record.commit_id
        return record.commit_id

    def add_all(self, parents_of, times=None):
        """Commits by name, each with the names of its parents."""
        for name, parents in parents_of.items():
            self.add(name, parents, time_ns=None if times is None else times[name])

    def commit(self, name, branch="main", **fields):
        """A commit on a branch, after what is there."""
        old = self.refs.find_branch(branch)
        record = self.record(name, **fields)
        if old is not None:
            record = msgspec.structs.replace(record, parents=(old,))
        self.refs.apply(add_commit(record, branch=branch, old=old))
        self.ids[name] = record.commit_id
        return record.commit_id


@pytest.fixture
def history(tmp_path):
    with Environment.open(tmp_path / "refs", databases=DATABASES, metasync=False) as env:
        yield History(env)
