"""Gc takes what nothing leads to, once that has been so for long enough, and nothing else."""

from __future__ import annotations

import os
import shutil
import time
from datetime import timedelta

import numpy as np
import pytest
from tests.kit.packs import measure_packs

from stockroom import CorruptionError, InvalidInputError, LockedError, StockRoom
from stockroom.kv import Environment
from stockroom.refs import DATABASES
from stockroom.refs.marks import MarkKind
from stockroom.repository.upkeep.gc import apply_gc, plan_gc, preview_gc
from stockroom.repository.upkeep.reachable import Reachable
from stockroom.store.pack.layout import list_pack_directories
from stockroom.store.upkeep.removal import lock_removal

NOW = timedelta(0)
WEEK_NS = 7 * 86400 * 10**9
ROWS = 30


def rows(seed, nbytes=1000):
    return np.random.default_rng(seed).integers(0, 256, (ROWS, nbytes), np.uint8)


def write(stock, name, seed):
    with stock.enable_write(f"{name} {seed}"):
        stock.data[name] = rows(seed)
    return stock.commit_id


def packs(stock):
    return {directory.name for directory in list_pack_directories(stock.path / ".stockroom" / "packs")}


def read(path, ref, name):
    with StockRoom(path, ref=ref) as stock:
        return stock.data[name][:]


@pytest.fixture
def stock(tmp_path):
    with StockRoom.init(tmp_path / "repo") as opened:
        write(opened, "kept", 1)
        yield opened


def make_dead_branch(stock, name="dead", seed=2):
    r"""A branch with one pack of its own, deleted: its commit.

    kept          main
        \
         dead     deleted
    """
    stock.checkout(name, create=True)
    commit = write(stock, name, seed)
    stock.checkout("main")
    stock.delete_branch(name, force=True)
    return commit


def later(stock, grace=timedelta(weeks=2), weeks=3, **options):
    plan = plan_gc(stock._repository, grace=grace, now_ns=time.time_ns() + weeks * WEEK_NS, **options)
    return apply_gc(plan)


def test_what_only_the_operation_log_leads_to_stays_for_the_grace_period_and_undo_works(stock):
    commit = make_dead_branch(stock)
    for _ in range(2):
        report = stock.gc()
        assert (report.commits, report.packs, report.waiting) == (0, 0, 1)
    stock.undo()
    assert stock.branches["dead"] == commit
    assert (read(stock.path, "dead", "dead") == rows(2)).all()


def test_it_goes_once_it_was_marked_for_the_grace_period(stock):
    make_dead_branch(stock)
    before = packs(stock)
    stock.gc()
    assert later(stock, weeks=1).packs == 0
    report = later(stock)
    assert (report.commits, report.packs, report.waiting, report.held) == (1, 1, 0, 0)
    assert report.nbytes >= ROWS * 1000
    assert len(before - packs(stock)) == 1
    assert (stock.data["kept"][:] == rows(1)).all()
    assert stock.verify().ok
    skipped = []
    undone = stock.undo(on_skip=lambda operation, _: skipped.append(operation.kind))
    assert (skipped, undone.note) == (["delete-branch", "commit", "branch"], "kept 1")
    stock.redo()
    assert (stock.data["kept"][:] == rows(1)).all()
    assert later(stock, weeks=9).packs == 0


def test_marking_starts_the_clock_and_use_stops_it(stock):
    r"""
    kept          main
        \
         dead     deleted, then kept by `again` for a while
    """
    commit = make_dead_branch(stock)
    stock.gc()
    stock.create_branch("again", commit)
    stock.gc()
    assert stock._repository.marks.read(MarkKind.COMMIT) == {}
    stock.delete_branch("again", force=True)
    assert later(stock, weeks=3).commits == 0  # first marked now, as far as it knows
    assert later(stock, weeks=6).commits == 1


def test_a_dry_run_says_what_would_go_and_writes_nothing(stock):
    make_dead_branch(stock)
    files = {p: p.stat().st_mtime_ns for p in stock.path.rglob("*") if p.is_file() and p.name != "lock.mdb"}
    report = stock.gc(dry_run=True, grace=NOW)
    assert (report.commits, report.packs, report.dry_run) == (1, 1, True)
    assert report.objects >= 3
    assert {p: p.stat().st_mtime_ns for p in stock.path.rglob("*") if p.is_file() and p.name != "lock.mdb"} == files
    done = stock.gc(grace=NOW)
    assert (done.commits, done.objects, done.packs, done.nbytes) == (
        report.commits,
        report.objects,
        report.packs,
        report.nbytes,
    )


def test_tags_stages_sessions_merges_and_a_detached_head_keep_what_they_lead_to(tmp_path):
    r"""
    kept---(staged)     main; staged is no commit yet
       |\
       | tagged         v1, whose branch is deleted
        \
         dead           other; in the end a detached HEAD alone

    (named)             side: the stage of a session that is closed
    """
    path = tmp_path / "repo"
    with StockRoom.init(path) as stock:
        write(stock, "kept", 1)
        stock.checkout("tagged", create=True)
        write(stock, "tagged", 2)
        stock.create_tag("v1")
        stock.checkout("main")
        stock.delete_branch("tagged", force=True)
        session = stock.session("side", "mine")
        session.data["named"] = rows(4)
        session.close()  # what it staged outlives it
    with StockRoom(path, enable_write=True) as stock:
        stock.data["staged"] = rows(3)
    with StockRoom(path) as stock:
        commit = make_dead_branch_elsewhere(path)
        report = stock.gc(grace=NOW)
        assert report.packs == 0, report
        assert (StockRoom(path, enable_write=True).data["staged"][:] == rows(3)).all()
        stock.reset()
        stock.checkout(commit)
        stock.delete_branch("other", force=True)
        assert stock.gc(grace=NOW).commits == 0
        assert (stock.data["dead"][:] == rows(5)).all()
        assert (read(path, "v1", "tagged") == rows(2)).all()
        with stock.session("side", "mine") as session:
            assert (session.data["named"][:] == rows(4)).all()
        assert stock.verify().ok


def make_dead_branch_elsewhere(path):
    """A commit on a branch of its own, made in a session since changes are staged; the branch keeps it."""
    with StockRoom(path) as stock:
        stock.create_branch("other")
        with stock.session("other") as session:
            session.data["dead"] = rows(5)
        return stock.branches["other"]


def test_a_merge_under_way_keeps_what_is_merged(stock):
    r"""
    kept---ours----merged    main
        \         /
         theirs---           side, deleted while the merge is under way
    """
    stock.checkout("side", create=True)
    with stock.enable_write("side"):
        stock.data["kept"][0] = np.full(1000, 1, np.uint8)
        stock.data["more"] = rows(8)
    stock.checkout("main")
    with stock.enable_write("ours"):
        stock.data["kept"][0] = np.full(1000, 2, np.uint8)
    assert stock.merge("side", commit=False).conflicts
    stock.delete_branch("side", force=True)
    assert stock.gc(grace=NOW).commits == 0
    stock.resolve("data/kept", choice="theirs")
    stock.continue_merge()
    assert stock.data["kept"][0][0] == 1
    assert (stock.data["more"][:] == rows(8)).all()
    assert stock.verify().ok


def test_a_pack_stays_as_long_as_one_of_its_chunks_is_needed(stock):
    r"""
    kept---one of them     main: one row of two
        \
         two               dead, deleted
    """
    stock.checkout("dead", create=True)
    with stock.enable_write("two"):
        stock.data["two"] = rows(2)
    stock.checkout("main")
    with stock.enable_write("one of them"):
        stock.data["one"] = rows(2)[7:8]
    stock.delete_branch("dead", force=True)
    assert stock.gc(grace=NOW).packs == 0
    assert (stock.data["one"][0] == rows(2)[7]).all()


def test_digests_kept_as_samples_are_not_taken_for_their_chunks_seen(tmp_path):
    with StockRoom.init(tmp_path / "repo") as stock:
        with stock.enable_write("images"):
            stock.data["image"] = rows(1)
            stock.data["hash"] = np.stack(
                [np.frombuffer(bytes.fromhex(stock.data["image"].digest(key)), np.uint8) for key in range(ROWS)]
            )
        assert stock.gc(grace=NOW).packs == 0
        assert (stock.data["image"][:] == rows(1)).all()
        assert stock.verify().chunks == ROWS


def test_a_writer_that_relies_on_a_chunk_keeps_its_pack_until_it_has_committed(stock):
    make_dead_branch(stock)
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["again"] = rows(2)  # known already: not written
        report = stock.gc(grace=NOW)
        assert (report.packs, report.held) == (0, 1)
        writer.commit("again")
    assert (stock.path / ".stockroom" / "packs").is_dir()
    assert stock.gc(grace=NOW).packs == 0
    assert (read(stock.path, "main", "again") == rows(2)).all()
    assert stock.verify().ok


@pytest.mark.parametrize("how", ["same", "mixed"])
def test_a_writer_that_begins_after_the_marks_puts_anew_what_is_marked(stock, how):
    make_dead_branch(stock)
    stock.gc()
    again = rows(2) if how == "same" else np.concatenate([rows(9)[:5], rows(2)])
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["again"] = again
        writer._pin.workspace._flush_tensors()  # in its place, and nothing leads to it
        report = stock.gc(grace=NOW)
        assert report.packs == (0 if how == "same" else 1)  # the very same pack is spared
        writer.commit("again")
    assert (read(stock.path, "main", "again") == again).all()
    assert stock.verify().ok


def test_a_handle_that_had_a_pack_open_when_it_went_does_not_rely_on_it(stock):
    r"""
    kept---again     main: the rows of dead once more
        \
         dead        deleted, and removed by gc before `again`
    """
    with StockRoom(stock.path) as long_lived:
        long_lived.checkout("dead", create=True)
        write(long_lived, "dead", 2)
        assert (long_lived.data["dead"][:] == rows(2)).all()
        long_lived.checkout("main")
        long_lived.delete_branch("dead", force=True)
        assert stock.gc(grace=NOW).packs == 1
        write(long_lived, "again", 2)
    assert (read(stock.path, "main", "again") == rows(2)).all()
    assert stock.verify().ok


def test_objects_spilled_before_a_commit_are_not_taken_under_the_writer(stock):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["many"] = rows(3)
        writer._pin.workspace.snapshot  # noqa: B018 - works the edits in
        writer._pin.workspace.objects.flush()
        assert stock.gc(grace=NOW).objects == 0
        writer.commit("many")
    assert (read(stock.path, "main", "many") == rows(3)).all()
    assert stock.verify().ok


def test_an_object_that_goes_between_looking_and_writing_is_written(stock):
    make_dead_branch(stock)
    repository = stock._repository
    (dead,) = set(plan_gc(repository, grace=NOW).unreachable[MarkKind.COMMIT])
    tree = repository.refs.get_commit(dead).tree_digest
    data = repository.objects.get_object(tree)
    writer = type(repository.objects)(repository.env)
    writer.put_object(data)
    encode = writer.encode_unflushed
    calls = []

    def encode_and_lose():
        encoded = encode()
        if not calls:
            stock.gc(grace=NOW)
        calls.append(len(encoded))
        return encoded

    writer.encode_unflushed = encode_and_lose
    writer.flush()
    assert calls == [0, 1]
    assert repository.objects.get_object(tree) == data


def test_a_cherry_pick_of_a_marked_commit_keeps_it(stock):
    commit = make_dead_branch(stock)
    stock.gc()
    session = stock._begin(1.0)
    try:
        session.repository.open_snapshot(type(commit)(commit) and bytes.fromhex(commit), session.nodes)
        assert stock.gc(grace=NOW).commits == 0
    finally:
        stock._pin.workspace = None
        session.close()
    assert stock.gc(grace=NOW).commits == 1


@pytest.mark.parametrize("how", ["branch", "fetch"])
def test_a_doomed_commit_that_is_used_at_the_last_moment_stays_whole(stock, monkeypatch, how):
    """By a new branch, or by a fetch that brings it once more and has not moved a ref yet."""
    commit = make_dead_branch(stock)
    plan = plan_gc(stock._repository, grace=NOW)
    sweep = plan.sweep

    def use_it_first(doomed):
        assert len(doomed[MarkKind.COMMIT]) == 1
        if how == "branch":
            stock.create_branch("saved", commit)
        else:
            stock._repository.marks.unmark(MarkKind.COMMIT, bytes.fromhex(commit))
        return sweep(doomed)

    monkeypatch.setattr(plan, "sweep", use_it_first)
    report = apply_gc(plan)
    assert (report.commits, report.packs) == (0, 0)
    if how == "fetch":
        stock.create_branch("saved", commit)
    assert (read(stock.path, "saved", "dead") == rows(2)).all()
    assert stock.verify().ok


def test_a_damaged_repository_is_left_alone(stock):
    make_dead_branch(stock)
    before = packs(stock)
    kept = stock._repository.resolve("main")
    tree = stock._repository.refs.get_commit(kept).tree_digest
    with Environment.open(stock.path / ".stockroom" / "refs", databases=DATABASES) as env:
        env.update(lambda txn: txn.delete("objects", tree))
    with StockRoom(stock.path) as fresh, pytest.raises(CorruptionError):
        fresh.gc(grace=NOW)
    assert packs(stock) == before


def test_a_lost_pack_stops_gc_too(stock):
    dead = packs(stock)
    make_dead_branch(stock)
    shutil.rmtree(next(p for p in list_pack_directories(stock.path / ".stockroom" / "packs") if p.name in dead))
    with StockRoom(stock.path) as fresh, pytest.raises(CorruptionError, match="fsck"):
        fresh.gc(grace=NOW)


def test_one_gc_at_a_time(stock, monkeypatch):
    monkeypatch.setattr("stockroom.repository.upkeep.gc._PATIENCE_S", 0.05)
    with StockRoom(stock.path) as other, lock_removal(other._repository.tensors), pytest.raises(LockedError):
        stock.gc(grace=NOW)


def test_a_negative_grace_period_is_refused(stock):
    with pytest.raises(InvalidInputError, match="grace"):
        stock.gc(grace=timedelta(seconds=-1))


def test_leftovers_of_dead_writers_go(stock):
    old = stock.path / ".stockroom" / "tmp" / "4000000-deadbeef"
    old.mkdir()
    (old / "lock").touch()
    (old / "half").write_bytes(b"x")
    stock.gc()
    assert not old.exists()


def test_an_orphan_pack_is_as_old_as_its_files(stock):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["gone"] = rows(6)
        writer._pin.workspace._flush_tensors()
        writer.reset(undoable=False)
    stock.gc()
    assert len(packs(stock)) == 2
    for directory in list_pack_directories(stock.path / ".stockroom" / "packs"):
        os.utime(directory, ns=(0, 0))
    assert stock.gc().packs == 1


def test_repack_merges_small_packs_and_drops_what_is_dead_and_history_stays(stock):
    r"""
    kept---20---...---29---some     main: ten rows of half
                        \
                         half       dead, deleted
    """
    for seed in range(20, 30):
        with stock.enable_write(f"{seed}"):
            stock.data[f"part{seed}"] = rows(seed)
    stock.checkout("dead", create=True)
    with stock.enable_write("half"):
        stock.data["half"] = np.concatenate([rows(40), rows(41)])
    stock.checkout("main")
    with stock.enable_write("some"):
        stock.data["some"] = rows(40)[:10]
    stock.delete_branch("dead", force=True)
    history = [commit.id for commit in stock.log()]
    with StockRoom(stock.path) as reader:
        column = reader.data["part25"]
        assert (column[3] == rows(25)[3]).all()
        assert stock.gc(dry_run=True, grace=NOW, repack=True).repacked == 12
        report = stock.gc(grace=NOW, repack=True)
        assert (report.repacked, report.made) == (12, 1)
        assert (column[:] == rows(25)).all()
        assert (reader.data["some"][:] == rows(40)[:10]).all()
    (pack,) = list_pack_directories(stock.path / ".stockroom" / "packs")
    assert (pack / "c.0.0").stat().st_size < (11 * ROWS + 15) * 1000 + 1000
    assert [commit.id for commit in stock.log()] == history
    assert stock.verify().ok
    assert stock.gc(grace=NOW, repack=True).repacked == 0


@pytest.mark.parametrize("once", ["committed", "staged"])
def test_repack_keeps_dead_rows_that_a_writer_may_rely_on(stock, once):
    r"""
    kept---some---late     main: rows of both
        \
         both              dead, deleted; or staged on main and given up
    """
    both = np.concatenate([rows(40), rows(41)])
    if once == "committed":
        stock.checkout("dead", create=True)
        with stock.enable_write("both"):
            stock.data["both"] = both
        stock.checkout("main")
    else:
        with StockRoom(stock.path, enable_write=True) as writer:
            writer.data["both"] = both
            writer.flush()
            writer.reset()
    with stock.enable_write("some"):
        stock.data["some"] = rows(40)[:10]
    if once == "committed":
        stock.delete_branch("dead", force=True)
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["late"] = rows(41)
        assert stock.gc(grace=NOW, repack=True).repacked == 2
        writer.commit("late")
    assert (read(stock.path, "main", "late") == rows(41)).all()
    assert stock.verify().ok


def test_repack_keeps_dead_rows_for_the_grace_period(stock):
    with StockRoom(stock.path, enable_write=True) as writer:
        writer.data["both"] = np.concatenate([rows(40), rows(41)])
        writer.flush()
        writer.reset()
    with stock.enable_write("some"):
        stock.data["some"] = rows(40)[:10]
    assert stock.gc(repack=True).repacked == 2
    assert measure_packs(stock.path, "c.*") > 3 * ROWS * 1000
    assert later(stock, repack=True).repacked == 1
    assert measure_packs(stock.path, "c.*") < (ROWS + 11) * 1000
    assert stock.verify().ok


def test_a_dry_run_counts_nothing_that_the_operation_log_or_a_detached_head_leads_to(stock):
    commit = make_dead_branch(stock)
    assert preview_gc(plan_gc(stock._repository)).commits == 0
    report = preview_gc(plan_gc(stock._repository, now_ns=time.time_ns() + WEEK_NS))
    assert (report.commits, report.packs, report.waiting) == (0, 0, 1)
    stock.checkout(commit)
    report = preview_gc(plan_gc(stock._repository, grace=NOW))
    assert (report.commits, report.packs, report.waiting) == (0, 0, 0)


def test_a_preview_needs_no_right_to_write(stock):
    make_dead_branch(stock)
    assert preview_gc(plan_gc(stock._repository)).waiting == 1


def test_what_was_walked_in_part_is_walked_again_and_what_was_reached_of_it_stays(stock):
    """Only an error stops a walk half-way; the same commit may be added again once its branch is back."""
    with stock.enable_write("many"):
        stock.data["many"] = np.arange(40_000, dtype=np.float64).reshape(5000, 8)
    commit = stock._repository.resolve("main")
    snapshot = stock._repository.open_snapshot(commit)
    root = snapshot.open_tree(snapshot.find_column("data/many")).top
    assert len(root.child_digests) > 2
    with Environment.open(stock.path / ".stockroom" / "refs", databases=DATABASES) as env:
        env.update(lambda txn: txn.delete("objects", root.child_digests[1]))
    with StockRoom(stock.path) as fresh:
        reach = Reachable(fresh._repository)
        for _ in range(2):
            with pytest.raises(CorruptionError):
                reach.add_commits([commit])
        tree = fresh._repository.refs.get_commit(commit).tree_digest
        assert [reach.has_object(digest) for digest in (tree, *root.child_digests[:3])] == [True, True, False, False]
