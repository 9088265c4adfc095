"""The variables that remotes read: these and no others, absolute, and shown to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockroom.remotes.transport.environment import RemoteEnvironment, read_environment

READ = [
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_STORAGE_KEY",
    "https_proxy",
    "NO_PROXY",
    "HOME",
    "XDG_STATE_HOME",
    "STOCKROOM_TRUSTED_HOSTS",
    "IDENTITY_ENDPOINT",
]
OTHERS = ["PATH", "RANK", "HF_TOKEN", "VAULT_TOKEN", "MY_AWS_KEY", "HOMEPAGE", "STOCKROOM_FETCH_TIMEOUT"]


@pytest.mark.parametrize("name", READ)
def test_a_variable_that_remotes_read_is_kept(name: str) -> None:
    assert dict(RemoteEnvironment({name: "x"})) == {name: "x"}


@pytest.mark.parametrize("name", OTHERS)
def test_a_variable_that_they_do_not_read_is_left_out(name: str) -> None:
    assert dict(RemoteEnvironment({name: "x"})) == {}


def test_the_same_variables_are_one_key_whatever_else_differs() -> None:
    one, other = (
        RemoteEnvironment({"AWS_PROFILE": "a", "RANK": "0"}),
        RemoteEnvironment({"RANK": "1", "AWS_PROFILE": "a"}),
    )
    assert {one: 1}[other] == 1
    assert one != RemoteEnvironment({"AWS_PROFILE": "b"})


def test_values_are_not_in_its_repr() -> None:
    assert "secret" not in repr(RemoteEnvironment({"AWS_SECRET_ACCESS_KEY": "secret"}))


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_CONFIG_FILE", "mine/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "~/credentials")
    monkeypatch.setenv("AWS_PROFILE", "relative/name")
    monkeypatch.setenv("HOME", "/home/ada")
    read = read_environment()
    assert read["AWS_CONFIG_FILE"] == str(tmp_path / "mine/config")
    assert read["AWS_PROFILE"] == "relative/name"
    assert read.list_files("AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "X:~/x") == [
        Path("/home/ada/credentials"),
        Path("/home/ada/x"),
    ]


def test_a_user_without_the_variable_has_a_home_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    assert read_environment()["HOME"].startswith("/")


def test_lower_case_names_the_proxy_and_an_empty_one_is_none() -> None:
    given = {
        "HTTP_PROXY": "http://a",
        "http_proxy": "http://b",
        "HTTPS_PROXY": "http://c",
        "https_proxy": "",
        "no_proxy": "d",
    }
    assert RemoteEnvironment(given).list_proxies() == {"http": "http://b", "no": "d"}
