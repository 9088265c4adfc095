"""A proxy on loopback that decides where a redirect may go: obstore follows any, and repeats an S3 session token there.

Requests to the remote's own host need not pass the gate. If they do, they are passed on unread.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import threading
import urllib.request
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from stockroom.remotes.transport.environment import RemoteEnvironment

Address: TypeAlias = tuple[str, int]
Rule: TypeAlias = Callable[[str, int], Address | None]
"""Returns the address to connect to for a host and port, or None to refuse them."""

_REFUSAL: Final = b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_HOP: Final = re.compile(rb"\r\n(?:proxy-)?connection:[^\r\n]*", re.IGNORECASE)
_AWS_CREDENTIALS: Final = re.compile(
    r"169\.254\.(169\.254|170\.2|170\.23)|fd00:ec2::(254|23)|sts(\.[a-z0-9-]+)?\.amazonaws\.com(\.cn)?"
)
"""Where AWS gives credentials to the machine itself, to a container, and for the identity of a web service."""

_MAX_HEAD_NBYTES: Final = 64 << 10
_PIECE_NBYTES: Final = 256 << 10
_CONNECT_S: Final = 10.0
_PORTS: Final = {"http": 80, "https": 443}


class RequestGate:
    """Passes requests on as a rule says, and refuses all others. It listens from `open` on, as long as it exists."""

    def __init__(self) -> None:
        self._choose: Rule = lambda *_: None
        self._refused = ""

    def open(self, rule: Rule) -> str:
        """Listen, and return the URL to use as a proxy."""
        self._choose = rule
        listener = socket.create_server(("127.0.0.1", 0))
        weakref.finalize(self, _wake, listener, os.getpid()).atexit = False
        serve = partial(_serve, listener, weakref.ref(self))
        threading.Thread(target=serve, name="stock-gate", daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def bound_redirects(
        self, options: dict[str, Any], url: str, rule: Rule, environment: RemoteEnvironment, *, passes_all: bool
    ) -> None:
        """Let the client with these options follow redirects to the remote's own host and where `rule` allows.

        With `passes_all`, requests to that host pass the gate too, so that it refuses the host's other ports: the
        client repeats a session token there. If the user's environment names a proxy, there is no gate.
        """
        if not is_proxied(url, environment):
            options["proxy_url"] = self.open(rule)
            if not passes_all:
                options["proxy_excludes"] = urlsplit(url).hostname or ""

    def take_refused(self) -> str:
        """Return the host that was last refused, if any, and forget it."""
        refused, self._refused = self._refused, ""
        return refused

    def pass_on(self, client: socket.socket) -> None:
        """Answer one request, then close the connection."""
        with client, suppress(OSError, ValueError):
            head, rest = _read_head(client)
            method, target, version = head.split(b"\r\n", 1)[0].split(b" ")
            is_tunnel = method == b"CONNECT"
            parts = urlsplit(f"//{target.decode()}" if is_tunnel else target.decode())
            host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme or "https"]
            address = self._choose(host, port)
            if address is None:
                self._refused = f"{host}:{port}"
                client.sendall(_REFUSAL)
                return
            with socket.create_connection(address, _CONNECT_S) as server:
                server.settimeout(None)
                if is_tunnel:
                    client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                else:
                    server.sendall(_rewrite(head, method, parts, version))
                server.sendall(rest)
                threading.Thread(target=_pump, args=(client, server), daemon=True).start()
                if not is_tunnel:
                    answer, rest = _read_head(server)
                    client.sendall(_end_after(answer) + rest)
                _pump(server, client)


def _serve(listener: socket.socket, find_gate: Callable[[], RequestGate | None]) -> None:
    with listener, suppress(OSError):  # raised once the gate is gone
        while True:
            client, _ = listener.accept()
            gate = find_gate()
            if gate is None:
                client.close()
                return
            threading.Thread(target=gate.pass_on, args=(client,), daemon=True).start()
            del gate


def _wake(listener: socket.socket, pid: int) -> None:
    """End the wait for connections; in a forked child they are the parent's."""
    if os.getpid() == pid:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def refuse_others(own: str) -> Rule:
    """Return the rule that allows only the server of the URL `own`."""
    parts = urlsplit(own)
    address = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    return lambda host, port: address if (host, port) == address else None


def refuse_but_aws(own: str, environment: RemoteEnvironment) -> Rule:
    """Return the rule that allows the server of the URL `own`, and those that give a machine its AWS credentials."""
    choose_own, given = refuse_others(own), urlsplit(environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")).hostname

    def choose(host: str, port: int) -> Address | None:
        is_source = _AWS_CREDENTIALS.fullmatch(host) is not None or (given is not None and host == given)
        return choose_own(host, port) or ((host, port) if is_source else None)

    return choose


def refuse_private(own: str) -> Rule:
    """Return the rule that allows the server of the URL `own`, and every other with a public address."""
    choose_own = refuse_others(own)

    def choose(host: str, port: int) -> Address | None:
        addresses = resolve(host, port)
        is_public = bool(addresses) and all(ipaddress.ip_address(address).is_global for address in addresses)
        return choose_own(host, port) or ((addresses[0], port) if is_public else None)

    return choose


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host; none if it is unknown."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]).partition("%")[0] for *_, address in found]


def is_proxied(url: str, environment: RemoteEnvironment) -> bool:
    """Return whether the environment names a proxy for a URL, or the settings of the system (of macOS) do."""
    parts, proxies = urlsplit(url), environment.list_proxies()
    if parts.scheme in proxies or "all" in proxies:
        return not urllib.request.proxy_bypass_environment(  # type: ignore[attr-defined]
            parts.hostname or "", proxies
        )
    system = urllib.request.getproxies()
    is_set = parts.scheme in system or "all" in system
    return is_set and not urllib.request.proxy_bypass(parts.hostname or "")


def _read_head(source: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of a request or an answer, and the bytes after it that came with it."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = source.recv(_PIECE_NBYTES)
        if not piece or len(received) > _MAX_HEAD_NBYTES:
            raise ValueError("no head of a message")
        received += piece
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


def _rewrite(head: bytes, method: bytes, parts: SplitResult, version: bytes) -> bytes:
    """Return a request's head as a server takes it, the last one of its connection."""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return b"%s %s %s%s" % (method, path.encode(), version, _end_after(head[head.index(b"\r\n") :]))


def _end_after(head: bytes) -> bytes:
    """Return the head of a message with the note that its connection ends after it."""
    return _HOP.sub(b"", head) + b"\r\nConnection: close\r\n\r\n"


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until the source ends, and then end the target."""
    buffer = memoryview(bytearray(_PIECE_NBYTES))
    with suppress(OSError):
        while count := source.recv_into(buffer):
            target.sendall(buffer[:count])
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
