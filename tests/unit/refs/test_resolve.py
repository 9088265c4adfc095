"""What users type, and the commit they mean."""

from __future__ import annotations

import pytest

from stockroom.errors import AmbiguousRefError, RefNotFoundError
from stockroom.refs import RefChange, resolve
from stockroom.refs.changes import create_branch, create_tag


@pytest.fixture
def graph(history):
    r"""
    a---b---c---m  main, HEAD
         \     /
          d---e    dev; tag v1 at b
    """
    for name, parents in {"a": "", "b": "a", "c": "b", "d": "b", "e": "d", "m": "ce"}.items():
        history.add(name, parents)
    history.refs.apply(create_branch("main", at=history.ids["m"]))
    history.refs.apply(create_branch("dev", at=history.ids["e"]))
    history.refs.apply(create_tag("v1", at=history.ids["b"]))
    return history


def name_of(graph, spec):
    found = resolve(graph.refs, spec, head=graph.ids["m"])
    return next(name for name, commit_id in graph.ids.items() if commit_id == found)


@pytest.mark.parametrize(
    ("spec", "name"),
    {
        "HEAD": "m",
        "@": "m",
        "main": "m",
        "dev": "e",
        "v1": "b",
        "HEAD~0": "m",
        "HEAD^0": "m",
        "HEAD~": "c",
        "HEAD^": "c",
        "HEAD~1": "c",
        "HEAD~2": "b",
        "HEAD~~": "b",
        "HEAD^^": "b",
        "HEAD~3": "a",
        "@~3": "a",
        "main^1": "c",
        "main^2": "e",
        "main^2~1": "d",
        "main^2^": "d",
        "main^2~2^": "a",
        "dev~2": "b",
        "v1~1": "a",
        "v1^0~1^0": "a",
    }.items(),
)
def test_names_and_steps(graph, spec, name):
    assert name_of(graph, spec) == name


def test_steps_follow_a_digest_too(graph):
    assert name_of(graph, graph.ids["m"].hex()[:20] + "^2~1") == "d"


@pytest.mark.parametrize("spec", ["HEAD~4", "main^3", "v1^2", "v1~2", "dev^2", "HEAD~999999999"])
def test_a_step_past_the_end_of_history_leads_nowhere(graph, spec):
    with pytest.raises(RefNotFoundError, match="does not exist"):
        name_of(graph, spec)


@pytest.mark.parametrize(
    "spec",
    ["", "~1", "^", "nothing", "main~x", "main^-1", "main@{1}", "a b", "HEAD~1x", "\ud800", "é", "x" * 1000, "head"],
)
def test_what_names_nothing_is_not_found(graph, spec):
    with pytest.raises(RefNotFoundError):
        name_of(graph, spec)


def test_near_names_are_offered(graph):
    with pytest.raises(RefNotFoundError, match="did you mean 'main'") as caught:
        name_of(graph, "mian")
    assert caught.value.near == ("main",)
    assert caught.value.ref == "mian"


def test_head_of_a_repository_without_commits(history):
    with pytest.raises(RefNotFoundError, match="no commit yet"):
        resolve(history.refs, "HEAD", head=None)


@pytest.mark.parametrize("n", range(1, 65))
def test_prefixes_of_one_to_sixty_four_digits(graph, n):
    digits = graph.ids["d"].hex()[:n]
    for spec in (digits, digits.upper()):
        if n < 4:
            with pytest.raises(RefNotFoundError, match="at least 4 digits"):
                name_of(graph, spec)
        else:
            assert name_of(graph, spec) == "d"


@pytest.mark.parametrize("n", [65, 100])
def test_more_digits_than_a_digest_has_name_nothing(graph, n):
    with pytest.raises(RefNotFoundError):
        name_of(graph, (graph.ids["d"].hex() * 2)[:n])


def test_a_full_digest_that_is_not_here(graph):
    with pytest.raises(RefNotFoundError):
        name_of(graph, "0" * 64)


def test_a_branch_goes_before_a_tag_and_both_before_a_digest(graph):
    prefix = graph.ids["a"].hex()[:6]
    graph.refs.apply(create_tag(prefix, at=graph.ids["c"]))
    assert name_of(graph, prefix) == "c"
    graph.refs.apply(create_branch(prefix, at=graph.ids["d"]))
    assert name_of(graph, prefix) == "d"


def commits_sharing_a_prefix(history, digits):
    """Add many commits; ids of those that share their first digits with another's."""
    records = [history.record(f"commit {n}") for n in range(600)]
    history.refs.apply(RefChange(kind="test", commits=tuple(records)))
    by_prefix: dict[str, list[str]] = {}
    for record in records:
        full = record.commit_id.hex()
        by_prefix.setdefault(full[:digits], []).append(full)
    return {prefix: sorted(ids) for prefix, ids in by_prefix.items() if len(ids) > 1}


def test_an_ambiguous_prefix_lists_its_candidates_and_more_digits_settle_it(history):
    shared = commits_sharing_a_prefix(history, 4)
    assert shared  # 600 deterministic commits: two of them share four digits
    for prefix, ids in shared.items():
        for spec in (prefix, prefix.upper()):
            with pytest.raises(AmbiguousRefError, match="give more digits") as caught:
                resolve(history.refs, spec, head=None)
            assert sorted(caught.value.candidates) == ids
        for full in ids:
            digits = next(n for n in range(4, 65) if sum(other.startswith(full[:n]) for other in ids) == 1)
            assert resolve(history.refs, full[:digits], head=None).hex() == full


def test_odd_numbers_of_digits_tell_apart_what_differs_in_half_a_byte(history):
    shared = commits_sharing_a_prefix(history, 4)
    ids = next(ids for ids in shared.values() if ids[0][4] != ids[1][4])
    assert resolve(history.refs, ids[0][:5], head=None).hex() == ids[0]
    assert resolve(history.refs, ids[1][:5], head=None).hex() == ids[1]
