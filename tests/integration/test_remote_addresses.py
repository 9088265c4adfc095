"""What is wrong with the address of a remote is said in one line, with the exit code of its kind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from stockroom import StockRoom
from stockroom.cli import main
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.url import RemoteSettings


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> object:
    """A function that runs a command and returns the one line that it fails with."""

    def run(code: int, *words: object) -> str:
        assert main([str(word) for word in words]) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("stock: ")
        return line

    return run


@contextmanager
def serve_status(status: int) -> Iterator[str]:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_folder_that_is_not_there_is_unreachable(fail, tmp_path: Path) -> None:
    assert "no such folder" in fail(13, "clone", tmp_path / "none", tmp_path / "clone")
    with StockRoom.init(tmp_path / "a") as stock:
        stock.add_remote("origin", tmp_path / "none")
    for words in (["fetch"], ["pull"], ["fsck", "--remote"]):
        assert "no such folder" in fail(13, "-C", tmp_path / "a", *words)
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "clone").exists()


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
def test_an_endpoint_without_a_scheme_is_named(fail, tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.setenv(name, "localhost:9000")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    assert f"{name}: expected an endpoint" in fail(1, "clone", "s3://bucket/x", tmp_path / "clone")


def test_a_bucket_that_is_not_there_is_named(fail, tmp_path: Path, s3: str) -> None:
    words = ("clone", "s3://nobucket/x", tmp_path / "clone", "--endpoint-url", s3)
    assert "there is no bucket 'nobucket'" in fail(13, *words)


@pytest.mark.parametrize("status", [401, 403])
def test_a_web_server_that_refuses_is_not_offered_keys_of_a_store(fail, tmp_path: Path, status: int) -> None:
    with serve_status(status) as url:
        line = fail(12, "clone", url, tmp_path / "clone")
    assert f"the web server refused ({status})" in line
    assert "AWS" not in line


def test_a_scheme_in_capitals_is_understood(s3: str, tmp_path: Path) -> None:
    with StockRoom.init(tmp_path / "a") as stock, stock.enable_write("One"):
        stock.data["label"] = np.arange(3)
        stock.add_remote("origin", f"S3://bucket/{tmp_path.name}", endpoint_url=s3)
    with StockRoom(tmp_path / "a") as stock:
        stock.push()
        url = stock.get_remote_url("origin")
    assert url == f"s3://bucket/{tmp_path.name}"
    assert b"1" in open_transport(RemoteSettings(url, s3)).get("refs/latest", max_nbytes=10)
