"""Failures are told in one line, with what to do next."""

from __future__ import annotations

import errno
import json

import pytest

from stockroom.cli import main
from stockroom.cli.failures import message_of, tell_failure
from stockroom.errors import AmbiguousRefError, LockedError


def test_an_error_of_the_system_names_the_file_and_the_next_step() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "packs/aa")
    assert message_of(error) == "packs/aa: No space left on device; free some disk space and run the command again"


def test_a_message_of_many_lines_becomes_one_and_drives_no_terminal() -> None:
    assert message_of(LockedError("held by\n  pid 7 \x1b[2J")) == "held by pid 7 \\x1b[2J"


@pytest.mark.parametrize(
    ("words", "help_command"),
    [("export data/image", "stock export --help"), ("exp plot", "stock exp plot --help"), ("--jsn", "stock --help")],
)
def test_a_wrong_command_line_names_the_help_of_its_verb(
    words: str, help_command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"; see {help_command}")


def test_a_bug_is_called_one() -> None:
    assert message_of(ZeroDivisionError("x")).startswith("internal error, please report it: ZeroDivisionError: x")


def test_json_carries_the_fields_of_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    tell_failure(AmbiguousRefError("two fit", candidates=["aa01", "aa02"]), verbose=False, as_json=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "version": 1,
        "error": {
            "candidates": ["aa01", "aa02"],
            "type": "AmbiguousRefError",
            "message": "two fit",
            "exit_code": 1,
        },
    }


def test_only_verbose_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise LockedError("held")
    except LockedError as error:
        tell_failure(error, verbose=False, as_json=False)
        assert capsys.readouterr().err == "stock: held\n"
        tell_failure(error, verbose=True, as_json=False)
        assert "Traceback" in capsys.readouterr().err
