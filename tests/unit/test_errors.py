"""The words of errors: names near to one that is not there."""

from __future__ import annotations

from stockroom.errors import did_you_mean, near_names


def test_near_names_come_nearest_first_and_no_more_than_asked_for() -> None:
    known = ["label", "labels", "lable", "image"]
    assert near_names("labels", known) == ["labels", "label", "lable"]
    assert near_names("labels", known, 1) == ["labels"]


def test_a_name_unlike_all_others_has_none_near_to_it() -> None:
    assert near_names("zzz", {"label", "image"}) == []


def test_the_question_names_each_quoted_as_asked_and_is_empty_without_names() -> None:
    assert did_you_mean(["a b", "c"]) == "did you mean 'a b' or 'c'?"
    assert did_you_mean(["main"], quote=str) == "did you mean main?"
    assert did_you_mean([]) == ""
