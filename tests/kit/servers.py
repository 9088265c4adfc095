"""Real servers on loopback for the tests: S3 by moto, static files by nginx, and a proxy that misbehaves on demand."""

from __future__ import annotations

import base64
import fcntl
import functools
import hashlib
import hmac
import http.client
import logging
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BUCKET = "bucket"


@contextmanager
def start_s3() -> Iterator[str]:
    """The endpoint of an S3 server that has `BUCKET`, empty."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _make_conditional_puts_atomic(server)
    host, port = server.get_host_and_port()
    try:
        request = urllib.request.Request(f"http://{host}:{port}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def _make_conditional_puts_atomic(server: Any) -> None:
    """Let no two `If-None-Match` puts run at once: moto looks and puts in two steps, where S3 has one."""
    app, turn = server._server.app, threading.Lock()

    def take_turns(environ: dict[str, Any], start_response: Any) -> Any:
        with turn if "HTTP_IF_NONE_MATCH" in environ else nullcontext():
            return app(environ, start_response)

    server._server.app = take_turns


def find_nginx() -> str | None:
    """The nginx program, if the machine has it."""
    return shutil.which("nginx") or next((path for path in ("/usr/sbin/nginx",) if Path(path).exists()), None)


@contextmanager
def serve_files(root: Path, scratch: Path) -> Iterator[str]:
    """The URL under which nginx serves the files in `root`."""
    program = find_nginx()
    assert program is not None
    port = find_port()
    config = scratch / "nginx.conf"
    scratch.mkdir(parents=True, exist_ok=True)
    config.write_text(
        f"daemon off; master_process off; pid {scratch}/pid; error_log {scratch}/error.log;\n"
        "events {}\n"
        f"http {{ access_log off; client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;\n"
        f"fastcgi_temp_path {scratch}/f; uwsgi_temp_path {scratch}/u; scgi_temp_path {scratch}/s;\n"
        f"server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
    )
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    process = subprocess.Popen([program, "-c", str(config), *user], stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def serve_plainly(root: Path, *, has_ranges: bool) -> Iterator[str]:
    """The URL under which Python's own web server serves the files in `root`, in parts only if it `has_ranges`."""
    handler = functools.partial(_PlainHandler if has_ranges else _QuietHandler, directory=str(root))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _QuietHandler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _PlainHandler(_QuietHandler):
    def do_GET(self) -> None:
        path, wanted = Path(self.translate_path(self.path)), self.headers.get("Range")
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) + 1, len(content))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(content[start:stop])


AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # Azurite's own


def find_azurite() -> Path | None:
    """Azurite's blob server, Microsoft's emulator of Azure storage: from the cache, else from npm, else None."""
    cache = Path(os.environ.get("STOCKROOM_MATERIAL", "~/.cache/stockroom-material")).expanduser() / "azurite"
    program = cache / "node_modules/azurite/dist/src/blob/main.js"
    if shutil.which("node") is None:
        return None
    if not program.exists() and shutil.which("npm") is not None:
        cache.mkdir(parents=True, exist_ok=True)
        with suppress(OSError, subprocess.SubprocessError), (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not program.exists():
                command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "azurite@3"]
                subprocess.run(command, cwd=cache, check=True, capture_output=True, timeout=240)
    return program if program.exists() else None


@contextmanager
def start_azure(program: Path) -> Iterator[str]:
    """The endpoint of an Azure blob server that has the container `BUCKET`, empty."""
    port = find_port()
    options = ["--silent", "--skipApiVersionCheck", "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort"]
    process = subprocess.Popen(["node", str(program), *options, str(port)], stdout=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    try:
        wait_for_port(port)
        _make_container(endpoint)
        yield endpoint
    finally:
        process.terminate()
        process.wait(10)


def _make_container(endpoint: str) -> None:
    """Azure's shared key signature, by hand: our own client makes no containers."""
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    names = f"x-ms-date:{now}\nx-ms-version:2021-08-06\n/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
    signed = hmac.new(base64.b64decode(AZURE_KEY), f"PUT{chr(10) * 12}{names}".encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": now,
        "x-ms-version": "2021-08-06",
        "Authorization": f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(signed).decode()}",
    }
    request = urllib.request.Request(f"{endpoint}/{BUCKET}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request, timeout=30).close()


def find_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Return once somebody listens there."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.01)
    raise TimeoutError(f"nobody listens on port {port}")


@dataclass
class Rule:
    """What happens to requests whose method and path it fits, for so many of them (None: all)."""

    pattern: str
    act: Callable[[Exchange], None]
    times: int | None = None


@dataclass
class Exchange:
    """One request and its answer on their way through the proxy; what a rule changes is what the client gets."""

    method: str
    path: str
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    cut_after: int | None = None
    """How many bytes of the body are sent before the connection is cut; the length promised stays."""


class Proxy:
    """A proxy in front of a server, which passes everything on until it is told otherwise."""

    def __init__(self, target_url: str, *, drop_headers: Collection[str] = ()) -> None:
        self._drop_headers = {"connection", *drop_headers}
        self._target = urlsplit(target_url).netloc
        self.rules: list[Rule] = []
        self.requests: list[tuple[str, str, str]] = []
        """Method, path, and the Range header of every request."""
        self.released = threading.Event()
        self._lock = threading.Lock()
        handler = functools.partial(_Handler, proxy=self)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, pattern: str, act: Callable[[Exchange], None], times: int | None = None) -> None:
        """Do `act` to answers whose `METHOD /path` the pattern is found in."""
        with self._lock:
            self.rules.append(Rule(pattern, act, times))

    def clear(self) -> None:
        """Pass everything on again."""
        with self._lock:
            self.rules = []

    def find_rule(self, exchange: Exchange) -> Rule | None:
        with self._lock:
            for rule in self.rules:
                if rule.times != 0 and re.search(rule.pattern, f"{exchange.method} {exchange.path}"):
                    rule.times = None if rule.times is None else rule.times - 1
                    return rule
        return None

    def forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> Exchange:
        """The server's answer."""
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() not in self._drop_headers}
            connection.request(handler.command, handler.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            exchange = Exchange(handler.command, handler.path, answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()
        return exchange

    def count(self, pattern: str) -> int:
        """How many requests fitted a pattern so far."""
        return sum(1 for method, path, _ in self.requests if re.search(pattern, f"{method} {path}"))

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: object, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(*args)  # type: ignore[arg-type]

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.proxy.requests.append((self.command, self.path, self.headers.get("Range") or ""))
        rule = self.proxy.find_rule(Exchange(self.command, self.path))
        try:
            exchange = self.proxy.forward(self, body)
        except OSError:
            self.close_connection = True
            return
        if rule is not None:
            rule.act(exchange)
        self._answer(exchange)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def _answer(self, exchange: Exchange) -> None:
        with suppress(OSError):
            if exchange.cut_after is not None and exchange.cut_after < 0:  # before a single byte of the answer
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response_only(exchange.status)
            for name, value in exchange.headers:
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = {n.lower(): v for n, v in exchange.headers}.get("content-length")
            is_head = exchange.method == "HEAD"
            self.send_header("Content-Length", length if is_head and length else str(len(exchange.body)))
            self.end_headers()
            if not is_head:
                self.wfile.write(exchange.body[: exchange.cut_after])
            self.wfile.flush()
            if exchange.cut_after is not None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def fail_with(status: int) -> Callable[[Exchange], None]:
    """An answer of that status instead."""

    def act(exchange: Exchange) -> None:
        exchange.status, exchange.headers, exchange.body = status, [], b"<Error><Code>SlowDown</Code></Error>"

    return act


def cut(after: int = -1) -> Callable[[Exchange], None]:
    """The connection cut after so many bytes of the body; below zero before any answer, though all was done."""

    def act(exchange: Exchange) -> None:
        exchange.cut_after = after

    return act


def flip_bit(at: int = -1) -> Callable[[Exchange], None]:
    """One bit of the body flipped."""

    def act(exchange: Exchange) -> None:
        if exchange.body and exchange.status < 300:
            body = bytearray(exchange.body)
            body[at % len(body)] ^= 1
            exchange.body = bytes(body)

    return act
