"""Walks over history: order, laziness, ancestry."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from stockroom.digest import CommitId
from stockroom.errors import CorruptionError
from stockroom.refs import is_ancestor, iter_log


def log(history, start, n=None):
    names = {commit_id: name for name, commit_id in history.ids.items()}
    return "".join(names[met.commit_id] for met in iter_log(history.refs, history.ids[start], n=n))


def test_a_line_is_walked_from_its_tip(history):
    history.add_all({"a": "", "b": "a", "c": "b"})
    assert log(history, "c") == "cba"
    assert log(history, "b") == "ba"
    assert log(history, "c", n=2) == "cb"
    assert log(history, "c", n=0) == ""


def test_forks_interleave_by_time_and_meet_once(history):
    r"""
    a---b---d---m---n
     \         /
      c-------e
    """
    history.add_all({"a": "", "b": "a", "c": "a", "d": "b", "e": "c", "m": "de", "n": "m"})
    assert log(history, "n") == "nmedcba"


def test_criss_cross(history):
    r"""
    a---b---d---f
     \   \ /   /
      \   X   /
       \ / \ /
        c---e
    """
    history.add_all({"a": "", "b": "a", "c": "a", "d": "bc", "e": "cb", "f": "de"})
    assert log(history, "f") == "fedcba"


def test_children_come_before_parents_whatever_the_clocks_say(history):
    r"""
    a---b---m      b was made by a clock far behind, a by one far ahead
     \     /
      c---d
    """
    parents_of = {"a": "", "b": "a", "c": "a", "d": "c", "m": "bd"}
    history.add_all(parents_of, times={"a": 1000, "b": -50, "c": 3, "d": 4, "m": 5})
    assert log(history, "m") == "mdcba"


def test_a_merge_of_a_commit_with_its_own_ancestor(history):
    history.add_all({"a": "", "b": "a", "c": "b", "m": "ac"})
    assert log(history, "m") == "mcba"


def test_the_same_parent_twice_is_met_once(history):
    history.add_all({"a": "", "m": "aa"})
    assert log(history, "m") == "ma"


def test_unrelated_roots_that_were_merged(history):
    history.add_all({"a": "", "b": "", "m": "ab"})
    assert log(history, "m") == "mba"


@pytest.mark.parametrize("seed", range(5))
def test_random_graphs_keep_the_order(history, seed):
    rng = random.Random(seed)
    parents_of: dict[str, str] = {}
    for n in range(25):
        known = sorted(parents_of)
        parents_of[chr(65 + n)] = "".join(rng.sample(known, k=min(len(known), rng.choice([1, 1, 1, 2, 3]))))
    history.add_all(parents_of, times={name: rng.randrange(20) for name in parents_of})
    tip = chr(65 + 24)
    walked = log(history, tip)
    reachable, todo = set(), [tip]
    while todo:
        name = todo.pop()
        reachable.add(name)
        todo.extend(parents_of[name])
    assert sorted(walked) == sorted(reachable)
    place = {name: at for at, name in enumerate(walked)}
    assert all(place[name] < place[parent] for name in walked for parent in parents_of[name])
    for name in parents_of:
        assert is_ancestor(history.refs, history.ids[name], history.ids[tip]) == (name in reachable)


def test_a_line_is_read_no_further_than_asked(history):
    for n in range(30):
        history.commit(f"{n}")
    fifteenth = history.ids["15"]
    history.env.update(lambda txn: txn.delete("commits", history.ids["10"]))
    met = list(iter_log(history.refs, history.ids["29"], n=15))
    assert met[-1].commit_id == fifteenth
    with pytest.raises(CorruptionError, match=history.ids["10"].hex()):
        list(iter_log(history.refs, history.ids["29"]))


def test_after_a_merge_little_more_is_read_than_asked(history):
    #  0---1-- ... --29---m---n      the merge base is commit 5
    #        \\            /
    #         s----------'
    for n in range(30):
        history.commit(f"{n}")
    history.add("s", ["5"], time_ns=6)
    history.add("m", ["29", "s"], time_ns=100)
    history.add("n", ["m"], time_ns=101)
    history.env.update(lambda txn: txn.delete("commits", history.ids["20"]))
    met = [entry.record.message for entry in iter_log(history.refs, history.ids["n"], n=9)]
    assert met == ["n", "m", "29", "28", "27", "26", "25", "24", "23"]
    with pytest.raises(CorruptionError, match=history.ids["20"].hex()):
        list(iter_log(history.refs, history.ids["n"]))


@pytest.mark.parametrize("by_line", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_the_order_is_that_of_the_whole_graph_sorted_at_once(history, seed, by_line):
    rng = random.Random(seed)
    parents_of: dict[str, str] = {}
    for n in range(30):
        known = sorted(parents_of)[-rng.choice([2, 6, 30]) :]
        parents_of[chr(65 + n)] = "".join(rng.sample(known, k=min(len(known), rng.choice([1, 1, 2, 3]))))
    history.add_all(parents_of, times={name: rng.randrange(20) for name in parents_of})
    names = {commit_id: name for name, commit_id in history.ids.items()}
    tips = rng.sample(sorted(parents_of), k=3)
    walked = [
        names[met.commit_id] for met in iter_log(history.refs, [history.ids[tip] for tip in tips], line_by_line=by_line)
    ]
    assert walked == sort_whole(history, parents_of, tips, by_line=by_line)


def sort_whole(history, parents_of, tips, *, by_line):
    reached, todo = set(), list(tips)
    while todo:
        name = todo.pop()
        reached.add(name)
        todo.extend(parents_of[name])
    records = {name: history.refs.get_commit(history.ids[name]) for name in reached}
    age = lambda name: (records[name].time_ns, history.ids[name])  # noqa: E731
    children = {name: sum(parents_of[other].count(name) for other in reached) for name in reached}
    ready = [tip for tip in sorted(tips, key=age) if not children[tip]]
    found = []
    while ready:
        if not by_line:
            ready.sort(key=age)
        name = ready.pop()
        found.append(name)
        for parent in parents_of[name]:
            children[parent] -= 1
            if not children[parent]:
                ready.append(parent)
    return found


def test_times_of_a_line_do_not_matter(history):
    for n in range(10):
        history.commit(f"{n}", time_ns=-n)
    walked = [int(met.record.message) for met in iter_log(history.refs, history.ids["9"])]
    assert all(newer > older for newer, older in pairwise(walked))


def test_ancestry(history):
    history.add_all({"a": "", "b": "a", "c": "a", "m": "bc", "x": ""})
    ids = history.ids
    assert is_ancestor(history.refs, ids["a"], ids["m"])
    assert is_ancestor(history.refs, ids["m"], ids["m"])
    assert not is_ancestor(history.refs, ids["m"], ids["a"])
    assert not is_ancestor(history.refs, ids["b"], ids["c"])
    assert not is_ancestor(history.refs, ids["x"], ids["m"])
    assert not is_ancestor(history.refs, CommitId(bytes(32)), ids["m"])
