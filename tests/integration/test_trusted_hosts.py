"""Credentials go to hosts that the user named, and to no other; other hosts are not even contacted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.kit.gitting import ENVIRONMENT, git
from tests.kit.programs import run_stock
from tests.kit.strangers import Stranger, run_stranger

from stockroom import StockRoom

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
    "AWS_SESSION_TOKEN": "the-session-token",
    "AZURE_STORAGE_ACCOUNT_NAME": "account",
    "AZURE_STORAGE_ACCOUNT_KEY": "dGhlLWtleQ==",
    "STOCKROOM_FETCH_TIMEOUT": "2",
}


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    with run_stranger() as server:
        yield server


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has credentials, and has named no host."""
    for name, value in {**SECRETS, "XDG_STATE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AZURE_STORAGE_ENDPOINT", "STOCKROOM_TRUSTED_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    service = {"type": "service_account", "private_key": "x", "client_email": "a@b", "private_key_id": "1"}
    (tmp_path / "key.json").write_text(json.dumps(service | {"gcs_base_url": "", "disable_oauth": True}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    return tmp_path / "home"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A metadata-only clone as it might come in an archive."""
    with StockRoom.init(tmp_path / "source") as source:
        with source.enable_write("First"):
            source.data["image"] = np.arange(4096, dtype=np.uint8).reshape(4, 32, 32)
        source.add_remote("origin", str(tmp_path / "remote"))
        source.push()
    StockRoom.clone(str(tmp_path / "remote"), tmp_path / "foreign", metadata_only=True).close()
    return tmp_path / "foreign"


def put_remote(folder: Path, url: str, endpoint: str | None, name: str = "origin") -> None:
    settings = {name: {"url": url, "endpoint_url": endpoint, "region": None}}
    (folder / ".stockroom/remotes.json").write_text(json.dumps(settings))


def list_kinds(stranger: Stranger) -> list[tuple[str, str | None]]:
    return [
        ("s3://bucket/x", stranger.url),
        ("gs://bucket/x", stranger.url),
        ("az://bucket/x", stranger.url),
        (f"{stranger.url}/x", None),
    ]


VERBS = ["fetch", "pull", "push", "show data/image/1", "cat data/image/1", "ls --preview data/image", "prefetch",
         "drop --all", "export data/image --to out.npy", "gc --remote origin --dry-run", "fsck --repair"]  # fmt: skip


@pytest.mark.parametrize("kind", range(4))
def test_a_host_that_a_folder_names_is_not_contacted(foreign: Path, stranger: Stranger, kind: int) -> None:
    put_remote(foreign, *list_kinds(stranger)[kind])
    for verb in VERBS if kind == 0 else ["fetch", "cat data/image/1"]:
        done = run_stock(foreign, *verb.split())
        assert "the-session-token" not in done.stdout + done.stderr
        if verb.split()[0] in ("fetch", "pull", "show", "cat", "prefetch"):
            assert done.returncode == 12, (verb, done.stderr)
            assert f"remote 'origin' is on {stranger.url}, a host that only this folder's settings name" in done.stderr
            assert "run `stock remote trust origin`" in done.stderr
    assert stranger.requests == []


def test_python_code_that_reads_contacts_no_host_that_a_folder_names(foreign: Path, stranger: Stranger) -> None:
    put_remote(foreign, "s3://bucket/x", stranger.url)
    with StockRoom(foreign) as stock, pytest.raises(Exception, match="stock remote trust origin"):
        stock.data["image"][1]
    assert stranger.requests == []


def test_a_host_is_contacted_once_it_is_trusted(foreign: Path, stranger: Stranger, tmp_path: Path) -> None:
    put_remote(foreign, "s3://bucket/x", stranger.url)
    assert run_stock(foreign, "fetch").returncode == 12
    done = run_stock(foreign, "remote", "trust", "origin")
    assert (done.returncode, done.stderr) == (0, f"{stranger.url} is now trusted\n")
    done = run_stock(foreign, "fetch")
    assert "nothing was ever pushed" in done.stderr or done.returncode != 12
    assert any("x-amz-security-token" in headers for _, headers in stranger.requests)
    named = tmp_path / "state/stockroom/trusted-hosts"
    assert named.read_text() == f"{stranger.url}\n"
    assert (named.stat().st_mode & 0o777, named.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert not [path for path in foreign.rglob("*") if path.is_file() and "trusted" in path.name]


def test_the_user_names_a_host_on_the_command_line(foreign: Path, stranger: Stranger) -> None:
    (foreign / ".stockroom/remotes.json").unlink()
    assert run_stock(foreign, "remote", "add", "own", "s3://bucket/x", "--endpoint-url", stranger.url).returncode == 0
    assert stranger.requests == []
    run_stock(foreign, "fetch", "own")
    assert stranger.requests


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "STOCKROOM_TRUSTED_HOSTS"])
def test_the_user_names_a_host_in_the_environment(
    foreign: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    put_remote(foreign, "s3://bucket/x", stranger.url)
    host = f"example.org, 127.0.0.1:{stranger.server_port}" if variable.startswith("STOCKROOM") else stranger.url
    monkeypatch.setenv(variable, host)
    run_stock(foreign, "fetch")
    assert stranger.requests


def test_another_port_or_host_is_another_server(
    foreign: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCKROOM_TRUSTED_HOSTS", f"127.0.0.1 127.0.0.1:1 https{stranger.url[4:]}")
    put_remote(foreign, "s3://bucket/x", stranger.url)
    assert run_stock(foreign, "fetch").returncode == 12
    assert stranger.requests == []


@pytest.mark.parametrize(
    ("url", "endpoint", "region"),
    [
        ("s3://bucket/x", "http://trusted.example\\@127.0.0.1/", None),
        ("s3://bucket/x", "http://trusted.example\\.evil.example/", None),
        ("s3://bucket/x", "http://%31", None),
        ("s3://evil.example\\/x", None, None),
        ("s3://bucket/x", None, "evil.example/"),
        ("s3://bucket/x", None, "us-east-1.evil.example"),
        ("https://trusted.example\\.evil.example/x", None, None),
    ],
)
def test_no_name_of_a_bucket_host_or_region_leads_to_another_host(
    foreign: Path, url: str, endpoint: str | None, region: str | None
) -> None:
    settings = {"origin": {"url": url, "endpoint_url": endpoint, "region": region}}
    (foreign / ".stockroom/remotes.json").write_text(json.dumps(settings))
    assert run_stock(foreign, "fetch").returncode == 15


def test_the_host_in_a_remote_stock_is_contacted_only_if_the_user_names_it(
    tmp_path: Path, foreign: Path, stranger: Stranger
) -> None:
    colleague = tmp_path / "colleague"
    git(tmp_path, "init", "-q", colleague)
    shutil.copy(foreign / "head.stock", colleague)
    (colleague / "remote.stock").write_text(
        f"stockroom remote 1\nurl s3://bucket/x\nendpoint {stranger.url}\nregion -\n"
    )
    environment = {**ENVIRONMENT, **{name: os.environ[name] for name in (*SECRETS, "XDG_STATE_HOME", "HOME")}}
    done = run_stock(colleague, "clone", "--here", env=environment)
    assert done.returncode == 12
    assert f"the data is on {stranger.url}, which remote.stock names" in done.stderr
    command = f"stock clone --here s3://bucket/x --endpoint-url {stranger.url}"
    assert f"run `{command}`" in done.stderr
    assert (stranger.requests, (colleague / ".stockroom").exists()) == ([], False)
    run_stock(colleague, *command.split()[1:], env=environment)
    assert stranger.requests


def test_a_list_that_cannot_be_written_does_not_stop_the_user(
    foreign: Path, stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert run_stock(foreign, "remote", "add", "own", "s3://b/x", "--endpoint-url", stranger.url).returncode == 0
    done = run_stock(foreign, "fetch", "own")
    assert done.returncode == 12
    monkeypatch.setenv("STOCKROOM_TRUSTED_HOSTS", stranger.url)
    run_stock(foreign, "fetch", "own")
    assert stranger.requests


def test_a_name_of_a_remote_is_quoted_in_the_command_to_type(foreign: Path, stranger: Stranger) -> None:
    put_remote(foreign, "s3://bucket/x", stranger.url, name="x; touch y")
    done = run_stock(foreign, "fetch", "x; touch y")
    assert "run `stock remote trust 'x; touch y'`" in done.stderr


@pytest.mark.parametrize("home", ["home", "", None])
def test_a_list_in_the_folder_of_a_stranger_is_none(
    foreign: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    put_remote(foreign, "s3://bucket/x", stranger.url)
    for place in ("~/.local/state", "home/.local/state", "state", ".local/state"):
        (foreign / place / "stockroom").mkdir(parents=True)
        (foreign / place / "stockroom/trusted-hosts").write_text(f"{stranger.url}\n")
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    assert run_stock(foreign, "fetch").returncode == 12
    assert stranger.requests == []
