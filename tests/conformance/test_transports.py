"""One suite for every transport: what the protocol promises, on a real folder and real servers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.kit.servers import (
    AZURE_ACCOUNT,
    AZURE_KEY,
    BUCKET,
    find_azurite,
    find_nginx,
    serve_files,
    start_azure,
)

from stockroom.errors import RemoteError, StockroomError
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.protocol import MissingFileError, Transport
from stockroom.remotes.transport.url import RemoteSettings


@pytest.fixture(scope="module")
def azure() -> Iterator[str]:
    program = find_azurite()
    if program is None:
        pytest.skip("Azurite is not here, and npm cannot bring it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT)
        patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)
        with start_azure(program) as endpoint:
            yield endpoint


@pytest.fixture(params=["folder", "s3", "azure"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Transport:
    if request.param == "folder":
        return open_transport(RemoteSettings(str(tmp_path / "remote")))
    scheme = {"s3": "s3", "azure": "az"}[request.param]
    endpoint = request.getfixturevalue(request.param)
    return open_transport(RemoteSettings(f"{scheme}://{BUCKET}/{tmp_path.name}/deep", endpoint))


class ReadingPromises:
    """What every transport does that can be read from; `stored` has the files that were put there another way."""

    def check_reading(self, transport: Transport, big: bytes) -> None:
        assert transport.get("refs/00000001", max_nbytes=100) == b"one"
        assert transport.get("a folder/ü%20&.bin", max_nbytes=100) == b"odd"
        assert transport.get("empty", max_nbytes=10) == b""
        assert bytes(transport.get_range("big", 0, 5)) == big[:5]
        assert bytes(transport.get_range("big", len(big) - 7, len(big))) == big[-7:]
        for path in ("refs/00000002", "nothing/here"):
            with pytest.raises(MissingFileError, match=path.replace("/", ".")):
                transport.get(path, max_nbytes=10)
            with pytest.raises(MissingFileError):
                transport.get_range(path, 0, 4)
        with pytest.raises(RemoteError, match="at most 2"):
            transport.get("refs/00000001", max_nbytes=2)
        assert transport.describe_trouble() is None


BIG = os.urandom(20 << 20)
FILES = {"refs/00000001": b"one", "a folder/ü%20&.bin": b"odd", "empty": b"", "big": BIG}


class TestWritable(ReadingPromises):
    """Folders and object stores."""

    def test_what_was_put_is_read(self, transport: Transport, tmp_path: Path) -> None:
        for path, content in FILES.items():
            transport.put(path, content)
        self.check_reading(transport, BIG)
        (tmp_path / "source").write_bytes(BIG)
        transport.put("from a file", tmp_path / "source")
        assert bytes(transport.get_range("from a file", 1 << 20, 2 << 20)) == BIG[1 << 20 : 2 << 20]
        transport.put("refs/00000001", memoryview(b"two"))
        assert transport.get("refs/00000001", max_nbytes=9) == b"two"

    def test_files_are_listed_by_prefix(self, transport: Transport) -> None:
        assert list(transport.iter_files("")) == []
        for path in ("packs/aa/1/c", "packs/aa/1/z", "packs/ab/2/c", "refs/1"):
            transport.put(path, path.encode())
        assert {(f.path, f.nbytes) for f in transport.iter_files("packs/aa/1/")} == {
            ("packs/aa/1/c", 12),
            ("packs/aa/1/z", 12),
        }
        assert {f.path for f in transport.iter_files("packs/a")} == {"packs/aa/1/c", "packs/aa/1/z", "packs/ab/2/c"}
        assert len(list(transport.iter_files(""))) == 4
        assert list(transport.iter_files("none/")) == []

    def test_more_files_than_fit_a_page_are_listed(self, transport: Transport) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: transport.put(f"many/{n:04}", b"x"), range(1100)))
        assert len({file.path for file in transport.iter_files("many/")}) == 1100

    def test_deleting_is_done_once_and_again(self, transport: Transport) -> None:
        transport.put("a", b"x")
        transport.delete(["a", "b"])
        transport.delete(["a"])
        with pytest.raises(MissingFileError):
            transport.get("a", max_nbytes=1)

    def test_a_folder_that_was_emptied_is_written_to_again(self, transport: Transport) -> None:
        def put_and_delete(number: int) -> None:
            transport.put(f"packs/{number % 2}", b"x")
            transport.delete([f"packs/{number % 2}"])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put_and_delete, range(200)))
        assert list(transport.iter_files("packs/")) == []

    def test_it_has_a_clock(self, transport: Transport) -> None:
        before = transport.read_clock_s()
        assert abs(before - time.time()) < 60  # the servers here are on this machine
        assert before <= transport.read_clock_s() <= before + 60
        assert transport.remove_leftovers(before + 60) == 0
        assert [file.path for file in transport.iter_files("")] == ["clock"]

    def test_of_many_that_put_if_absent_exactly_one_wins(self, transport: Transport) -> None:
        with ThreadPoolExecutor(6) as pool:
            for number in range(35):
                start = threading.Barrier(6)

                def put(who: int, number: int = number, start: threading.Barrier = start) -> bool:
                    start.wait()
                    return transport.put_if_absent(f"refs/{number}", f"{who}".encode())

                won = list(pool.map(put, range(6)))
                assert won.count(True) == 1
                assert transport.get(f"refs/{number}", max_nbytes=9) == f"{won.index(True)}".encode()

    def test_a_file_is_seen_whole_or_not_at_all(self, transport: Transport) -> None:
        versions = [bytes([n]) * 300_000 for n in range(20)]
        transport.put("f", versions[0])
        stop = threading.Event()

        def write() -> None:
            for version in versions:
                transport.put("f", version)
            stop.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not stop.is_set():
            assert len(set(transport.get("f", max_nbytes=1 << 20))) == 1
        writer.join()

    def test_a_range_beyond_the_end_is_an_error(self, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("stockroom.remotes.transport.retry.RetryPolicy.choose_pause_s", lambda *_: 0.0)
        transport.put("f", b"12345")
        with pytest.raises(StockroomError, match="f"):
            transport.get_range("f", 3, 9)


class TestWeb(ReadingPromises):
    """Static files behind nginx."""

    def test_files_of_a_web_server_are_read_and_nothing_is_written(self, tmp_path: Path) -> None:
        if find_nginx() is None:
            pytest.skip("nginx is not installed: `apt-get install nginx-light`")
        root = tmp_path / "root"
        for path, content in FILES.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        tmp_path.chmod(0o755)
        with serve_files(root, tmp_path / "nginx") as url:
            transport = open_transport(RemoteSettings(url))
            self.check_reading(transport, BIG)
            assert not transport.can_write
            for write in (
                lambda: transport.put("x", b"1"),
                lambda: transport.put_if_absent("x", b"1"),
                lambda: transport.delete(["big"]),
            ):
                with pytest.raises(RemoteError, match="read-only"):
                    write()
            with pytest.raises(RemoteError, match="cannot be listed"):
                list(transport.iter_files(""))
        assert not (root / "x").exists()


def ask_in_a_child(transport: Transport) -> str:
    try:
        transport.get("refs/00000001", max_nbytes=9)
    except StockroomError as error:
        return str(error)
    return "answered"


def test_a_forked_child_gets_an_error_and_does_not_hang(s3: str, tmp_path: Path) -> None:
    """obstore's threads do not survive a fork: a child that used them would wait for ever."""
    transport = open_transport(RemoteSettings(f"s3://{BUCKET}/{tmp_path.name}", s3))
    transport.put("refs/00000001", b"one")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, ask_in_a_child(transport).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert "forked" in answer.read()
    os.waitpid(child, 0)
    assert transport.get("refs/00000001", max_nbytes=9) == b"one"
