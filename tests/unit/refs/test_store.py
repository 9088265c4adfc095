"""Refs move by compare-and-swap, all of a change or nothing of it, and the log tells of it."""

from __future__ import annotations

import multiprocessing

import msgspec
import pytest

from stockroom.digest import CommitId, ObjectDigest
from stockroom.errors import (
    CorruptionError,
    DigestMismatchError,
    InvalidNameError,
    NotFoundError,
    RefChangedError,
)
from stockroom.kv import Environment
from stockroom.refs import DATABASES, CommitRecord, ObjectStore, Ref, RefChange, RefMove, RefStore, Stage
from stockroom.refs.changes import add_commit, create_branch, create_tag, delete_branch, delete_tag
from stockroom.refs.operations import UNDO, invert_moves, iter_undoable
from stockroom.refs.ref import parse_ref

NOWHERE = CommitId(b"\x42" * 32)


def test_an_empty_repository_has_nothing(history):
    refs = history.refs
    assert (refs.branches(), refs.tags(), refs.get_stage(), refs.stages()) == ({}, {}, None, {})
    assert list(refs.iter_operations()) == list(refs.iter_commit_ids()) == []


def test_a_commit_moves_its_branch(history):
    first = history.commit("first")
    second = history.commit("second")
    assert history.refs.branches() == {"main": second}
    assert history.refs.get_commit(second).parent_ids == (first,)
    assert history.refs.get_commits([second, first])[1].message == "first"
    assert history.refs.has_commit(first)
    assert not history.refs.has_commit(NOWHERE)
    assert set(history.refs.iter_commit_ids()) == {first, second}


def test_a_missing_commit_is_named(history):
    with pytest.raises(CorruptionError, match=NOWHERE.hex()):
        history.refs.get_commit(NOWHERE)


def test_a_damaged_commit_is_found(history):
    commit_id = history.commit("first")
    history.env.update(lambda txn: txn.put("commits", commit_id, history.record("other").encode()))
    with pytest.raises(DigestMismatchError):
        history.refs.get_commit(commit_id)


def test_a_damaged_ref_is_found(history):
    history.commit("first")
    history.env.update(lambda txn: txn.put("branches", b"main", b"short"))
    for read in (history.refs.branches, lambda: history.refs.find_branch("main")):
        with pytest.raises(CorruptionError, match="commit id"):
            read()


def test_branches_and_tags_come_and_go(history):
    first = history.commit("first")
    for change in (create_branch("dev", at=first), create_tag("v1", at=first)):
        history.refs.apply(change)
    assert history.refs.branches() == {"dev": first, "main": first}
    assert history.refs.tags() == {"v1": first}
    for change in (delete_branch("dev", at=first), delete_tag("v1", at=first)):
        history.refs.apply(change)
    assert history.refs.branches() == {"main": first}
    assert history.refs.tags() == {}


@pytest.mark.parametrize("ref", ["branch/none", "tag/main", "tag/", "branch/", "remote/main", "branch/" + "x" * 600])
def test_a_ref_that_is_not_there_is_none(history, ref):
    history.commit("first")
    assert history.refs.find_ref(parse_ref(ref)) is None


def test_a_move_from_where_the_ref_is_not_says_what_is_there(history):
    first, second = history.commit("first"), history.commit("second")
    stale = RefChange(kind="move", moves=(RefMove(ref=Ref("branch", "main"), old=first, new=first),))
    with pytest.raises(RefChangedError) as caught:
        history.refs.apply(stale)
    for fact in ("'main'", first.hex(), second.hex()):
        assert fact in str(caught.value)
    with pytest.raises(RefChangedError, match="expected nothing"):
        history.refs.apply(create_branch("main", at=first))
    with pytest.raises(RefChangedError, match="found nothing"):
        history.refs.apply(delete_branch("dev", at=first))
    assert history.refs.branches() == {"main": second}


def test_a_refused_change_leaves_no_trace_at_all(history):
    first = history.commit("first")
    operations = list(history.refs.iter_operations())
    tree = history.objects.put_object(b"another tree")
    record = msgspec.structs.replace(history.record("second"), tree=tree, parents=(first,))
    change = RefChange(
        kind="commit",
        commits=(record,),
        moves=(
            RefMove(ref=Ref("branch", "main"), old=first, new=record.commit_id),
            RefMove(ref=Ref("tag", "v1"), old=first, new=record.commit_id),
        ),
        stages={"work": Stage(base=first, root=tree)},
    )
    with pytest.raises(RefChangedError):
        history.refs.apply(change, objects=history.objects)
    assert history.refs.branches() == {"main": first}
    assert not history.refs.has_commit(record.commit_id)
    assert history.refs.get_stage() is None
    assert list(history.refs.iter_operations()) == operations
    assert not ObjectStore(history.env).contains(tree)
    assert history.objects.contains(tree)  # still pending, for another try


def test_pending_objects_become_durable_with_the_commit_that_needs_them(history):
    tree = history.objects.put_object(b"another tree")
    record = msgspec.structs.replace(history.record("first"), tree=tree)
    history.refs.apply(add_commit(record, branch="main", old=None), objects=history.objects)
    assert ObjectStore(history.env).get_object(tree) == b"another tree"
    assert history.objects.unflushed_nbytes == 0


def test_a_ref_never_leads_to_what_is_not_here(history):
    with pytest.raises(NotFoundError, match="the new commit"):
        history.refs.apply(create_branch("dev", at=NOWHERE))
    with pytest.raises(NotFoundError, match="tree"):
        history.refs.apply(
            RefChange(kind="test", commits=(msgspec.structs.replace(history.record("x"), tree=bytes(32)),))
        )
    with pytest.raises(NotFoundError, match="parent"):
        history.refs.apply(
            RefChange(kind="test", commits=(msgspec.structs.replace(history.record("x"), parents=(NOWHERE,)),))
        )
    with pytest.raises(NotFoundError, match="stage"):
        history.refs.apply(RefChange(kind="stage", stages={"work": Stage(base=None, root=ObjectDigest(bytes(32)))}))


def test_a_child_and_its_parent_arrive_in_one_change(history):
    parent = history.record("parent")
    child = msgspec.structs.replace(history.record("child"), parents=(parent.commit_id,))
    move = RefMove(ref=Ref("branch", "main"), old=None, new=child.commit_id)
    history.refs.apply(RefChange(kind="fetch", commits=(parent, child), moves=(move,)))
    assert history.refs.has_commit(parent.commit_id)


@pytest.mark.parametrize("ref", ["branch/a b", "tag/-x", "branch/HEAD"])
def test_new_refs_need_good_names(history, ref):
    first = history.commit("first")
    with pytest.raises(InvalidNameError):
        history.refs.apply(RefChange(kind="test", moves=(RefMove(ref=parse_ref(ref), old=None, new=first),)))


def test_new_refs_must_not_collide_with_those_of_their_kind(history):
    first = history.commit("first")
    with pytest.raises(InvalidNameError, match="'main'"):
        history.refs.apply(create_branch("Main", at=first))
    history.refs.apply(create_tag("Main", at=first))


def test_a_stage_outlives_the_process_and_goes_with_the_commit(history, tmp_path):
    base = history.commit("first")
    stage = Stage(base=base, root=history.tree)
    history.refs.apply(RefChange(kind="stage", stages={"work": stage, "other": Stage(base=None, root=history.tree)}))
    script = multiprocessing.get_context("spawn").Pool(1)
    with script as pool:
        assert pool.apply(_read_stage, (tmp_path / "refs",)) == (base, history.tree)
    assert set(history.refs.stages()) == {"other", "work"}
    history.refs.apply(RefChange(kind="commit", stages={"work": None}))
    assert history.refs.get_stage() is None
    assert history.refs.get_stage("other").base is None
    assert len(list(history.refs.iter_operations())) == 1  # stages are no refs


def _read_stage(path):
    with Environment.open(path, databases=DATABASES) as env:
        stage = RefStore(env).get_stage()
        return stage.base, stage.root


def test_the_log_tells_every_move_newest_first(history):
    first = history.commit("first")
    second = history.commit("second")
    history.refs.apply(create_tag("v1", at=first))
    history.refs.apply(delete_tag("v1", at=first))
    told = [(op.number, op.kind, op.ref, op.old, op.new, op.note) for op in history.refs.iter_operations()]
    assert told == [
        (4, "delete-tag", "tag/v1", first, None, ""),
        (3, "tag", "tag/v1", None, first, ""),
        (2, "commit", "branch/main", first, second, "second"),
        (1, "commit", "branch/main", None, first, "first"),
    ]
    times = [op.time_ns for op in history.refs.iter_operations()]
    assert times == sorted(times, reverse=True)


def test_a_long_log_is_read_whole_and_in_order(history):
    first = history.commit("first")
    moves = tuple(RefMove(ref=Ref("tag", f"t{n}"), old=None, new=first) for n in range(600))
    done = history.refs.apply(RefChange(kind="tag", moves=moves))
    assert [op.number for op in done] == list(range(2, 602))
    assert [op.number for op in history.refs.iter_operations()] == list(range(601, 0, -1))


def plan_undo(history):
    change = next(iter_undoable(history.refs.iter_operations(), stage="work"))
    return RefChange(kind=UNDO, moves=invert_moves(change), undoes=change[0].number)


def undo(history):
    return history.refs.apply(plan_undo(history))[0]


def test_undo_goes_back_one_operation_at_a_time_until_none_is_left(history):
    """
    first---second     main; dev is made there and deleted

    operations: 1 first, 2 second, 3 dev made, 4 dev deleted; undone 4, 3, 2, 1
    """
    first = history.commit("first")
    second = history.commit("second")
    history.refs.apply(create_branch("dev", at=second))
    history.refs.apply(delete_branch("dev", at=second))
    assert undo(history).undoes == 4
    assert history.refs.branches() == {"dev": second, "main": second}
    undo(history)
    assert history.refs.branches() == {"main": second}
    undo(history)
    assert history.refs.branches() == {"main": first}
    undo(history)
    assert history.refs.branches() == {}
    assert list(iter_undoable(history.refs.iter_operations(), stage="work")) == []


def test_undo_after_undo_and_new_work_takes_back_the_new_work(history):
    r"""
    first---third      main
         \
          second       undone before third was made
    """
    first = history.commit("first")
    history.commit("second")
    undo(history)
    history.commit("third")
    assert undo(history).undoes == 4
    assert history.refs.branches() == {"main": first}
    undo(history)
    assert history.refs.branches() == {}


def test_an_undo_that_comes_too_late_changes_nothing(history):
    history.commit("first")
    plan = plan_undo(history)
    second = history.commit("second")
    with pytest.raises(RefChangedError):
        history.refs.apply(plan)
    assert history.refs.branches() == {"main": second}


def _increment(path, worker, n):
    """Add `n` commits to main, each after whatever is there, trying again when another was faster."""
    with Environment.open(path, databases=DATABASES, metasync=False) as env:
        refs, tree = RefStore(env), ObjectStore(env).put_object(b"a tree")
        for turn in range(n):
            while True:
                old = refs.find_branch("main")
                record = CommitRecord(
                    tree=tree,
                    parents=() if old is None else (old,),
                    author=f"worker {worker}",
                    email="",
                    time_ns=turn,
                    offset_minutes=0,
                    message=f"{turn}",
                    metadata={},
                )
                try:
                    refs.apply(add_commit(record, branch="main", old=old))
                    break
                except RefChangedError:
                    continue


def test_no_update_is_lost_between_four_processes(history, tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_increment, args=(tmp_path / "refs", n, 25)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    seen, tip = set(), history.refs.find_branch("main")
    while tip is not None:
        record = history.refs.get_commit(tip)
        seen.add((record.author, record.message))
        tip = next(iter(record.parent_ids), None)
    assert seen == {(f"worker {worker}", f"{turn}") for worker in range(4) for turn in range(25)}
    assert len(list(history.refs.iter_operations())) == 100


def test_commits_that_were_cut_get_their_parents_and_all_links_follow(history):
    # a - b - c - d, of which only c and d were here
    a, b, c, d = (history.commit(name) for name in "abcd")
    records = {commit: history.refs.get_commit(commit) for commit in (a, b, c, d)}
    history.refs.apply(RefChange(kind="fetch", shallow=(c,)))
    assert history.refs.view_links(lambda find: [find(commit) for commit in (c, d)]) == [(1, ()), (2, (c,))]
    history.refs.apply(RefChange(kind="fetch", commits=(records[a], records[b]), whole=(c,)))
    assert history.refs.shallow() == frozenset()
    assert history.refs.view_links(lambda find: find(d)) == (4, (c,))
    for commit in (a, b, c, d):
        history.refs.check_link(commit)
