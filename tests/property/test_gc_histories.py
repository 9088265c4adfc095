"""For any history of writes, branches, deletions and gc: what refs, stages and undo lead to is whole afterwards."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stockroom import ConflictError, NotFoundError, NothingToCommitError, StockRoom

# write 1, branch 2, write 3, main, write 4, delete 2, gc 1:
#
#     0---1---4     main
#          \
#           3       b2, deleted: gc removes it, unless within the grace period, in which undo brings it back
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["write", "write", "branch", "main", "delete", "undo", "stage", "reset", "session", "gc", "gc", "repack"]
        ),
        st.integers(0, 4),
    ),
    min_size=4,
    max_size=16,
)


def pool(n):
    return np.random.default_rng(n).integers(0, 256, (8, 300), np.uint8)


class World:
    """A repository, and what each commit that was ever made held in its column `data`."""

    def __init__(self, path):
        self.path = path
        self.held: dict[str, int] = {}
        with StockRoom.init(path):
            self.write(0)

    def step(self, what, n):
        with suppress(ConflictError, NotFoundError, NothingToCommitError):
            getattr(self, f"do_{what}", lambda _: None)(n)

    def write(self, n):
        with StockRoom(self.path) as stock:
            with stock.enable_write(f"{n}"):
                stock.data["data"] = pool(n)
                stock.model["net"] = make_state(n)
                stock.experiment["note"] = f"run {n}"
                stock.experiment.log({"loss": 1.0 / (n + 1)}, step=n)
                stock.experiment.artifact("figure.bin", pool(n).tobytes())
            self.held[stock.commit_id] = n

    do_write = write

    def do_branch(self, n):
        with StockRoom(self.path) as stock:
            name = f"b{n}"
            stock.checkout(name, create=name not in stock.branches and name != stock.branch)

    def do_main(self, _):
        with StockRoom(self.path) as stock:
            stock.checkout("main")

    def do_delete(self, n):
        with StockRoom(self.path) as stock:
            stock.delete_branch(f"b{n}", force=True)

    def do_undo(self, _):
        with StockRoom(self.path) as stock:
            stock.undo()

    def do_stage(self, n):
        with StockRoom(self.path, enable_write=True) as stock:
            stock.data["staged"] = pool(n + 10)

    def do_reset(self, _):
        with StockRoom(self.path) as stock:
            stock.reset()

    def do_session(self, n):
        with StockRoom(self.path) as stock, stock.session(message="session") as session:
            session.data["side"] = pool(n)

    def do_gc(self, n):
        with StockRoom(self.path) as stock:
            stock.gc(grace=timedelta(0 if n else 14))

    def do_repack(self, n):
        with StockRoom(self.path) as stock:
            stock.gc(grace=timedelta(0 if n else 14), repack=True)

    def check(self):
        with StockRoom(self.path) as stock:
            assert stock.verify().damage == []
            tips = dict(stock.branches)
            commits = {commit.id for name in tips for commit in stock.log(name)}
        for commit in commits & self.held.keys():
            with StockRoom(self.path, ref=commit) as stock:
                check_content(stock, self.held[commit])


def make_state(n):
    """A structure of its own for each `n`, which it shares with none."""
    return {"weight": pool(n)[:5].astype(np.float32), f"part {n}": [n, None, "text" * n], "same": pool(99)}


def check_content(stock, n):
    assert (stock.data["data"][:] == pool(n)).all()
    state, expected = stock.model["net"].load(), make_state(n)
    assert list(state) == list(expected)
    assert state[f"part {n}"] == expected[f"part {n}"]
    assert all((np.asarray(state[name]) == expected[name]).all() for name in ("weight", "same"))
    assert stock.experiment["note"] == f"run {n}"
    steps, losses = stock.experiment.metrics["loss"]
    assert (losses[steps == n] == 1.0 / (n + 1)).all()
    assert n in steps
    assert stock.experiment.artifacts["figure.bin"].read() == pool(n).tobytes()


@settings(max_examples=12)
@given(STEPS)
def test_after_gc_everything_led_to_reads_back_and_fsck_is_clean(steps):
    folder = Path(tempfile.mkdtemp(prefix="stockroom-gc-"))
    try:
        world = World(folder / "repo")
        for what, n in steps:
            world.step(what, n)
        world.do_gc(1)
        world.check()
        world.step("undo", 0)
        world.check()
    finally:
        shutil.rmtree(folder)


@settings(max_examples=8)
@given(STEPS)
def test_with_a_grace_period_everything_ever_committed_can_be_undone_to(steps):
    folder = Path(tempfile.mkdtemp(prefix="stockroom-gc-"))
    try:
        world = World(folder / "repo")
        for what, n in steps:
            world.step(what, 0 if what in ("gc", "repack") else n)
        with StockRoom(world.path) as stock:
            for operation in list(stock.operations()):
                refs = stock._repository.refs
                is_here = refs.has_commit if operation.stage_name is None else refs.find_dropped
                assert all(is_here(end) for end in (operation.old, operation.new) if end is not None)
        for commit, n in world.held.items():
            with StockRoom(world.path, ref=commit) as stock:
                check_content(stock, n)
    finally:
        shutil.rmtree(folder)
