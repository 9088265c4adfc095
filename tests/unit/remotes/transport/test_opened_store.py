"""A store takes everything from the environment that it is given, which need not be that of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.kit.strangers import Stranger, run_stranger

from stockroom.errors import RemoteError
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
