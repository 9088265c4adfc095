"""Files of servers that send no parts: each is downloaded once, and few are kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import IO

import pytest

from stockroom.remotes.transport import spool
from stockroom.remotes.transport.spool import Spool


def test_threads_that_read_one_file_download_it_once() -> None:
    downloaded: list[str] = []

    def download(path: str, target: IO[bytes]) -> None:
        downloaded.append(path)
        target.write(bytes(range(200)))

    files = Spool(download)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: files.read("a", start, start + 10), range(0, 200, 10)))
    assert b"".join(parts) == bytes(range(200))
    assert downloaded == ["a"]
    assert files.read("a", 195, 300) == bytes(range(195, 200))


def test_the_file_that_was_used_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_MAX_NBYTES", 25)
    downloaded: list[str] = []

    def download(path: str, target: IO[bytes]) -> None:
        downloaded.append(path)
        target.write(path.encode() * 10)

    files = Spool(download)
    for path in "abaca":
        assert files.read(path, 0, 3) == path.encode() * 3
    assert files.read("b", 9, 10) == b"b"
    assert downloaded == ["a", "b", "c", "b"]


def test_a_download_that_fails_is_tried_again() -> None:
    answers = [OSError("cut off"), b"whole"]

    def download(_: str, target: IO[bytes]) -> None:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            target.write(b"ha")
            raise answer
        target.write(answer)

    files = Spool(download)
    with pytest.raises(OSError, match="cut off"):
        files.read("a", 0, 5)
    assert files.read("a", 0, 5) == b"whole"
