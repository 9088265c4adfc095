"""Two clones and a remote driven at random, beside plain dictionaries: nothing lost, nothing changed, nothing invented.

Columns, iterators and data sets that stay open, models, values, metrics, stages, write blocks, sessions, branches,
merges, undo, push, fetch, pull, drop, lazy reads, gc and repair. The model says of every commit what it holds.

`STOCKROOM_ORACLE_EXAMPLES` sets how many runs (12), `STOCKROOM_ORACLE_STEPS` how long each is (40).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from tests.kit.oracle import COLUMNS, CannotTellError, Content, is_sample, make_key, make_sample, make_state, merge

from stockroom import (
    ConflictError,
    MergeConflictError,
    NothingToCommitError,
    RefChangedError,
    SampleNotFoundError,
    StockRoom,
    StockroomError,
    make_torch_dataset,
)
from stockroom.repository.writing import workspace

BRANCHES = ["main", "dev"]

clones = st.integers(0, 1)
columns = st.sampled_from(sorted(COLUMNS))
key_numbers = st.integers(0, 9)
numbers = st.integers(0, 12)
one_change = st.one_of(
    st.tuples(st.just("put"), columns, key_numbers, numbers),
    st.tuples(st.just("put"), columns, key_numbers, numbers),
    st.tuples(st.just("delete"), columns, key_numbers, st.none()),
    st.tuples(st.just("update"), columns, key_numbers, numbers),
    st.tuples(st.just("model"), st.sampled_from(["net", "gan/d"]), st.none(), numbers),
    st.tuples(st.just("value"), st.sampled_from(["lr", "seed"]), st.none(), numbers),
    st.tuples(st.just("log"), st.just("loss"), st.none() | st.integers(0, 30), numbers),
)
some_changes = st.lists(one_change, min_size=1, max_size=5)


def apply(handle: Any, content: Content, changes: list[tuple[str, str, Any, Any]], *, metric: str) -> None:
    """Make the changes through a handle that writes, and in the dictionaries."""
    for kind, name, key, number in changes:
        if kind in ("put", "update", "delete"):
            change_column(handle, content, kind, name, key, number)
        elif kind == "model":
            handle.model[name] = make_state(number)
            content.models[name] = number
        elif kind == "value":
            handle.experiment[name] = number
            content.values[name] = number
        else:
            steps = [step for points in content.metrics.values() for step in points]
            if key is not None and metric in content.metrics:
                key += min(content.metrics[metric]) + 1  # a writer that logs the first step again begins another run
            expected = key if key is not None else max(steps, default=-1) + 1
            assert handle.experiment.log({metric: float(number)}, step=key) == expected
            content.metrics.setdefault(metric, {})[expected] = number


def change_column(handle: Any, content: Content, kind: str, name: str, key_number: int, number: int | None) -> None:
    key = make_key(name, key_number)
    if kind == "delete":
        if key in content.columns.get(name, {}):
            del handle.data[name][key]
            del content.columns[name][key]
        elif name in content.columns:
            with pytest.raises(SampleNotFoundError):
                del handle.data[name][key]
        return
    if name not in content.columns:
        handle.data.create(name, **COLUMNS[name][0])
        content.columns[name] = {}
    assert number is not None
    pairs = {make_key(name, (key_number + n) % 10): number + n for n in range(1 if kind == "put" else 4)}
    if kind == "put":
        handle.data[name][key] = make_sample(name, number)
    else:
        handle.data[name].update({one: make_sample(name, each) for one, each in pairs.items()})
    content.columns[name].update(pairs)


@dataclass
class Held:
    """Something taken from a handle and kept: gives the next pair of a column as it was then."""

    take: Callable[[], tuple[Any, Any] | None]
    column: str
    expected: Iterator[tuple[Any, int]]
    may_fail: bool = False


@dataclass
class Clone:
    """What the model knows of one clone."""

    path: Path
    stock: StockRoom
    pinned: str
    head: str
    branch: str = "main"
    refs: dict[str, str] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    writer: StockRoom | None = None
    staged: Content | None = None  # None: nothing is staged
    undoable: tuple[str, str] | Content | None = None
    """The old and new commit of the last operation, if it was a plain commit, or what it dropped from the stage."""
    held: list[Held] = field(default_factory=list)

    def excuse_held(self) -> None:
        """From here on what is held may also answer with an error; never with another pair."""
        for held in self.held:
            held.may_fail = True


class Oracle(RuleBasedStateMachine):
    """The state: commits, and the refs of both clones and of the remote."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="oracle-"))
        self.commits: dict[str, Content] = {}
        self.parents: dict[str, list[str]] = {}
        remote, first = self.folder / "r", self.folder / "a"
        content = Content()
        with StockRoom.init(first) as stock:
            with stock.enable_write("begin"):
                changes = [("update", name, 0, 3) for name in COLUMNS] + [("model", "net", None, 1)]
                apply(stock, content, changes, metric="loss0")
            assert stock.commit_id is not None
            root = stock.commit_id
            stock.add_remote("origin", str(remote))
            stock.push()
        self.commits[root], self.parents[root] = content, []
        self.remote = {"main": root}
        StockRoom.clone(str(remote), self.folder / "b", metadata_only=True).close()
        self.clones = [self._open(self.folder / name, root) for name in "ab"]

    def _open(self, path: Path, root: str) -> Clone:
        return Clone(path, StockRoom(path), root, root, refs={"main": root}, seen={"main": root})

    def teardown(self) -> None:
        for clone in self.clones:
            if clone.writer is not None:
                clone.writer.close()
            clone.stock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- staged changes

    def _begin(self, clone: Clone) -> StockRoom:
        if clone.writer is None:
            clone.writer = StockRoom(clone.path, enable_write=True)
        return clone.writer

    def _content(self, clone: Clone) -> Content:
        return self.commits[clone.head] if clone.staged is None else clone.staged

    @rule(which=clones, changes=some_changes)
    def stage(self, which, changes):
        clone = self.clones[which]
        writer, content = self._begin(clone), self._content(clone).copy()
        apply(writer, content, changes, metric=f"loss{which}")
        clone.staged = None if content == self.commits[clone.head] else content

    @rule(which=clones, name=columns)
    def double_a_column_while_iterating(self, which, name):
        clone = self.clones[which]
        writer, content = self._begin(clone), self._content(clone).copy()
        samples = content.columns[name]
        column, before = writer.data[name], sorted(samples.items())
        try:
            for (key, sample), (expected, number) in zip(column.items(), before, strict=True):
                assert key == expected
                assert is_sample(name, sample, number)
                other = f"{key}+" if name == "text" else key + 100
                column[other] = sample
                samples[other] = number
        except RuntimeError:
            pass
        clone.staged = None if content == self.commits[clone.head] else content

    @rule(which=clones)
    def close_the_writer(self, which):
        self._close_writer(self.clones[which])

    def _close_writer(self, clone: Clone) -> None:
        if clone.writer is not None:
            clone.excuse_held()
            clone.writer.close()
            clone.writer = None
            clone.stock.refresh()
            clone.pinned = clone.head

    @rule(which=clones)
    def commit(self, which):
        clone = self.clones[which]
        writer = self._begin(clone)
        if clone.staged is None:
            with pytest.raises(NothingToCommitError):
                writer.commit("nothing")
            return
        self._land(clone, clone.staged, lambda: writer.commit(f"number {len(self.commits)}"), writer)

    @rule(which=clones)
    def reset(self, which):
        clone = self.clones[which]
        clone.excuse_held()
        self._begin(clone).reset()
        if clone.staged is not None:
            clone.undoable = None if self._is_behind(clone) else clone.staged
        clone.staged = None

    def _land(self, clone: Clone, content: Content, commit: Callable[[], Any], handle: StockRoom) -> None:
        """Commit on top of the branch, which sessions may have moved on meanwhile."""
        tip = clone.refs[clone.branch]
        try:
            merged = content if tip == clone.head else merge(self.commits[clone.head], content, self.commits[tip])
        except CannotTellError:
            return
        if merged is None:
            with pytest.raises(MergeConflictError):
                commit()
            return
        commit()
        clone.head = tip
        assert handle.commit_id is not None
        self._advance(clone, handle.commit_id, merged)

    def _is_behind(self, clone: Clone) -> bool:
        """Whether sessions have moved the branch on while a writer held HEAD."""
        return clone.head != clone.refs[clone.branch]

    def _advance(self, clone: Clone, commit: str, content: Content, *more_parents: str) -> None:
        """The branch and HEAD are at a new commit."""
        old = clone.head
        self.commits.setdefault(commit, content.copy())
        self.parents.setdefault(commit, [old, *more_parents])
        clone.undoable = None if more_parents else (old, commit)
        clone.head = clone.refs[clone.branch] = commit
        clone.staged = None

    # -- write blocks and sessions

    @precondition(lambda self: any(clone.writer is None for clone in self.clones))
    @rule(data=st.data(), changes=some_changes, fails=st.booleans())
    def write_block(self, data, changes, fails):
        which = data.draw(st.sampled_from([n for n, clone in enumerate(self.clones) if clone.writer is None]))
        clone = self.clones[which]
        if self._is_behind(clone):
            return
        content = self._content(clone).copy()
        clone.excuse_held()
        try:
            with clone.stock.enable_write("block"):
                apply(clone.stock, content, changes, metric=f"loss{which}")
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        else:
            self._follow_block(clone, content)
        clone.pinned = clone.head
        assert clone.stock.commit_id == clone.head

    def _follow_block(self, clone: Clone, content: Content) -> None:
        if clone.staged is not None and content == clone.staged:
            return  # nothing was changed in the block, and what was staged stays staged
        if content != self.commits[clone.head]:
            assert clone.stock.commit_id not in (None, clone.head)
            self._advance(clone, clone.stock.commit_id, content)
        else:
            clone.staged = None

    @rule(which=clones, ours=some_changes, early=st.none() | some_changes, late=st.none() | some_changes)
    def write_block_beside_sessions(self, which, ours, early, late):
        """One session commits during the block, another after the block has looked where its branch is."""
        clone = self.clones[which]
        if clone.writer is not None or clone.staged is not None or self._is_behind(clone):
            return
        tips = [self.commits[clone.head]]
        our = tips[0].copy()
        clone.excuse_held()
        try:
            with (
                at_the_worst_moment(clone.stock, lambda: late and tips.append(self._commit_beside(clone, late))),
                clone.stock.enable_write("block"),
            ):
                apply(clone.stock, our, ours, metric=f"loss{which}")
                if early:
                    tips.append(self._commit_beside(clone, early))
        except MergeConflictError as error:
            if not may_conflict(tips, our):
                raise AssertionError("a conflict where nothing collides") from error
            kept = re.search(r"session '(kept-\w+)'", str(error))
            if kept is None:
                raise
            with StockRoom(clone.path) as stock, stock.session(name=kept[1]) as session:
                assert read_content(session) == our, "not all that was refused is kept"
                session.reset()
            clone.head = clone.refs[clone.branch]
        else:
            self._follow_both(clone, tips, our)
            if our == tips[0]:
                clone.head = clone.refs[clone.branch]
        clone.stock.refresh()
        assert clone.stock.commit_id == clone.head
        assert clone.stock.status().clean, "a write block left something staged that it did not find staged"
        clone.pinned = clone.head

    def _commit_beside(self, clone: Clone, changes: list[Any]) -> Content:
        """Commit in a session of its own; return what the branch holds then."""
        tip = clone.refs[clone.branch]
        content = self.commits[tip].copy()
        with StockRoom(clone.path) as stock, stock.session() as session:
            apply(session, content, changes, metric="loss of a session")
            if content != self.commits[tip]:
                session.commit("session")
                self.commits[session.commit_id], self.parents[session.commit_id] = content.copy(), [tip]
                clone.refs[clone.branch] = session.commit_id
                clone.undoable = None
            else:
                session.reset()
        return content

    def _follow_both(self, clone: Clone, tips: list[Content], our: Content) -> None:
        tip = clone.refs[clone.branch]
        if our == tips[0]:
            return
        try:
            merged = merge(tips[0], our, tips[-1])
        except CannotTellError:
            with StockRoom(clone.path, ref=clone.branch) as reader:
                merged = read_content(reader)
        assert merged is not None, "a conflict was committed"
        clone.head = tip
        with StockRoom(clone.path, ref=clone.branch) as reader:
            found = reader.commit_id
        if found == tip:
            assert merged == self.commits[tip], "a change was dropped"
        else:
            self._advance(clone, found, merged)

    @rule(which=clones, ours=some_changes, theirs=some_changes)
    def two_sessions(self, which, ours, theirs):
        clone = self.clones[which]
        if clone.staged is not None or clone.writer is not None or self._is_behind(clone):
            return
        base = self.commits[clone.refs[clone.branch]]
        one, other = base.copy(), base.copy()
        with StockRoom(clone.path) as stock, stock.session() as first, stock.session() as second:
            apply(first, one, ours, metric=f"loss{which}")
            apply(second, other, theirs, metric="loss of a session")
            if one != base:
                self._advance(clone, first.commit("first"), one)
            try:
                merged = merge(base, other, one)
            except CannotTellError:
                second.reset()
                merged = one
            else:
                self._commit_second(clone, second, base, other, merged)
        clone.undoable = None
        clone.stock.refresh()
        clone.pinned = clone.head
        assert clone.stock.commit_id == clone.head

    def _commit_second(self, clone: Clone, session: Any, base: Content, other: Content, merged: Content | None) -> None:
        if other == base:
            return
        if merged is None:
            with pytest.raises(MergeConflictError):
                session.commit("second")
            session.reset()
        else:
            self._advance(clone, session.commit("second"), merged)

    # -- branches

    @rule(which=clones, name=st.sampled_from(BRANCHES))
    def checkout(self, which, name):
        clone = self.clones[which]
        if name == clone.branch or self._is_behind(clone):
            return
        handle = clone.writer or clone.stock
        creates = name not in clone.refs
        if clone.staged is not None and not creates and clone.refs[name] != clone.head:
            with pytest.raises(ConflictError):
                handle.checkout(name)
            return
        clone.excuse_held()
        handle.checkout(name, create=creates)  # a branch at the same commit keeps what is staged
        clone.refs.setdefault(name, clone.head)
        clone.branch, clone.head, clone.undoable = name, clone.refs[name], None
        if handle is clone.stock:
            clone.pinned = clone.head

    @rule(which=clones, remote=st.booleans(), name=st.sampled_from(BRANCHES))
    def merge_a_branch(self, which, remote, name):
        clone = self.clones[which]
        theirs = (clone.seen if remote else clone.refs).get(name)
        if theirs is None or clone.staged is not None or self._is_behind(clone):
            return
        handle = clone.writer or clone.stock
        clone.excuse_held()
        self._merge(clone, theirs, lambda: handle.merge(f"origin/{name}" if remote else name), handle)

    def _merge(self, clone: Clone, theirs: str, run: Callable[[], Any], handle: StockRoom) -> None:
        """Run a merge of a commit into the checked-out branch and follow it, unless the oracle cannot tell."""
        ours = clone.head
        if theirs in self._ancestors(ours):
            run()
            assert handle.commit_id == ours
        elif ours in self._ancestors(theirs):
            run()
            assert handle.commit_id == theirs
            clone.head = clone.refs[clone.branch] = theirs
            clone.undoable = None
        elif (base := self._find_base(ours, theirs)) is not None:
            try:
                merged = merge(self.commits[base], self.commits[ours], self.commits[theirs])
            except CannotTellError:
                return
            if merged is None:
                with pytest.raises(MergeConflictError):
                    run()
                assert handle.commit_id == ours
            else:
                run()
                self._advance(clone, handle.commit_id, merged, theirs)
        if handle is clone.stock:
            clone.pinned = clone.head

    def _ancestors(self, commit: str) -> set[str]:
        found, waiting = set(), [commit]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting.extend(self.parents[one])
        return found

    def _find_base(self, one: str, other: str) -> str | None:
        """The merge base; None if there are several."""
        common = self._ancestors(one) & self._ancestors(other)
        best = [c for c in common if not any(c != d and c in self._ancestors(d) for d in common)]
        return best[0] if len(best) == 1 else None

    @rule(which=clones)
    def undo(self, which):
        clone = self.clones[which]
        if clone.undoable is None or clone.staged is not None or self._is_behind(clone):
            return
        handle = clone.writer or clone.stock
        clone.excuse_held()
        handle.undo()
        if isinstance(clone.undoable, Content):
            clone.staged, clone.undoable = clone.undoable, None
            return
        old, new = clone.undoable
        assert new == clone.head
        clone.head = clone.refs[clone.branch] = old
        clone.undoable = None
        if handle is clone.stock:
            clone.pinned = clone.head
        assert handle.commit_id == old

    # -- the remote

    @rule(which=clones)
    def push(self, which):
        clone = self.clones[which]
        tip, there = clone.refs[clone.branch], self.remote.get(clone.branch)
        if there is not None and there not in self._ancestors(tip):
            with pytest.raises(RefChangedError):
                clone.stock.push(ref=clone.branch)
            self._look_at_seen(clone)
            return
        clone.stock.push(ref=clone.branch)
        self.remote[clone.branch] = tip
        self._look_at_seen(clone)
        assert clone.seen[clone.branch] == tip

    def _look_at_seen(self, clone: Clone) -> None:
        """Follow remote-tracking branches, which may show the remote as it was or as it is."""
        found = {name.removeprefix("origin/"): commit for name, commit in clone.stock.remote_branches.items()}
        for name, commit in found.items():
            assert commit in (clone.seen.get(name), self.remote[name])
        clone.seen = found

    @rule(which=clones)
    def fetch(self, which):
        clone = self.clones[which]
        clone.stock.fetch()
        clone.seen = dict(self.remote)
        assert {f"origin/{name}": commit for name, commit in clone.seen.items()} == dict(clone.stock.remote_branches)

    @rule(which=clones)
    def pull(self, which):
        clone = self.clones[which]
        if clone.branch not in self.remote or clone.staged is not None or self._is_behind(clone):
            return
        handle = clone.writer or clone.stock
        clone.seen = dict(self.remote)
        clone.excuse_held()
        self._merge(clone, self.remote[clone.branch], handle.pull, handle)

    # -- upkeep

    @rule(which=clones)
    def drop(self, which):
        clone = self.clones[which]
        clone.excuse_held()
        clone.stock.drop()
        self._look_at_seen(clone)

    @rule(which=clones)
    def collect(self, which):
        clone = self.clones[which]
        clone.excuse_held()
        clone.undoable = None
        if clone.pinned != clone.head:
            clone.stock.refresh()
            clone.pinned = clone.head
        clone.stock.gc(grace=timedelta(0))
        self._look_at_seen(clone)

    @rule(which=clones, lost=st.none() | st.integers(0, 9))
    def repair(self, which, lost):
        """Repair, perhaps after a pack is lost that the remote has too: it comes back without its samples."""
        clone = self.clones[which]
        self._close_writer(clone)  # repair is a writer itself
        packs = sorted(path for path in (clone.path / ".stockroom/packs").glob("*/*") if self._is_sent(path))
        if lost is not None and packs:
            clone.excuse_held()
            shutil.rmtree(packs[lost % len(packs)])
        clone.stock.repair()
        self._look_at_seen(clone)
        assert clone.stock.verify().damage == []

    def _is_sent(self, pack: Path) -> bool:
        """Whether the remote has this pack too."""
        return (self.folder / "r" / "packs" / pack.parent.name / pack.name).is_dir()

    # -- what is held open

    @rule(data=st.data(), which=clones, name=columns, as_dataset=st.booleans())
    def hold(self, data, which, name, as_dataset):
        clone = self.clones[which]
        handle = clone.writer or clone.stock
        content = self._content(clone) if clone.writer else self.commits[clone.pinned]
        expected = sorted(content.columns[name].items())
        column = handle.data[name]
        if as_dataset and expected:
            dataset = make_torch_dataset([column])
            positions = iter(range(len(expected)))
            keys = iter([key for key, _ in expected])

            def take() -> tuple[Any, Any] | None:
                position = next(positions, None)
                return None if position is None else (next(keys), dataset[position][0])

            clone.held.append(Held(take, name, iter(expected)))
        else:
            items = iter(column.items())
            clone.held.append(Held(lambda: next(items, None), name, iter(expected)))

    @rule(which=clones, n=st.integers(1, 5), data=st.data())
    def go_on_with_what_is_held(self, which, n, data):
        clone = self.clones[which]
        if not clone.held:
            return
        held = data.draw(st.sampled_from(clone.held))
        for _ in range(n):
            try:
                found = held.take()
            except (StockroomError, RuntimeError) as error:
                if not held.may_fail and not isinstance(error, RuntimeError):
                    raise
                clone.held.remove(held)
                return
            expected = next(held.expected, None)
            if expected is None or found is None:
                assert (found, expected) == (None, None)
                clone.held.remove(held)
                return
            assert found[0] == expected[0]
            assert is_sample(held.column, found[1], expected[1]), f"{held.column} {found} is not {expected}"

    # -- what must hold

    @rule(which=clones)
    def all_handles_read_what_the_dictionaries_say(self, which):
        clone = self.clones[which]
        if clone.writer is not None:
            assert read_content(clone.writer) == self._content(clone)
            assert clone.writer.status().clean == (clone.staged is None)
        assert clone.stock.commit_id == clone.pinned
        assert read_content(clone.stock) == self.commits[clone.pinned]
        with StockRoom(clone.path) as reader:
            assert (reader.branch, reader.commit_id) == (clone.branch, clone.head)
            assert dict(reader.branches) == clone.refs
            assert read_content(reader) == self.commits[clone.head]

    @rule(which=clones, data=st.data())
    def any_commit_of_a_branch_reads_as_it_was(self, which, data):
        clone = self.clones[which]
        tip = clone.refs[data.draw(st.sampled_from(sorted(clone.refs)))]
        commit = data.draw(st.sampled_from(sorted(self._ancestors(tip))))
        with StockRoom(clone.path, ref=commit) as reader:
            assert read_content(reader) == self.commits[commit]


@contextmanager
def at_the_worst_moment(stock: StockRoom, act: Callable[[], Any]) -> Iterator[None]:
    """Act once, right before a commit of this handle moves its branch."""
    refs = stock._repository.refs
    apply_at_once = refs.apply

    def apply_late(change: Any, **options: Any) -> Any:
        if change.commits:
            vars(refs).pop("apply", None)
            act()
        return apply_at_once(change, **options)

    refs.apply = apply_late  # type: ignore[method-assign]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workspace, "_TURN_TIMEOUT_S", 0.05)  # the block has the turn: the session goes on without it
            yield
    finally:
        vars(refs).pop("apply", None)


def may_conflict(tips: list[Content], our: Content) -> bool:
    """Whether putting our changes on top of these may be refused."""
    try:
        return merge(tips[0], our, tips[-1]) is None
    except CannotTellError:
        return True


def read_content(handle: Any) -> Content:
    """The content that a handle shows, by reading every byte of it; fails if a value is none of ours."""
    content = Content()
    for name, column in handle.data.items():
        samples = dict(column.items())
        content.columns[name] = {key: find_number(name, sample) for key, sample in samples.items()}
    for name in handle.model:
        state = handle.model[name]
        number = state["epoch"]
        for leaf, expected in make_state(number).items():
            assert is_equal(state[leaf], expected), f"model {name}, {leaf}: not of epoch {number}"
        content.models[name] = number
    for name, (steps, values) in handle.experiment.metrics.items():
        content.metrics[name] = dict(zip(map(int, steps), map(int, values), strict=True))
    content.values = {name: handle.experiment[name] for name in handle.experiment}
    return content


def find_number(name: str, sample: Any) -> int:
    """The number of a sample; fails if it is not exactly one of ours."""
    number = next((number for number in range(20) if is_sample(name, sample, number)), None)
    assert number is not None, f"{name}: {sample!r} is no sample that was ever written"
    return number


def is_equal(found: Any, expected: Any) -> bool:
    """Whether a leaf is what was saved, to the bit."""
    if isinstance(expected, int):
        return bool(found == expected)
    array = found.numpy() if hasattr(found, "numpy") else found
    return bool(array.dtype == expected.dtype and array.tobytes() == expected.tobytes())


TestOracle = Oracle.TestCase
TestOracle.settings = settings(
    max_examples=int(os.environ.get("STOCKROOM_ORACLE_EXAMPLES", "12")),
    stateful_step_count=int(os.environ.get("STOCKROOM_ORACLE_STEPS", "40")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
