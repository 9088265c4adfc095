"""Sockets under paths of any length: one file for all, however it is addressed, and the process at the other end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from stockroom.remotes.agent import address
from stockroom.remotes.agent.address import choose_socket_path, find_peer, open_address


@pytest.fixture(params=["short", "long"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    names = {"short": [], "long": ["a-folder-with-a-long-name-" * 4] * 3}[request.param]
    path = choose_socket_path(tmp_path.joinpath(*names))
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("has_proc", [True, False])
def test_a_socket_is_one_file_whatever_its_path_and_the_temporary_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_proc: bool
) -> None:
    if not has_proc:
        monkeypatch.setattr(address, "_OPEN_FOLDERS", tmp_path / "no-proc")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as connection:
        with open_address(path) as bound:
            listener.bind(bound)
        assert path.is_socket()
        listener.listen()
        other = tmp_path / "other"
        other.mkdir()
        monkeypatch.setattr(address.tempfile, "tempdir", str(other))
        with open_address(path) as connected:
            connection.connect(connected)
        assert find_peer(connection) == (os.getpid(), os.getuid())
        assert list(other.iterdir()) == []


def test_a_socket_in_a_folder_that_is_not_there_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_address(tmp_path / ("x" * 200) / "socket"):
        pass
