"""Undo and redo over any sequence of changes, beside a model made of plain dicts: refs and stage go back and forth."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stockroom import ConflictError, NotFoundError, StockRoom

branches = st.sampled_from(["main", "dev"])
Staged = tuple[str, int]
"""The base of a stage, and the value staged."""


@dataclass(frozen=True)
class Entry:
    """One change: refs to (old, new), and the stage before and after, if the change is about the stage."""

    refs: dict[str, tuple[str | None, str | None]]
    stage: tuple[Staged | None, Staged | None] | None = None
    makes_branch: bool = False
    is_undo: bool = False


@dataclass
class Model:
    """Refs by their names in the log, HEAD, the stage; what each commit holds, and the two stacks of an editor."""

    refs: dict[str, str] = field(default_factory=dict)
    branch: str = "main"
    head: str = ""
    stage: Staged | None = None
    content: dict[str, int] = field(default_factory=dict)
    parent: dict[str, str | None] = field(default_factory=dict)
    undoable: list[Entry] = field(default_factory=list)
    redoable: list[Entry] = field(default_factory=list)
    logged: set[Staged] = field(default_factory=set)

    @property
    def tip(self) -> str | None:
        return self.refs.get(f"branch/{self.branch}")

    @property
    def is_stranded(self) -> bool:
        return self.stage is not None and self.stage[0] != self.head

    def is_ancestor(self, commit: str, descendant: str | None) -> bool:
        while descendant is not None and descendant != commit:
            descendant = self.parent[descendant]
        return descendant == commit

    def do(self, entry: Entry) -> None:
        self.undoable.append(entry)
        self.redoable.clear()
        self.move(entry)

    def move(self, entry: Entry) -> None:
        for ref, (_, new) in entry.refs.items():
            self.refs.pop(ref) if new is None else self.refs.__setitem__(ref, new)
        if entry.stage is not None:
            self.logged |= {end for end in entry.stage if end is not None}
            self.stage = entry.stage[1]

    def follow(self) -> None:
        """HEAD comes along with its branch unless something is staged."""
        if self.stage is None and self.tip is not None and self.is_ancestor(self.head, self.tip):
            self.head = self.tip

    def can_stay(self, entry: Entry, new: str | None) -> bool:
        """Whether the branch only moves ahead of staged changes, which stay behind it with HEAD."""
        return (
            entry.stage is None
            and self.stage is not None
            and not self.is_stranded
            and new is not None
            and self.is_ancestor(self.head, new)
        )

    def plan_inverse(self, entry: Entry) -> Entry | None:
        """What takes a change back, or None if it is refused."""
        refs = {ref: (new, old) for ref, (old, new) in entry.refs.items()}
        old, new = refs.get(f"branch/{self.branch}", (None, None))
        head = self.head
        if self.can_stay(entry, new):
            return Entry(refs)
        if old == self.head:
            if new is None and (entry.is_undo or entry.makes_branch):
                return None
            assert new is not None
            head = new
        if entry.stage is not None:
            wanted = entry.stage[0]
        elif head != self.head and not (self.stage is not None and self.stage[0] == head):
            wanted = None
        else:
            return Entry(refs)
        if self.stage not in (None, wanted) and self.stage not in self.logged:
            return None
        if entry.stage is None and self.stage is None:
            return Entry(refs)
        return Entry(refs, (self.stage, wanted))

    def take_back(self, entry: Entry) -> bool:
        """Take a change back; return whether that could be done. The inverse then is on the other stack."""
        inverse = self.plan_inverse(entry)
        if inverse is None:
            return False
        old, new = inverse.refs.get(f"branch/{self.branch}", (None, None))
        follows = old == self.head and new is not None and not self.can_stay(entry, new)
        self.move(inverse)
        if follows:
            assert new is not None
            self.head = new
        elif self.stage is not None and inverse.stage is not None and self.is_ancestor(self.stage[0], self.head):
            self.head = self.stage[0]
        if entry in self.undoable[-1:] and not entry.is_undo:
            self.undoable.pop()
            self.redoable.append(replace(inverse, is_undo=True))
        else:
            self.redoable.pop()
        self.follow()
        return True


class UndoMachine(RuleBasedStateMachine):
    """Column `w` is written by blocks and staged; column `s` by sessions, so that nothing conflicts."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="stockroom-undo-"))
        self.stock = StockRoom.init(self.path)
        self.model = Model()
        self.redone: list[Entry] = []
        self.count = 0

    def teardown(self) -> None:
        self.stock.close()
        shutil.rmtree(self.path)

    def count_up(self) -> int:
        self.count += 1
        return self.count

    def note_commit(self, value: int, parent: str | None, branch: str) -> None:
        commit = self.stock.branches[branch]
        self.model.parent[commit], self.model.content[commit] = parent, value
        self.model.do(Entry({f"branch/{branch}": (parent, commit)}))

    @initialize()
    def begin(self) -> None:
        self.write()

    @rule()
    def write(self) -> None:
        model, value = self.model, self.count_up()
        if model.is_stranded:
            with pytest.raises(ConflictError), self.stock.enable_write():
                pass
            return
        parent = model.tip
        with self.stock.enable_write(f"{value}") as stock:
            stock.data["w"] = [value]
        self.note_commit(value, parent, model.branch)
        model.head, model.stage = self.stock.branches[model.branch], None

    @precondition(lambda self: not self.model.is_stranded)
    @rule()
    def stage(self) -> None:
        value = self.count_up()
        with StockRoom(self.path, enable_write=True) as writer:
            writer.data["w"] = [value]
        self.model.stage = (self.model.head, value)

    @rule()
    def reset(self) -> None:
        self.stock.reset()
        if self.model.stage is not None:
            self.model.do(Entry({}, (self.model.stage, None)))
        self.model.follow()

    @rule(data=st.data())
    def reset_hard(self, data: st.DataObject) -> None:
        model = self.model
        target = data.draw(st.sampled_from(sorted(model.parent, key=list(model.parent).index)))
        self.stock.reset_to(target)
        moves = {} if model.tip == target else {f"branch/{model.branch}": (model.tip, target)}
        stage = None if model.stage is None else (model.stage, None)
        if moves or stage:
            model.do(Entry(moves, stage))
        model.head = target

    @rule(name=branches)
    def session(self, name: str) -> None:
        model, value = self.model, self.count_up()
        if f"branch/{name}" not in model.refs:
            return
        parent = model.refs[f"branch/{name}"]
        with self.stock.session(name, message=f"{value}") as session:
            session.data["s"] = [value]
        self.note_commit(model.content[parent], parent, name)
        model.follow()

    @rule(name=branches)
    def branch(self, name: str) -> None:
        model, ref = self.model, f"branch/{name}"
        if ref not in model.refs:
            self.stock.create_branch(name, at=model.head)
            model.do(Entry({ref: (None, model.head)}, makes_branch=True))
        elif name != model.branch:
            self.stock.delete_branch(name, force=True)
            model.do(Entry({ref: (model.refs[ref], None)}))

    @rule()
    def tag(self) -> None:
        model, old = self.model, self.model.refs.get("tag/v1")
        self.stock.delete_tag("v1") if old else self.stock.create_tag("v1", at=model.head)
        model.do(Entry({"tag/v1": (old, None if old else model.head)}))

    @rule(name=branches)
    def checkout(self, name: str) -> None:
        model = self.model
        target = model.refs.get(f"branch/{name}")
        if target is None:
            return
        if model.stage is not None and not (model.is_stranded and model.stage[0] == target):
            with pytest.raises(ConflictError):
                self.stock.checkout(name)
            return
        self.stock.checkout(name)
        model.branch, model.head = name, target

    @rule()
    def undo(self) -> None:
        self.take_back(self.model.undoable, self.stock.undo)

    @rule()
    def redo(self) -> None:
        self.take_back(self.model.redoable, self.stock.redo)

    def take_back(self, stack: list[Entry], run) -> bool:
        model = self.model
        if not stack:
            with pytest.raises(NotFoundError, match="nothing to"):
                run()
            return False
        entry, is_undo = stack[-1], stack is model.undoable
        if len(model.undoable) == 1 and is_undo:
            return False  # the first commit stays: HEAD without a commit is for another test
        if not model.take_back(entry):
            with pytest.raises(ConflictError):
                run()
            return False
        run()
        if is_undo:
            self.redone.append(entry)
        else:
            model.undoable.append(self.redone.pop())
        return True

    @rule(n=st.integers(1, 6))
    def back_and_forth(self, n: int) -> None:
        before = self.look()
        done = 0
        while done < n and self.take_back(self.model.undoable, self.stock.undo):
            done += 1
        for _ in range(done):
            assert self.take_back(self.model.redoable, self.stock.redo)
        assert self.look() == before

    def look(self) -> tuple[dict[str, str], object]:
        """Return refs and stage as they are in the repository."""
        with StockRoom(self.path) as reader:
            stage = reader._repository.refs.get_stage()
            refs = {f"branch/{name}": commit for name, commit in reader.branches.items()}
            return refs | {f"tag/{name}": commit for name, commit in reader.tags.items()}, stage

    @invariant()
    def the_repository_is_what_the_model_says(self) -> None:
        if not self.model.head:
            return
        refs, stage = self.look()
        assert refs == self.model.refs
        with StockRoom(self.path) as reader:
            assert (reader.branch, reader.commit_id) == (self.model.branch, self.model.head)
            assert reader.data["w", 0] == self.model.content[self.model.head]
            if self.model.stage is None:
                assert stage is None
                return
            base, value = self.model.stage
            assert stage.base.hex() == base
            assert reader._read_stage().find_column("data/w") is not None
            assert reader.status().clean is False
        if not self.model.is_stranded:
            with StockRoom(self.path, enable_write=True) as writer:
                assert writer.data["w", 0] == value


TestUndoMachine = UndoMachine.TestCase
TestUndoMachine.settings = settings(
    max_examples=int(os.environ.get("STOCKROOM_MACHINE_EXAMPLES", "8")),
    stateful_step_count=int(os.environ.get("STOCKROOM_MACHINE_STEPS", "25")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
