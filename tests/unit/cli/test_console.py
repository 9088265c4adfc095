"""One answer of a verb: its document with --json, else its lines, and only what is written is made."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from stockroom.cli.console import Console
from stockroom.cli.global_options import OptionValues


def test_with_json_the_answer_is_the_document_and_no_line_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    made: list[str] = []

    def iter_lines() -> Iterator[str]:
        made.append("lines")
        yield "one"

    Console("tag", OptionValues(json=True)).answer(lambda: {"tags": []}, iter_lines)
    assert json.loads(capsys.readouterr().out) == {"version": 1, "command": "tag", "tags": []}
    assert made == []


def test_without_json_the_answer_is_the_lines_and_no_document_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    made: list[str] = []

    def make_document() -> dict[str, object]:
        made.append("document")
        return {}

    Console("tag", OptionValues()).answer(make_document, ["one", "two"])
    assert capsys.readouterr().out == "one\ntwo\n"
    assert made == []


def test_an_answer_without_lines_is_silent_in_text(capsys: pytest.CaptureFixture[str]) -> None:
    Console("undo", OptionValues()).answer({"undone": 1})
    assert capsys.readouterr() == ("", "")
