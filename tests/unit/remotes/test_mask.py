"""Secrets in texts: masked wherever a URL, a header or a variable of the environment holds them."""

from __future__ import annotations

import pytest

from stockroom.remotes.mask import mask_secrets, mask_urls


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("GET http://user:hunter2@host:9/x failed", "GET http://***@host:9/x failed"),
        ("http://hunter2@host", "http://***@host"),
        ("http://user:hun@ter2@host/x", "http://***@host/x"),
        ("'https://host/x?sig=hunter2&a=b#hunter2'", "'https://host/x?***#***'"),
        ("https://host/x#hunter2", "https://host/x#***"),
        ("s3://AKIA:hunter2@bucket/x, and ftp://u:hunter2@h", "s3://***@bucket/x, and ftp://***@h"),
        ("https://host/x@y", "https://host/x@y"),
        ("Ada <ada@example.org>: 3 of 5?", "Ada <ada@example.org>: 3 of 5?"),
        ("data/image/a://b", "data/image/a://b"),
    ],
)
def test_users_queries_and_fragments_of_urls_are_masked(text: str, masked: str) -> None:
    assert mask_urls(text) == masked


@pytest.mark.parametrize("value", ["http://user:hun/t%65r2@host", "user:hun/t%65r2@host", "http://user:hun/ter2@[bad"])
def test_a_password_in_a_url_of_the_environment_is_masked_wherever_it_is(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    for form in ("hun/ter2", value.rpartition(":")[2].partition("@")[0], "hun/ter2"):
        assert mask_urls(f"Port could not be cast: '{form}'") == "Port could not be cast: '***'"


def test_other_variables_do_not_mask_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_KIND", "repository")
    monkeypatch.setenv("PATH_OF_MINE", "/usr/bin:/opt/python@3.11/bin")
    monkeypatch.setenv("DISASTER", "anonymous")
    assert mask_urls("no repository in /opt/python@3.11, anonymous") == "no repository in /opt/python@3.11, anonymous"
    assert mask_secrets("anonymous") == "anonymous"


def test_texts_of_other_libraries_lose_named_secrets_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-session-token")
    text = "Authorization: Bearer, X-Amz-Signature=abc&x=the-session-token, password=p"
    assert mask_secrets(text) == "Authorization: ***, X-Amz-Signature=***&x=***, password=***"
