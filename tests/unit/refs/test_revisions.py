from __future__ import annotations

import random

import pytest

from stockroom.errors import InvalidInputError
from stockroom.refs import iter_log, resolve, resolve_revisions, split_range
from stockroom.refs.changes import create_branch
from stockroom.refs.merge_base import list_unreached


@pytest.fixture
def tangle(history):
    """Forty commits with up to three parents at random, and what each reaches."""
    dice, reached = random.Random(3), {}
    for number in range(40):
        parents = dice.sample([str(n) for n in range(number)], k=min(number, dice.choice([0, 1, 1, 2, 3])))
        history.add(str(number), parents, time_ns=dice.randrange(100))
        reached[str(number)] = {str(number)}.union(*(reached[parent] for parent in parents))
    return history, reached


def name_all(history, ids):
    names = {commit: name for name, commit in history.ids.items()}
    return {names[commit] for commit in ids}


def test_what_one_history_has_and_others_lack_is_their_difference(tangle):
    history, reached = tangle
    dice = random.Random(4)
    for _ in range(60):
        starts, hidden = ([str(dice.randrange(40)) for _ in range(dice.randint(1, 2))] for _ in range(2))
        expected = set().union(*map(reached.get, starts)) - set().union(*map(reached.get, hidden))
        ids = [[history.ids[name] for name in names] for names in (starts, hidden)]
        assert name_all(history, list_unreached(history.refs, *ids)) == expected
        for line_by_line in (False, True):
            walked = list(iter_log(history.refs, ids[0], hidden=ids[1], line_by_line=line_by_line))
            order = [entry.commit_id for entry in walked]
            assert name_all(history, order) == expected
            assert len(order) == len(expected)
            for entry in walked:  # children before parents
                above = [order.index(parent) for parent in entry.record.parent_ids if parent in order]
                assert all(order.index(entry.commit_id) < position for position in above)


def test_words_name_starts_and_what_is_left_out(history):
    """
    a - b - c   main
         \\
          d     dev
    """
    history.add_all({"a": "", "b": "a", "c": "b", "d": "b"})
    history.refs.apply(create_branch("main", at=history.ids["c"]))
    history.refs.apply(create_branch("dev", at=history.ids["d"]))

    def read(*words):
        found = resolve_revisions(history.refs, words, lambda spec: resolve(history.refs, spec, head=history.ids["c"]))
        return tuple("".join(sorted(name_all(history, ids))) for ids in (found.starts, found.hidden))

    assert read("main", "dev") == ("cd", "")
    assert read("main..dev") == ("d", "c")
    assert read("..dev") == ("d", "c")
    assert read("dev..") == ("c", "d")
    assert read("dev", "^main") == ("d", "c")
    assert read("main...dev") == ("cd", "b")
    assert split_range("main") is None
    for wrong in ("a....b", "a..b..c", "a...b..c"):
        with pytest.raises(InvalidInputError, match=r"A\.\.B"):
            split_range(wrong)
