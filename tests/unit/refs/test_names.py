"""Names of branches and tags: git's rules, checked against git itself, and our own few."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from stockroom.errors import InvalidNameError
from stockroom.refs import check_collision, check_name
from stockroom.refs.names import FoldedNames, find_broken_rule, fold_name

GOOD = [
    "foo",
    "main",
    "heads/foo",
    "foo/bar/baz",
    "foo./bar",
    "foo@bar",
    "heads/foo@bar",
    "a@",
    "@/a",
    "x{y}",
    "feature/über-größe",
    "日本語",
    "v1.0",
    "1234",
    "deadbeef",
    "foo.lockx",
    "lock",
    "head",
    "a-",
    "it's",
    'a"b',
    "a$b;c&d",
    "x" * 200,
]

# As in git's own table of check-ref-format, then what only we refuse.
BAD = {
    "": "empty",
    "/": "'/'",
    "/foo": "'/'",
    "foo/": "'/'",
    "heads/foo/": "'/'",
    "heads//foo": "'//'",
    "refs///heads/foo": "'//'",
    ".": "end with '.'",
    "./foo": "begin with '.'",
    "foo/./bar": "begin with '.'",
    ".foo": "begin with '.'",
    "foo/.bar": "begin with '.'",
    "foo.": "end with '.'",
    "foo/bar.": "end with '.'",
    "heads/foo..bar": "'..'",
    "foo/../bar": "'..'",
    "heads/foo?bar": "~^:?*",
    "foo*": "~^:?*",
    "foo/*/bar": "~^:?*",
    "foo[": "~^:?*",
    "foo~1": "~^:?*",
    "foo^": "~^:?*",
    "a:b": "~^:?*",
    "foo bar": "spaces",
    "foo\tbar": "spaces",
    "foo\x00": "control",
    "foo\x7f": "control",
    "heads\\foo": "~^:?*",
    "heads/foo.lock": "'.lock'",
    "foo.lock/bar": "'.lock'",
    "heads/v@{ation": "'@{'",
    "@": "current commit",
    "HEAD": "current commit",
    "-foo": "flag",
    "--": "flag",
    "ab" * 32: "digest",
    "AB" * 32: "digest",
    "x" * 201: "200 bytes",
    "é" * 101: "200 bytes",
    "a\ud800": "surrogates",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_passes(name):
    check_name("branch", name)


@pytest.mark.parametrize(("name", "rule"), BAD.items())
def test_a_bad_name_is_refused_with_the_rule_it_breaks(name, rule):
    with pytest.raises(InvalidNameError, match="branch name") as caught:
        check_name("branch", name)
    assert rule in str(caught.value)
    assert repr(name) in str(caught.value)


PIECES = st.sampled_from([*"ab.@{/~^:?*[\\- \x01\x7fé", ".lock"])


def git_accepts(name):
    return subprocess.run(["git", "check-ref-format", "--allow-onelevel", name], check=False).returncode == 0


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@settings(max_examples=80, deadline=None)
@given(name=st.lists(PIECES, min_size=1, max_size=6).map("".join))
@example(name="a.lock")
@example(name="@")
@example(name="a/.b")
def test_git_agrees_on_every_name_without_a_rule_of_our_own(name):
    assume(not name.startswith("-"))
    assert (find_broken_rule(name) is None) == git_accepts(name)


@pytest.mark.parametrize(
    ("name", "other"),
    [("Main", "main"), ("straße", "STRASSE"), ("caf\u00e9", "cafe\u0301"), ("CAF\u00c9", "cafe\u0301")],
)
def test_names_that_some_file_systems_cannot_tell_apart_collide(name, other):
    with pytest.raises(InvalidNameError, match="differs from the existing"):
        check_collision("tag", name, ["unrelated", other])


def test_other_names_and_the_name_itself_do_not_collide():
    check_collision("branch", "main", ["main", "main2", "feature/main"])


def test_folded_names_find_what_comparing_with_all_finds():
    names = ["Cat", "cat", "caf\u00e9", "cafe\u0301", "dog", "DOG/x", "dog/x"]
    folded = FoldedNames(names)
    for gone in ["", *names]:
        folded.discard(gone)
        here = [name for name in names if name != gone]
        for name in [*names, "CAT", "bird"]:
            expected = {other for other in here if other != name and fold_name(other) == fold_name(name)}
            found = folded.find_colliding(name)
            assert (found in expected) if expected else found is None
        if gone:
            folded.add(gone)
