"""Transports for tests and benchmarks: one that counts, and one that fails as networks do."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from stockroom.digest import Buffer, view_bytes
from stockroom.errors import UnreachableError
from stockroom.remotes.transport.protocol import CLOCK_PATH, PutSource, StoredFile, Transport


class CountingTransport:
    """Passes everything on, and counts requests by kind and the bytes that go each way."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.paths: list[tuple[str, str]] = []
        self.received_nbytes = 0
        self.sent_nbytes = 0
        self.late_s = 0

    @property
    def url(self) -> str:
        """The URL of the inner transport."""
        return self._inner.url

    @property
    def can_write(self) -> bool:
        """Whether the inner transport can write."""
        return self._inner.can_write

    def get(self, path: str, *, max_nbytes: int) -> bytes:
        """Count a request, even one that finds nothing."""
        self._count("get", path)
        content = self._inner.get(path, max_nbytes=max_nbytes)
        self._add(received=len(content))
        return content

    def get_range(self, path: str, start: int, stop: int) -> Buffer:
        """Count a request and its bytes."""
        self._count("get", path)
        content = self._inner.get_range(path, start, stop)
        self._add(received=len(view_bytes(content)))
        return content

    def put(self, path: str, source: PutSource) -> None:
        """Count a request and its bytes."""
        self._count("put", path)
        self._inner.put(path, source)
        self._add(sent=source.stat().st_size if isinstance(source, Path) else len(view_bytes(source)))

    def put_if_absent(self, path: str, content: bytes) -> bool:
        """Count a request and its bytes."""
        self._count("put_if_absent", path)
        self._add(sent=len(content))
        return self._inner.put_if_absent(path, content)

    def iter_files(self, prefix: str) -> Iterator[StoredFile]:
        """Count a request for every 1000 files, as stores list them."""
        self._count("list", prefix)
        for number, found in enumerate(self._inner.iter_files(prefix), 1):
            if number % 1000 == 0:
                self._count("list", prefix)
            yield found

    def delete(self, paths: Sequence[str]) -> None:
        """Count a request for each file."""
        for path in paths:
            self._count("delete", path)
        self._inner.delete(paths)

    def read_clock_s(self) -> int:
        """Count a put and a get; add `late_s` to the time."""
        self._count("put", CLOCK_PATH)
        self._count("get", CLOCK_PATH)
        return self._inner.read_clock_s() + self.late_s

    def remove_leftovers(self, before_s: int) -> int:
        """Pass on, with `late_s` taken off the time."""
        return self._inner.remove_leftovers(before_s - self.late_s)

    def describe_trouble(self) -> str | None:
        """Pass on to the inner transport."""
        return self._inner.describe_trouble()

    def _count(self, kind: str, path: str) -> None:
        with self._lock:
            self.requests[kind] += 1
            self.paths.append((kind, path))

    def _add(self, *, received: int = 0, sent: int = 0) -> None:
        with self._lock:
            self.received_nbytes += received
            self.sent_nbytes += sent


class UnreliableTransport(CountingTransport):
    """A transport whose requests fail when `fails` says so.

    `fails` is called with the kind of a request, its path, and whether it has already taken effect: before it is passed
    on, and again before its reply is returned. If it returns true, the request ends in `UnreachableError`.
    """

    def __init__(self, inner: Transport, fails: Callable[[str, str, bool], bool]) -> None:
        super().__init__(inner)
        self._fails = fails

    def get(self, path: str, *, max_nbytes: int) -> bytes:
        """Pass on to the inner transport, or fail."""
        self._fail("get", path, done=False)
        content = super().get(path, max_nbytes=max_nbytes)
        self._fail("get", path, done=True)
        return content

    def get_range(self, path: str, start: int, stop: int) -> Buffer:
        """Pass on to the inner transport, or fail."""
        self._fail("get", path, done=False)
        content = super().get_range(path, start, stop)
        self._fail("get", path, done=True)
        return content

    def put(self, path: str, source: PutSource) -> None:
        """Pass on to the inner transport, or fail."""
        self._fail("put", path, done=False)
        super().put(path, source)
        self._fail("put", path, done=True)

    def put_if_absent(self, path: str, content: bytes) -> bool:
        """Pass on to the inner transport, or fail."""
        self._fail("put_if_absent", path, done=False)
        written = super().put_if_absent(path, content)
        self._fail("put_if_absent", path, done=True)
        return written

    def _fail(self, kind: str, path: str, *, done: bool) -> None:
        if self._fails(kind, path, done):
            raise UnreachableError(f"{self.url}: {kind} {path}: {'the reply was lost' if done else 'no connection'}")
