"""Errors of the agent reach the reader with their class, and nobody with a secret."""

from __future__ import annotations

import pytest

from stockroom import errors
from stockroom.cli.exit_codes import exit_code_of
from stockroom.remotes.agent.fetcher import _make_error
from stockroom.remotes.agent.server import _describe
from stockroom.remotes.transport.environment import RemoteEnvironment

KINDS = [name for name in errors.__all__ if isinstance(getattr(errors, name), type) and name != "DigestMismatchError"]


@pytest.mark.parametrize("name", KINDS)
def test_an_error_keeps_its_class_and_exit_code_on_the_wire(name: str) -> None:
    error = getattr(errors, name)("what happened")
    received = _make_error(_describe(error, []))
    assert type(received) is type(error)
    assert str(received) == "what happened"
    assert exit_code_of(received) == exit_code_of(error)


def test_an_unexpected_error_is_told_and_logged_without_the_secrets_of_any_client(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clients = [
        RemoteEnvironment({"AWS_SESSION_TOKEN": "token-of-ada"}),
        RemoteEnvironment({"https_proxy": "http://grace:her-password@proxy"}),
    ]
    told = _describe(ValueError("between token-of-ada and her-password"), clients)
    assert told.message == "the fetch agent failed: ValueError: between *** and ***"
    logged = capsys.readouterr().err
    assert "ValueError: between *** and ***" in logged
    assert "token-of-ada" not in logged
    assert "her-password" not in logged
