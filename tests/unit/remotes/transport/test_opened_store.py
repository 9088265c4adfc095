"""A store takes everything from the environment that it is given, which need not be that of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.kit.strangers import Stranger, run_stranger

from stockroom.errors import AuthenticationError, RemoteError
from stockroom.remotes.transport.environment import RemoteEnvironment
from stockroom.remotes.transport.object_store import ObjectStoreTransport
from stockroom.remotes.transport.opened_store import open_store, read_sources
from stockroom.remotes.transport.url import RemoteSettings


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process has no credentials and no proxy."""
    for name in RemoteEnvironment(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def server() -> Iterator[Stranger]:
    with run_stranger() as running:
        yield running


def ask(server: Stranger, url: str, environment: dict[str, str], *, endpoint: bool = True) -> dict[str, str]:
    """The headers of a request with an environment."""
    settings = RemoteSettings(url, server.url if endpoint else None)
    with suppress(RemoteError):
        ObjectStoreTransport(settings, environment=RemoteEnvironment(environment)).get("a", max_nbytes=10)
    return server.requests[-1][1]


def test_s3_is_asked_with_the_key_and_token_of_the_environment(server: Stranger) -> None:
    for key in ("one", "two"):
        variables = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": f"token-{key}"}
        headers = ask(server, "s3://bucket/x", {**variables, "AWS_DEFAULT_REGION": "eu-north-1", "AWS_ODD": "x"})
        assert f"Credential={key}/" in headers["authorization"]
        assert "/eu-north-1/" in headers["authorization"]
        assert headers["x-amz-security-token"] == f"token-{key}"
    assert "authorization" not in ask(server, "s3://bucket/x", {})


def test_s3_is_asked_at_the_endpoint_of_the_environment(server: Stranger) -> None:
    variables = {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": server.url}
    assert "Credential=one/" in ask(server, "s3://bucket/x", variables, endpoint=False)["authorization"]


def test_google_is_asked_with_the_token_of_the_environment(server: Stranger) -> None:
    assert ask(server, "gs://bucket/x", {"GOOGLE_BEARER_TOKEN": "mine"})["authorization"] == "Bearer mine"


def test_azure_is_asked_with_the_account_of_the_environment(server: Stranger) -> None:
    for account in ("one", "two"):
        variables = {"AZURE_STORAGE_ACCOUNT_NAME": account, "AZURE_STORAGE_ACCOUNT_KEY": "dGhlLWtleQ=="}
        assert f"SharedKey {account}:" in ask(server, "az://bucket/x", variables)["authorization"]


def test_requests_take_the_proxy_of_the_environment(server: Stranger) -> None:
    proxy = server.url.replace("http://", "http://ada:secret@")
    settings = RemoteSettings("http://data.example.org/x")
    server.content = b"proxied"
    transport = ObjectStoreTransport(settings, environment=RemoteEnvironment({"HTTP_PROXY": proxy}))
    assert transport.get("a", max_nbytes=10) == b"proxied"
    path, headers = server.requests[-1]
    assert path == "http://data.example.org/x/a"
    assert headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("url", "variables", "cause"),
    [
        ("s3://bucket/x", {"AWS_ACCESS_KEY_ID": "one"}, "Missing SecretAccessKey"),
        (
            "gs://bucket/x",
            {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/key.json"},
            "Unable to open service account file",
        ),
        ("az://bucket/x", {"AZURE_STORAGE_ACCOUNT_KEY": "dGhlLWtleQ=="}, "Account must be specified"),
    ],
)
def test_credentials_that_are_incomplete_are_an_error_at_once(url: str, variables: dict[str, str], cause: str) -> None:
    transport = ObjectStoreTransport(RemoteSettings(url), environment=RemoteEnvironment(variables))
    with pytest.raises(AuthenticationError, match=f"the credentials cannot be used: .*{cause}"):
        transport.get("a", max_nbytes=10)


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidToken"])
def test_a_bad_request_for_its_credentials_is_a_refusal(server: Stranger, code: str) -> None:
    """S3 answers an expired token with 400, as it does a request that it cannot understand."""
    variables = {"AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "the-token"}
    server.failure = 400, f"<Error><Code>{code}</Code><Message>the-token</Message></Error>".encode()
    settings = RemoteSettings("s3://bucket/x", server.url)
    with pytest.raises(AuthenticationError, match=rf"the server refused the credentials \({code}\)") as refused:
        ObjectStoreTransport(settings, environment=RemoteEnvironment(variables)).get("a", max_nbytes=10)
    assert "the-token" not in str(refused.value)
    server.failure = 400, b"<Error><Code>InvalidRequest</Code><Message>the-token</Message></Error>"
    with pytest.raises(RemoteError, match="400") as failed:
        ObjectStoreTransport(settings, environment=RemoteEnvironment(variables)).get("a", max_nbytes=10)
    assert not isinstance(failed.value, AuthenticationError)
    assert "the-token" not in str(failed.value)


def test_a_store_is_current_until_a_file_with_credentials_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    settings = RemoteSettings("s3://bucket/x")
    variables = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"}
    opened = open_store(settings, read_sources(settings, RemoteEnvironment(variables)))
    assert opened.is_current()
    token.write_text("another")
    assert not opened.is_current()
    assert read_sources(settings, RemoteEnvironment(variables)) != opened.sources
