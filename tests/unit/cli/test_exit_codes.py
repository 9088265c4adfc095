"""Every error has an exit code, and the documented numbers stand."""

from __future__ import annotations

import inspect

import pytest

from stockroom import errors
from stockroom.cli.exit_codes import CODE_BY_ERROR, exit_code_of
from stockroom.cli.failures import CommandLineError, exit_code_of_failure

ALL_ERRORS = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.StockroomError)
]


def test_every_stockroom_error_is_in_the_table() -> None:
    assert {kind.__name__ for kind in ALL_ERRORS} == set(errors.__all__)
    assert set(ALL_ERRORS) == set(CODE_BY_ERROR)


def test_an_error_class_of_a_plug_in_gets_the_code_of_its_nearest_known_base() -> None:
    class BrokenMirrorError(errors.UnreachableError):
        pass

    assert exit_code_of(BrokenMirrorError("gone")) == 13


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.StockroomError("x"), 1),
        (errors.NothingToCommitError("x"), 1),
        (ValueError("x"), 1),
        (OSError("x"), 1),
        (CommandLineError("x"), 2),
        (errors.RepositoryNotFoundError("x"), 10),
        (errors.LockedError("x"), 11),
        (errors.AuthenticationError("x"), 12),
        (errors.UnreachableError("x"), 13),
        (errors.TimeoutError("x"), 13),
        (errors.RefChangedError("x"), 14),
        (errors.MergeConflictError("x"), 14),
        (errors.DigestMismatchError("00", "11", where="pack"), 15),
        (KeyboardInterrupt(), 130),
    ],
)
def test_documented_codes_stand(error: BaseException, code: int) -> None:
    assert exit_code_of_failure(error) == code
