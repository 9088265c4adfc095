"""Shelf, stage, commits, branches and undo driven at random, beside a model made of plain dicts."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stockroom import (
    ColumnNotFoundError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    NothingToCommitError,
    SampleNotFoundError,
    SchemaError,
    StockRoom,
)

NAMES = ["a", "b/c", "d"]
BRANCHES = ["main", "dev", "dev/2"]

KINDS = {  # what a column is made with, and its sample number n
    "label": ({"dtype": "int64"}, lambda n: np.int64(n).reshape(())),
    "vector": ({"dtype": "float32", "shape": (20,)}, lambda n: np.full(20, n, np.float32)),
    "scan": ({"dtype": "uint16", "shape": (None, 3)}, lambda n: np.full((n * 7 + 1, 3), n, np.uint16)),
    "text": ({"dtype": "str", "keys": "str"}, lambda n: f"number {n} " * (n * 9)),
    "named": ({"dtype": "complex64", "shape": (2, 5), "keys": "str"}, lambda n: np.full((2, 5), n + 1j, np.complex64)),
}
STR_KINDS = ("text", "named")

names = st.sampled_from(NAMES)
branches = st.sampled_from(BRANCHES)
kinds = st.sampled_from(sorted(KINDS))
numbers = st.integers(0, 6)
key_numbers = st.integers(-3, 12)


def make_key(kind, number):
    return f"k/{number} " if kind in STR_KINDS else number * 1_000_000_007


def make_sample(kind, number):
    return KINDS[kind][1](number)


def same(found, expected):
    if isinstance(expected, str):
        return found == expected
    return found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()


class ShelfMachine(RuleBasedStateMachine):
    """Content is `{column: (kind, {key: number})}`."""

    def __init__(self):
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        StockRoom.init(self.path).close()
        self.stock = StockRoom(self.path, enable_write=True)
        self.content = {}
        self.commits = {None: {}}
        self.parents = {}
        self.refs = {}
        self.branch, self.commit_id = "main", None
        self.operations = []  # [branch, old, new, whether a commit], those not undone
        self.steps = 0

    def teardown(self):
        self.stock.close()
        shutil.rmtree(self.path)

    @property
    def is_clean(self):
        return self.content == self.commits[self.commit_id]

    # -- the shelf

    @rule(name=names, kind=kinds)
    def create(self, name, kind):
        if name in self.content:
            with pytest.raises(InvalidInputError):
                self.stock.data.create(name, **KINDS[kind][0])
            return
        self.stock.data.create(name, **KINDS[kind][0])
        self.content[name] = (kind, {})

    @rule(name=names, key=key_numbers, number=numbers)
    def put(self, name, key, number):
        kind, samples = self.content.setdefault(name, ("label", {}))  # the first sample makes the column
        self.stock.data[name, make_key(kind, key)] = make_sample(kind, number)
        samples[make_key(kind, key)] = number

    @precondition(lambda self: self.content)
    @rule(data=st.data(), pairs=st.lists(st.tuples(key_numbers, numbers), max_size=20), is_bad=st.booleans())
    def update(self, data, pairs, is_bad):
        name = data.draw(st.sampled_from(sorted(self.content)))
        kind, samples = self.content[name]
        values = [(make_key(kind, key), make_sample(kind, number)) for key, number in pairs]
        if is_bad:
            with pytest.raises(SchemaError):
                self.stock.data[name].update([*values, (make_key(kind, 1), object())])
            return
        self.stock.data[name].update(iter(values))
        samples.update({make_key(kind, key): number for key, number in pairs})

    @precondition(lambda self: any(kind not in STR_KINDS for kind, _ in self.content.values()))
    @rule(data=st.data(), values=st.lists(numbers, max_size=40), stacked=st.booleans())
    def extend(self, data, values, stacked):
        name = data.draw(st.sampled_from(sorted(n for n, (kind, _) in self.content.items() if kind not in STR_KINDS)))
        kind, samples = self.content[name]
        batch = [make_sample(kind, number) for number in values]
        first = max(samples) + 1 if samples else 0
        given = np.stack(batch) if stacked and batch and kind != "scan" else iter(batch)
        assert self.stock.data[name].extend(given) == range(first, first + len(values))
        samples.update(zip(range(first, first + len(values)), values, strict=True))

    @rule(name=names, kind=kinds, values=st.dictionaries(key_numbers, numbers, max_size=20))
    def assign(self, name, kind, values):
        kind = self.content[name][0] if name in self.content else kind
        samples = {make_key(kind, key): number for key, number in values.items()}
        if name not in self.content:
            self.stock.data.create(name, **KINDS[kind][0])
        self.stock.data[name] = {key: make_sample(kind, number) for key, number in samples.items()}
        self.content[name] = (kind, samples)

    @precondition(lambda self: self.content)
    @rule(data=st.data())
    def assign_to_itself(self, data):
        name = data.draw(st.sampled_from(sorted(self.content)))
        self.stock.data[name] = self.stock.data[name]

    @precondition(lambda self: self.content)
    @rule(data=st.data(), key=key_numbers)
    def delete_sample(self, data, key):
        name = data.draw(st.sampled_from(sorted(self.content)))
        kind, samples = self.content[name]
        if samples and data.draw(st.booleans()):
            del samples[(chosen := data.draw(st.sampled_from(sorted(samples))))]
            del self.stock.data[name][chosen]
        elif make_key(kind, key) not in samples:
            with pytest.raises(SampleNotFoundError):
                del self.stock.data[name][make_key(kind, key)]

    @rule(name=names)
    def delete_column(self, name):
        if self.content.pop(name, None) is None:
            with pytest.raises(ColumnNotFoundError):
                del self.stock.data[name]
        else:
            del self.stock.data[name]

    # -- the stage

    @rule()
    def flush(self):
        self.stock.flush()

    @rule()
    def reset(self):
        self.stock.reset(undoable=False)
        self.content = copy.deepcopy(self.commits[self.commit_id])

    @rule()
    def reopen(self):
        self.stock.close()
        self.stock = StockRoom(self.path, enable_write=True, timeout_s=0)

    @rule()
    def commit(self):
        if self.is_clean or self.branch is None:
            with pytest.raises(NothingToCommitError if self.is_clean else ConflictError):
                self.stock.commit("refused")
            return
        commit_id = self.stock.commit(f"number {len(self.commits)}")
        assert commit_id not in self.commits
        self.commits[commit_id] = copy.deepcopy(self.content)
        self.parents[commit_id] = self.commit_id
        self.operations.append([self.branch, self.commit_id, commit_id, True])
        self.refs[self.branch] = self.commit_id = commit_id

    # -- branches

    @rule(name=branches)
    def checkout(self, name):
        if name in self.refs and not self.is_clean and self.refs[name] != self.commit_id:
            with pytest.raises(ConflictError):
                self.stock.checkout(name)
        elif name in self.refs:  # what is staged goes along to a branch at the same commit
            self.stock.checkout(name)
            if self.refs[name] != self.commit_id:
                self._stand(name, self.refs[name])
            self.branch = name
        elif name != self.branch:
            with pytest.raises(NotFoundError):
                self.stock.checkout(name)

    @precondition(lambda self: self.is_clean and len(self.commits) > 1)
    @rule(data=st.data())
    def checkout_commit(self, data):
        commit_id = data.draw(st.sampled_from([commit for commit in self.commits if commit]))
        self.stock.checkout(commit_id)
        self._stand(None, commit_id)

    @precondition(lambda self: self.is_clean)
    @rule(name=branches)
    def checkout_new(self, name):
        if name in self.refs or name == self.branch:
            with pytest.raises(InvalidInputError):
                self.stock.checkout(name, create=True)
        else:
            self.stock.checkout(name, create=True)
            if self.commit_id is not None:
                self.refs[name] = self.commit_id
                self.operations.append([name, None, self.commit_id, False])
            self.branch = name

    @rule(name=branches)
    def delete_branch(self, name):
        if name == self.branch or name not in self.refs:
            with pytest.raises((ConflictError, NotFoundError)):
                self.stock.delete_branch(name, force=True)
        else:
            self.stock.delete_branch(name, force=True)
            self.operations.append([name, self.refs.pop(name), None, False])

    @rule()
    def undo(self):
        if not self.operations:
            with pytest.raises(NotFoundError):
                self.stock.undo()
            return
        name, old, new, is_commit = self.operations[-1]
        moves_head = name == self.branch and new is not None and new == self.commit_id
        if moves_head and (not self.is_clean or (old is None and not is_commit)):
            with pytest.raises(ConflictError):
                self.stock.undo()
            return
        self.stock.undo()
        self.operations.pop()
        if old is None:
            del self.refs[name]
        else:
            self.refs[name] = old
        if moves_head:
            self._stand(name, old)

    def _stand(self, branch, commit_id):
        self.branch, self.commit_id = branch, commit_id
        self.content = copy.deepcopy(self.commits[commit_id])

    # -- what must hold

    @invariant()
    def the_handle_shows_the_models_head_and_columns(self):
        assert (self.stock.branch, self.stock.commit_id) == (self.branch, self.commit_id)
        assert dict(self.stock.branches) == self.refs
        assert list(self.stock.data) == sorted(self.content)
        assert self.stock.status().clean == self.is_clean

    @invariant()
    def one_column_after_the_other_holds_what_the_model_holds(self):
        self.steps += 1
        if self.content:
            name = sorted(self.content)[self.steps % len(self.content)]
            check_column(self.stock.data[name], *self.content[name])

    @rule(data=st.data())
    def any_commit_reads_as_it_was(self, data):
        commit_id = data.draw(st.sampled_from(list(self.commits)))
        if commit_id is None:
            return
        with StockRoom(self.path, ref=commit_id) as reader:
            assert list(reader.data) == sorted(self.commits[commit_id])
            for name, (kind, samples) in self.commits[commit_id].items():
                check_column(reader.data[name], kind, samples)
            history = [commit.id for commit in reader.log()]
        expected = []
        while commit_id is not None:
            expected.append(commit_id)
            commit_id = self.parents[commit_id]
        assert history == expected

    @precondition(lambda self: len(self.commits) > 1)
    @rule(data=st.data())
    def a_difference_is_what_the_model_says(self, data):
        ids = [commit for commit in self.commits if commit]
        one, other = data.draw(st.sampled_from(ids)), data.draw(st.sampled_from([*ids, None]))
        diff = self.stock.diff(one, other)
        old, new = self.commits[one], self.content if other is None else self.commits[other]
        changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
        assert set(diff) == {f"data/{name}" for name in changed}
        for name in changed:
            check_difference(diff[f"data/{name}"], old.get(name), new.get(name))

    @rule()
    def nothing_is_damaged(self):
        assert self.stock.verify().damage == []


def check_column(column, kind, samples):
    assert list(column) == sorted(samples)
    assert len(column) == len(samples)
    for key, number in samples.items():
        assert same(column[key], make_sample(kind, number))
    together = column[:]
    assert len(together) == len(samples)
    for sample, key in zip(together, sorted(samples), strict=True):
        assert same(np.asarray(sample) if kind != "text" else sample, make_sample(kind, samples[key]))


def check_difference(found, old, new):
    before, after = old[1] if old else {}, new[1] if new else {}
    if old and new and old[0] != new[0]:  # another schema: nothing can be compared
        assert found.kind == "schema"
        assert (sorted(found.removed), sorted(found.added)) == (sorted(before), sorted(after))
        return
    assert list(found.added) == sorted(after.keys() - before.keys())
    assert list(found.removed) == sorted(before.keys() - after.keys())
    assert list(found.changed) == sorted(key for key in before.keys() & after.keys() if before[key] != after[key])
    counts = found.counts
    assert (counts.added, counts.removed, counts.changed) == (
        len(list(found.added)),
        len(list(found.removed)),
        len(list(found.changed)),
    )


TestShelfMachine = ShelfMachine.TestCase
TestShelfMachine.settings = settings(
    max_examples=int(os.environ.get("STOCKROOM_MACHINE_EXAMPLES", "40")),
    stateful_step_count=int(os.environ.get("STOCKROOM_MACHINE_STEPS", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
