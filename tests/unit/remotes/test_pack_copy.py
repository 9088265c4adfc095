"""A remote's copy of a pack, checked by downloading it: sound, damaged, or not to be told."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit.limits import files_left

from stockroom import StockRoom
from stockroom.digest import Buffer
from stockroom.remotes.format.pack_files import LocalPack
from stockroom.remotes.pack_copy import check_copy
from stockroom.remotes.transport import open_transport
from stockroom.remotes.transport.protocol import Transport
from stockroom.remotes.transport.url import RemoteSettings
from stockroom.repository.repository import Repository


@pytest.fixture
def pushed(tmp_path: Path) -> tuple[LocalPack, Transport]:
    """A pack, and the remote that has a copy of it."""
    with StockRoom.init(tmp_path / "repo") as stock:
        with stock.enable_write():
            stock.data["x"] = np.random.default_rng(0).integers(0, 256, (30, 500), np.uint8)
        stock.add_remote("origin", str(tmp_path / "remote"))
        stock.push()
    repository = Repository.open(tmp_path / "repo")
    (digest,) = repository.tensors.catalog.read_packs().values()
    return LocalPack.open(repository, digest), open_transport(RemoteSettings(str(tmp_path / "remote")))


def test_a_sound_copy_and_a_damaged_one(pushed: tuple[LocalPack, Transport], tmp_path: Path) -> None:
    pack, transport = pushed
    findings = check_copy(transport, pack.digest, pack.sizes, folder=tmp_path)
    assert findings.is_sound
    assert findings.nbytes == 30 * 500
    shard = next((tmp_path / "remote").rglob("c.*"))
    shard.chmod(0o644)
    content = bytearray(shard.read_bytes())
    content[20] ^= 1
    shard.write_bytes(content)
    damage = check_copy(transport, pack.digest, pack.sizes, folder=tmp_path).damage
    assert "stock push --repair" in str(damage[0])


class _Exhausting:
    """A remote whose last file comes at a moment when the process has no other file left to open."""

    def __init__(self, transport: Transport, last: str) -> None:
        self._transport, self._last = transport, last
        self.held: list[int] = []

    def get_range(self, path: str, start: int, stop: int) -> Buffer:
        content = self._transport.get_range(path, start, stop)
        with suppress(OSError):
            while path == self._last:
                self.held.append(os.open(os.devnull, os.O_RDONLY))
        return content


def test_a_copy_that_cannot_be_checked_here_is_not_called_sound(
    pushed: tuple[LocalPack, Transport], tmp_path: Path
) -> None:
    pack, transport = pushed
    exhausting: Any = _Exhausting(transport, list(pack.sizes)[-1])
    with files_left(20):
        findings = check_copy(exhausting, pack.digest, pack.sizes, folder=tmp_path)
        for fd in exhausting.held:
            os.close(fd)
    assert findings.damage == ()
    assert "could not be checked" in str(findings.unchecked[0])
    assert not findings.is_sound
