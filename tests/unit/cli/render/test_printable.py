"""Texts of strangers in CSV and Markdown."""

from __future__ import annotations

import pytest

from stockroom.cli.render.printable import escape_markdown, quote_formula


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "=1"])
def test_a_cell_that_a_spreadsheet_would_run_begins_with_an_apostrophe(text: str) -> None:
    assert quote_formula(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "-1", "-1.5e-3", "+3", "-inf", "nan", "a=b", "run-1", "1 + 1"])
def test_numbers_and_other_text_stay_as_they_are(text: str) -> None:
    assert quote_formula(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("val_loss 0.5 -", "val_loss 0.5 -"),
        ("a | b", r"a \| b"),
        ("<script>&amp;", "&lt;script&gt;&amp;amp;"),
        ("![x](http://y)", r"\!\[x\](http://y)"),
        ("`code` *em* _em_ ~~s~~", r"\`code\` \*em\* \_em\_ \~\~s\~\~"),
        ("\\|", r"\\\|"),
        ("two\nlines\x1b\u202e", r"two\\nlines\\x1b\\u202e"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped
