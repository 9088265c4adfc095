"""Redirects: not followed with credentials, and not to another private server at all."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.kit.strangers import Stranger, run_stranger

from stockroom.errors import RemoteError
from stockroom.remotes.transport.environment import read_environment
from stockroom.remotes.transport.gate import RequestGate, is_proxied, refuse_but_aws, refuse_others, refuse_private
from stockroom.remotes.transport.object_store import ObjectStoreTransport
from stockroom.remotes.transport.url import RemoteSettings


@pytest.fixture
def named() -> Iterator[Stranger]:
    """The server that the user named."""
    with run_stranger() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Stranger]:
    """A server that it sends clients to."""
    with run_stranger() as server:
        server.content = b"other"
        yield server


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "the-session-token")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "dGhlLWtleQ==")


def open_kind(kind: str, server: Stranger) -> ObjectStoreTransport:
    url = f"{server.url}/data" if kind == "http" else f"{kind}://bucket/x"
    return ObjectStoreTransport(RemoteSettings(url, None if kind == "http" else server.url))


@pytest.mark.parametrize("kind", ["s3", "az", "http"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_port_of_a_private_host_is_not_followed(
    named: Stranger, other: Stranger, kind: str, status: int
) -> None:
    named.redirect = status, f"{other.url}/x"
    transport = open_kind(kind, named)
    with pytest.raises(RemoteError, match=r"sends us to 127.0.0.1:[0-9]+, which is not followed"):
        transport.get("a", max_nbytes=100)
    with pytest.raises(RemoteError, match="not followed"):
        transport.get_range("a", 0, 3)
    assert (len(named.requests), other.requests) == (2, [])


@pytest.mark.parametrize("kind", ["s3", "az", "http"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "[::1]", "10.0.0.1", "169.254.169.254", "0x7f.1"])
def test_a_redirect_to_another_private_host_is_not_followed_without_a_token_either(
    named: Stranger, other: Stranger, kind: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    named.redirect = 302, f"http://{host}:{other.server_port}/x"
    with pytest.raises(RemoteError, match="not followed"):
        open_kind(kind, named).get("a", max_nbytes=100)
    assert other.requests == []


@pytest.mark.parametrize("kind", ["s3", "az", "http"])
def test_a_tunnel_to_another_host_is_refused_too(named: Stranger, other: Stranger, kind: str) -> None:
    named.redirect = 302, f"https://localhost:{other.server_port}/x"
    with pytest.raises(RemoteError, match="not followed"):
        open_kind(kind, named).get("a", max_nbytes=100)
    assert other.requests == []


@pytest.mark.parametrize("kind", ["s3", "az", "http"])
def test_a_redirect_on_the_same_server_is_followed(named: Stranger, kind: str) -> None:
    named.redirect, named.content = (307, f"{named.url}/elsewhere"), b"0123456789"
    assert open_kind(kind, named).get("a", max_nbytes=100) == b"0123456789"
    assert [path for path, _ in named.requests][1:] == ["/elsewhere"]


@pytest.mark.parametrize("kind", ["s3", "az", "http"])
def test_what_passes_the_gate_arrives_as_it_was_sent(named: Stranger, kind: str) -> None:
    named.content = os.urandom(5 << 20)
    transport = open_kind(kind, named)
    assert transport.get("a", max_nbytes=6 << 20) == named.content
    assert bytes(transport.get_range("a", 1000, 3 << 20)) == named.content[1000 : 3 << 20]
    threads = [threading.Thread(target=transport.get_range, args=("a", n, n + 100)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(named.requests) == 22
    if kind == "s3":
        transport.put("b", named.content)
        assert named.received[-1] == named.content
        assert all(headers["x-amz-security-token"] == "the-session-token" for _, headers in named.requests)


def test_a_proxy_of_the_users_is_left_to_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_proxied("http://example.org", read_environment())
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example.org")
    assert is_proxied("http://example.org", read_environment())
    assert not is_proxied("https://example.org", read_environment())
    assert not is_proxied("http://inside.example.org", read_environment())


def test_a_tunnel_carries_bytes_both_ways() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        gate = RequestGate()
        url = gate.open(refuse_others(f"https://127.0.0.1:{port}"))
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 10) as client:
            client.sendall(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\nearly" % port)
            inside, _ = server.accept()
            with inside:
                assert client.recv(100) == b"HTTP/1.1 200 Connected\r\n\r\n"
                assert inside.recv(5) == b"early"
                inside.sendall(b"answer")
                assert client.recv(6) == b"answer"


@pytest.mark.parametrize("request_", [b"", b"GET\r\n\r\n", b"GET http://[ HTTP/1.1\r\n\r\n", b"x" * 200_000])
def test_a_request_that_is_none_is_dropped(request_: bytes) -> None:
    gate = RequestGate()
    url = gate.open(refuse_private("https://example.org"))
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 10) as client:
        try:
            client.sendall(request_)
            with suppress(OSError):  # not connected: it was dropped already
                client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
        except ConnectionError:
            pass


def test_an_s3_client_may_ask_the_hosts_that_give_a_machine_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.9:5/x")
    rule = refuse_but_aws("http://192.168.0.1:9000", read_environment())
    for host in ("169.254.169.254", "169.254.170.2", "sts.amazonaws.com", "sts.eu-west-1.amazonaws.com", "127.0.0.9"):
        assert rule(host, 80) == (host, 80)
    for host in ("169.254.1.1", "sts.amazonaws.com.evil.example", "x.sts.amazonaws.com", "192.168.0.1", "127.0.0.1"):
        assert rule(host, 80) is None, host


def test_a_redirect_is_not_followed_with_the_credentials_of_a_role_either(
    named: Stranger, other: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text("x")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{other.url}/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    other.content = b'{"AccessKeyId": "a", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}'
    named.redirect = 302, f"http://localhost:{other.server_port}/x"
    with pytest.raises(RemoteError, match="not followed"):
        open_kind("s3", named).get("a", max_nbytes=100)
    assert [path for path, _ in other.requests] == ["/credentials"]
    assert named.requests[0][1]["x-amz-security-token"] == "t"


def test_only_public_addresses_are_allowed_beside_the_own_one() -> None:
    rule = refuse_private("http://192.168.0.1:8080/data")
    assert rule("192.168.0.1", 8080) == ("192.168.0.1", 8080)
    assert rule("1.1.1.1", 443) == ("1.1.1.1", 443)
    for host in ("192.168.0.1", "127.0.0.1", "169.254.169.254", "10.1.2.3", "::1", "fe80::1", "0.0.0.0", "100.64.0.1"):
        assert rule(host, 80) is None, host
    assert rule("no-such-host.invalid", 80) is None


def test_a_gate_that_is_gone_listens_no_more_and_leaves_no_thread():
    before, gate = set(threading.enumerate()), RequestGate()
    gate.open(refuse_others("http://127.0.0.1:1"))
    (thread,) = set(threading.enumerate()) - before
    del gate
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()
