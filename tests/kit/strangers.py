"""A server on loopback that writes down every request, and has no files; it may send clients elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Stranger(ThreadingHTTPServer):
    """Answers 404, or with the status and location in `redirect`, or with `content`, or with `failure`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.redirect: tuple[int, str] | None = None
        self.content: bytes | None = None
        self.failure: tuple[int, bytes] | None = None
        self.received: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stranger

    def do_GET(self) -> None:
        self.server.received.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        content = b""
        if self.server.redirect is not None and self.path != "/elsewhere":
            self.send_response(self.server.redirect[0])
            self.send_header("Location", self.server.redirect[1])
        elif self.server.failure is not None:
            status, content = self.server.failure
            self.send_response(status)
        elif self.server.content is not None:
            content, start, stop = self.server.content, 0, len(self.server.content)
            if "Range" in self.headers:
                start, stop = (int(n) for n in self.headers["Range"].removeprefix("bytes=").split("-"))
                stop += 1
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
            self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
            self.send_header("ETag", '"x"')
            content = content[start:stop]
        else:
            self.send_response(404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def run_stranger() -> Iterator[Stranger]:
    """A stranger that serves while the block runs."""
    with Stranger() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
