"""A repository that somebody works in is cloned and fetched from, whatever happens there; nothing is pushed into it."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.kit.children import call_in_fork
from tests.kit.servers import serve_plainly

from stockroom import AbsentDataError, StockRoom
from stockroom.cli import main
from stockroom.remotes.clone import CloneOptions, clone
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.directory import DirectoryTransport
from stockroom.remotes.transport.url import RemoteSettings, parse_remote_settings
from stockroom.repository.repository import Repository

NOBODY = 65534
IMAGES = np.random.default_rng(7).integers(0, 256, (60, 40, 10), np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> StockRoom:
    stock = StockRoom.init(tmp_path / "source")
    for number in range(4):
        with stock.enable_write(f"Commit {number}"):
            stock.data[f"image{number}"] = IMAGES ^ number
    return stock


def check_equal(clone: StockRoom, source: StockRoom) -> None:
    assert clone.commit_id == source.commit_id
    for name in source.data:
        every = np.arange(len(source.data[name]))
        assert np.array_equal(clone.data[name].take(every), source.data[name].take(every))


def test_a_lazy_clone_reads_and_fetches_after_the_packs_there_were_rewritten(source: StockRoom, tmp_path: Path) -> None:
    with closing(source), StockRoom.clone(source.path, tmp_path / "lazy", metadata_only=True) as clone:
        assert clone.data["image0"][3].tolist() == IMAGES[3].tolist()
        assert source.gc(repack=True, grace=timedelta(0)).repacked == 4
        with pytest.raises(AbsentDataError, match="stock fetch"):
            clone.data["image1"][3]
        report = clone.fetch()
        assert (report.moved, report.leaving) == ((), 0)
        check_equal(clone, source)
        assert clone.verify().ok
        source.create_tag("only-a-tag")
        assert [name for name, _, _ in clone.fetch().moved] == ["tag/only-a-tag"]


def test_clones_made_while_somebody_commits_and_repacks_are_whole(source: StockRoom, tmp_path: Path) -> None:
    done = threading.Event()

    def work() -> None:
        with StockRoom(source.path) as busy:
            for number in range(6):
                with busy.enable_write(f"Busy {number}"):
                    busy.data["busy"] = IMAGES[: number + 1]
                busy.gc(repack=True, grace=timedelta(0))
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    count = 0
    while not done.is_set() or not count:
        with StockRoom.clone(source.path, tmp_path / f"clone{count}") as clone:
            assert clone.verify().ok
            assert np.array_equal(clone.data["image2"].take(np.arange(60)), IMAGES ^ 2)
        count += 1
    thread.join()
    with closing(source), StockRoom(tmp_path / "clone0") as clone:
        source.refresh()
        clone.pull()
        check_equal(clone, source)


def refuse(capsys: pytest.CaptureFixture[str], *words: object, code: int = 1) -> str:
    """The one line on stderr of a command that fails."""
    assert main([str(word) for word in words]) == code
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_push_into_it_is_refused_in_one_line_and_leaves_no_trace(
    source: StockRoom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source.close()
    other, before = StockRoom.init(tmp_path / "other"), sorted(map(str, source.path.rglob("*")))
    with closing(other), other.enable_write("Other"):
        other.data["label"] = np.arange(3)
        other.add_remote("work", source.path)
        other.add_remote("folder", source.path / ".stockroom")
        other.add_remote("inside", source.path / ".stockroom/remote")
    for name in ("work", "folder"):
        line = refuse(capsys, "-C", other.path, "push", name, "main", code=14)
        assert "`stock remote add NAME FOLDER`" in line
    assert "a repository's own files" in refuse(capsys, "-C", other.path, "push", "inside", "main")
    assert sorted(map(str, source.path.rglob("*"))) == before


def test_a_clone_of_a_partial_or_shallow_clone_has_what_that_has(source: StockRoom, tmp_path: Path) -> None:
    with closing(source):
        StockRoom.clone(source.path, tmp_path / "lazy", metadata_only=True).close()
        StockRoom.clone(source.path, tmp_path / "shallow", depth=2).close()
        with pytest.raises(AbsentDataError, match="not whole there either"):
            StockRoom.clone(str(tmp_path / "lazy"), tmp_path / "full")
        with StockRoom(tmp_path / "lazy") as lazy:
            lazy.prefetch()
        with StockRoom.clone(str(tmp_path / "lazy"), tmp_path / "full") as full:
            check_equal(full, source)
        with StockRoom.clone(str(tmp_path / "shallow/.stockroom"), tmp_path / "of-shallow") as clone:
            assert [commit.message for commit in clone.log()] == ["Commit 3", "Commit 2"]
            assert clone.verify().ok
            with StockRoom(tmp_path / "shallow") as shallow:
                shallow.fetch(unshallow=True)
            clone.fetch(unshallow=True)
            assert len(list(clone.log())) == 4


def test_a_folder_that_is_read_only_can_be_cloned(source: StockRoom) -> None:
    source.close()
    with tempfile.TemporaryDirectory(dir="/tmp") as scratch:
        folder = Path(scratch)
        folder.chmod(0o777)
        shutil.copytree(source.path, folder / "source")
        for path in [folder / "source", *(folder / "source").rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)

        def clone_as_nobody() -> None:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            settings = parse_remote_settings(folder / "source", base=folder)
            paths = clone(settings, folder / "clone", CloneOptions(metadata_only=True))
            with closing(Repository(paths)) as repository:
                assert len(repository.refs.branches()) == 1
                assert repository.tensors.is_partial()

        assert call_in_fork(clone_as_nobody) == 0


def test_a_folder_that_was_a_remote_stays_one_and_a_web_server_serves_only_remotes(
    source: StockRoom, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(source), serve_plainly(source.path, has_ranges=False) as url:
        assert "a repository that somebody works in" in refuse(capsys, "clone", url, tmp_path / "by-web")
        source.add_remote("origin", str(tmp_path / "remote"))
        source.push()
    StockRoom.init(tmp_path / "remote").close()
    assert isinstance(open_transport(RemoteSettings(str(tmp_path / "remote"))), DirectoryTransport)
    StockRoom.clone(tmp_path / "remote", tmp_path / "of-remote", metadata_only=True).close()
