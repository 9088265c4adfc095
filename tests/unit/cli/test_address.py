"""Addresses: REV:data/COLUMN/KEY."""

from __future__ import annotations

import pytest

from stockroom.cli.address import Address, parse_address, parse_key, parse_path_address, split_path
from stockroom.errors import ColumnNotFoundError, InvalidInputError, SampleNotFoundError

COLUMNS = ["image", "image/small", "caption"]


@pytest.mark.parametrize(
    ("text", "ref", "path"),
    [
        ("main", "main", ""),
        ("HEAD~2:data/image/0", "HEAD~2", "data/image/0"),
        (":data/image", "HEAD", "data/image"),
        ("main:", "main", ""),
        ("v1:data/caption/a:b", "v1", "data/caption/a:b"),
        ("v1:data/caption/a/", "v1", "data/caption/a/"),
        ("main:data/", "main", "data/"),
    ],
)
def test_the_first_colon_parts_ref_and_path(text: str, ref: str, path: str) -> None:
    assert parse_address(text) == Address(ref, path)


def test_a_word_without_a_colon_is_a_path_where_contents_are_meant() -> None:
    assert parse_path_address("data/image") == Address("HEAD", "data/image")


def test_a_key_with_a_colon_needs_its_ref_spelt_out() -> None:
    assert parse_path_address("data/caption/a:b") == Address("data/caption/a", "b")
    assert parse_path_address(":data/caption/a:b") == Address("HEAD", "data/caption/a:b")


@pytest.mark.parametrize(
    ("path", "column", "key"),
    [
        ("data", None, None),
        ("data/", None, None),
        ("data/image", "image", None),
        ("data/image/7", "image", "7"),
        ("data/image/small", "image/small", None),
        ("data/image/small/7", "image/small", "7"),
        ("data/image/smaller", "image", "smaller"),
        ("data/caption/x/y z", "caption", "x/y z"),
        ("data/caption/x/", "caption", "x/"),
        ("data/caption/", "caption", ""),
    ],
)
def test_the_longest_column_that_exists_wins(path: str, column: str | None, key: str | None) -> None:
    assert split_path(path, COLUMNS) == (column, key)


def test_an_unknown_column_names_those_near() -> None:
    with pytest.raises(ColumnNotFoundError, match="did you mean image"):
        split_path("data/imagee/0", COLUMNS)


def test_a_path_of_no_shelf_says_what_form_is_expected() -> None:
    with pytest.raises(InvalidInputError, match="data/COLUMN"):
        split_path("image/0", COLUMNS)


@pytest.mark.parametrize("text", ["-1", "0", "4294967297"])
def test_int_keys_are_parsed(text: str) -> None:
    assert parse_key(text, "int", column="image") == int(text)


@pytest.mark.parametrize("text", ["", "x", "1.0", "٣", "1 ", "9" * 21])
def test_a_word_is_no_int_key(text: str) -> None:
    with pytest.raises(SampleNotFoundError, match="int keys"):
        parse_key(text, "int", column="image")


def test_str_keys_stay_as_they_are() -> None:
    assert parse_key("007", "str", column="caption") == "007"
