"""Names of exported files: each key has its own, and none leads out of the folder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockroom.shelves.export.file_names import name_file

TEXT = st.text(st.characters(codec=None), max_size=300) | st.text("./%~\\\0 -a", max_size=6)
KEYS = st.integers(-(1 << 63), (1 << 63) - 1) | TEXT


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (7, "7"),
        (-7, "%2D7"),
        ("", "%"),
        ("a.b c-d", "a.b c-d"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("a\0", "a%00"),
        ("ä", "ä"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_a_key_is_written_plainly_where_that_is_safe(key: int | str, name: str) -> None:
    assert name_file(key) == name


def test_dots_are_escaped_where_an_ending_would_be_taken_for_the_format() -> None:
    assert name_file("a.png", keeps_dots=False) == "a%2Epng"


@given(st.sets(TEXT, min_size=2, max_size=8), st.booleans())
def test_different_keys_have_different_names(keys: set[str], keeps_dots: bool) -> None:
    assert len({name_file(key, keeps_dots=keeps_dots) for key in keys}) == len(keys)


@given(st.text("xy", min_size=300, max_size=310), st.text("xy", min_size=300, max_size=310))
def test_names_of_long_keys_that_begin_alike_differ(one: str, other: str) -> None:
    assert (name_file("a" * 200 + one) == name_file("a" * 200 + other)) == (one == other)


@given(KEYS)
def test_a_name_is_one_short_part_of_a_path(key: int | str) -> None:
    name = name_file(key)
    assert 0 < len(name.encode()) <= 180
    assert not set(name) & set("/\\\0")
    assert name[0] not in ".- "
