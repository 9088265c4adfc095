"""Merge bases and ancestry, against an oracle that looks at every pair of commits; and the links they walk along."""

from __future__ import annotations

import random

import msgspec
import pytest

from stockroom.digest import CommitId
from stockroom.errors import CorruptionError, MalformedRecordError
from stockroom.kv import Environment
from stockroom.refs import DATABASES, RefChange, RefStore, count_divergence, is_ancestor, list_merge_bases


def bases(history, ours, theirs):
    names = {commit_id: name for name, commit_id in history.ids.items()}
    mine = [history.ids[name] for name in ours]
    found = list_merge_bases(history.refs, mine[0] if len(mine) == 1 else mine, history.ids[theirs])
    return "".join(sorted(names[commit_id] for commit_id in found))


def list_ancestors(parents_of, *tips):
    """Every commit that leads to one of `tips`, themselves too."""
    found, waiting = set(), list(tips)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += parents_of[name]
    return found


def expect_bases(parents_of, ours, theirs):
    common = list_ancestors(parents_of, *ours) & list_ancestors(parents_of, theirs)
    followed = {name for other in common for name in list_ancestors(parents_of, *parents_of[other])}
    return "".join(sorted(common - followed))


def make_graph(seed, count=30):
    """Names and parents of a random history with several roots, and merges of up to three."""
    rng = random.Random(seed)
    parents_of = {}
    for number in range(count):
        known = sorted(parents_of)
        recent = known[-rng.choice([2, 4, 30]) :]
        parents_of[chr(65 + number)] = "".join(
            rng.sample(recent, k=min(len(recent), rng.choice([0, 1, 1, 1, 2, 2, 3])))
        )
    return parents_of, rng


def test_a_line_has_its_older_commit_as_base(history):
    """a---b---c"""
    history.add_all({"a": "", "b": "a", "c": "b"})
    assert bases(history, "c", "a") == bases(history, "a", "c") == "a"
    assert bases(history, "b", "b") == "b"


def test_a_fork_has_the_last_commit_before_it(history):
    r"""
    a---b---c---d
         \
          e---f
    """
    history.add_all({"a": "", "b": "a", "c": "b", "d": "c", "e": "b", "f": "e"})
    assert bases(history, "d", "f") == "b"


def test_a_branch_merged_before_has_the_commit_that_was_merged(history):
    r"""
    a---b---m---d
     \     /
      c---e---f
    """
    history.add_all({"a": "", "b": "a", "c": "a", "e": "c", "m": "be", "d": "m", "f": "e"})
    assert bases(history, "d", "f") == "e"


def test_a_criss_cross_history_has_two_bases(history):
    r"""
    a---b---d---f
     \   \ /
      \   X
       \ / \
        c---e---g
    """
    history.add_all({"a": "", "b": "a", "c": "a", "d": "bc", "e": "cb", "f": "d", "g": "e"})
    assert bases(history, "f", "g") == "bc"


def test_unrelated_histories_have_no_base(history):
    history.add_all({"a": "", "b": "a", "x": "", "y": "x"})
    assert bases(history, "b", "y") == ""


def test_several_commits_count_as_one_that_merged_them(history):
    r"""
    a---b---c
     \   \
      d   e---f    of c and d together with f: b, not a
    """
    history.add_all({"a": "", "b": "a", "c": "b", "d": "a", "e": "b", "f": "e"})
    assert bases(history, "d", "f") == "a"
    assert bases(history, "cd", "f") == "b"


def test_clocks_that_are_wrong_change_nothing(history):
    r"""
    a---b---c---d      the newer a commit, the earlier it says it was made
         \
          e
    """
    history.add_all({"a": "", "b": "a", "c": "b", "d": "c", "e": "b"}, {"a": 50, "b": 40, "c": 30, "d": 20, "e": 99})
    assert bases(history, "d", "e") == "b"


@pytest.mark.parametrize("seed", range(25))
def test_random_histories_have_the_bases_that_every_pair_looked_at_gives(history, seed):
    parents_of, rng = make_graph(seed)
    history.add_all(parents_of, {name: rng.randrange(-30, 30) for name in parents_of})
    names = sorted(parents_of)
    for ours in names[::3]:
        for theirs in names[::2]:
            assert bases(history, ours, theirs) == expect_bases(parents_of, ours, theirs)
            is_behind = ours in list_ancestors(parents_of, theirs)
            assert is_ancestor(history.refs, history.ids[ours], history.ids[theirs]) == is_behind
    for _ in range(30):
        *ours, theirs = rng.sample(names, k=rng.choice([3, 4]))
        assert bases(history, "".join(ours), theirs) == expect_bases(parents_of, ours, theirs)


@pytest.mark.parametrize("seed", range(3))
def test_a_repository_from_before_there_were_links_gives_the_same(history, seed):
    parents_of, rng = make_graph(seed)
    history.add_all(parents_of)
    pairs = [rng.sample(sorted(parents_of), k=2) for _ in range(40)]
    lost = [history.ids[name] for name in parents_of if rng.random() < 0.7]
    history.env.update(lambda txn: [txn.delete("links", commit_id) for commit_id in lost])
    for ours, theirs in pairs:
        assert bases(history, ours, theirs) == expect_bases(parents_of, ours, theirs)
    assert history.env.view(lambda txn: txn.count("links")) == len(parents_of) - len(lost)


def test_the_first_commit_after_that_makes_the_links_of_all_behind_it(history):
    for number in range(40):
        history.commit(f"{number}")
    history.add("elsewhere", ["3"])
    history.env.update(lambda txn: [txn.delete("links", commit_id) for commit_id in history.ids.values()])
    history.commit("new")
    assert history.env.view(lambda txn: txn.count("links")) == 41
    assert bases(history, ["new"], "elsewhere") == "3"


def test_an_environment_made_without_the_database_of_links_gets_it(tmp_path):
    old = [name for name in DATABASES if name != "links"]
    Environment.open(tmp_path / "refs", databases=old, metasync=False).close()
    with Environment.open(tmp_path / "refs", databases=DATABASES, metasync=False) as env:
        assert list_merge_bases(RefStore(env), CommitId(bytes(32)), CommitId(bytes(32)))


def test_a_commit_whose_parents_are_left_out_ends_the_walk(history):
    """a, which is not here, ---b---c"""
    missing = history.record("a").commit_id
    record = msgspec.structs.replace(history.record("b"), parents=(missing,))
    history.refs.apply(RefChange(kind="fetch", commits=(record,), shallow=(record.commit_id,)))
    history.ids["b"] = record.commit_id
    history.add("c", "b")
    history.add("d", "b")
    assert bases(history, "c", "d") == "b"
    assert not is_ancestor(history.refs, missing, history.ids["c"])


def test_a_missing_commit_is_named(history):
    history.add_all({"a": "", "b": "a", "c": "b", "x": ""})
    history.env.update(lambda txn: txn.delete("links", history.ids["b"]))
    history.env.update(lambda txn: txn.delete("commits", history.ids["b"]))
    with pytest.raises(CorruptionError, match=history.ids["b"].hex()):
        bases(history, "c", "x")


def test_damaged_links_are_found(history):
    history.add_all({"a": "", "b": "a", "c": "b"})
    for commit_id in history.ids.values():
        history.refs.check_link(commit_id)
    history.env.update(lambda txn: txn.put("links", history.ids["c"], b"\x09\0\0\0" + history.ids["b"]))
    with pytest.raises(CorruptionError, match=history.ids["c"].hex()):
        history.refs.check_link(history.ids["c"])
    history.env.update(lambda txn: txn.put("links", history.ids["c"], b"\x03\0\0\0?"))
    with pytest.raises(MalformedRecordError, match="fsck"):
        bases(history, "c", "b")


@pytest.mark.parametrize("seed", range(4))
def test_the_commits_that_only_one_side_has_are_counted(history, seed):
    parents_of, rng = make_graph(seed)
    history.add_all(parents_of)
    for _ in range(40):
        ours, theirs = rng.choices(sorted(parents_of), k=2)
        mine, others = list_ancestors(parents_of, ours), list_ancestors(parents_of, theirs)
        found = count_divergence(history.refs, history.ids[ours], history.ids[theirs])
        assert found == (len(mine - others), len(others - mine), True)


def test_a_count_that_reaches_its_limit_says_so(history):
    """0---1---...---19"""
    history.add_all({str(number): [str(number - 1)] if number else [] for number in range(20)})
    assert count_divergence(history.refs, history.ids["19"], history.ids["3"]) == (16, 0, True)
    ahead, behind, is_whole = count_divergence(history.refs, history.ids["19"], history.ids["3"], limit=8)
    assert (0 < ahead < 9, behind, is_whole) == (True, 0, False)
