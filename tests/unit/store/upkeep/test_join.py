"""Joining: small packs become large ones as they gather; nothing is lost, and nothing waits or fails because of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stockroom.store.chunk_run import Stream
from stockroom.store.index.small_packs import FANOUT, is_small
from stockroom.store.pack.layout import PACK_MAX_ROWS, list_pack_directories
from stockroom.store.pack.pack_lock import lock_packs
from stockroom.store.pack.pack_writer import PackWriter
from stockroom.store.pack.presence import PRESENCE_NAME, PresenceMap
from stockroom.store.tensor_store import TensorStore
from stockroom.store.upkeep import join
from stockroom.store.upkeep.join import join_packs
from stockroom.store.upkeep.removal import forbid_removal, lock_removal
from stockroom.store.upkeep.verify import check_pack

NBYTES = 64


@pytest.fixture
def add(writer) -> Callable[..., np.ndarray]:
    """`add(number, codec="raw")`: put one row as a pack of its own, as a commit does; returns its digest."""

    def add_row(number: int, *, codec: str = "raw") -> np.ndarray:
        digest = writer.put_rows(make_rows([number]), Stream("uint8", (NBYTES,), codec))
        writer.flush()
        return digest

    return add_row


def count_open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def make_rows(numbers):
    return np.concatenate([np.random.default_rng(n).integers(0, 256, (1, NBYTES), np.uint8) for n in numbers])


def count_rows(store):
    return sorted(store.cache.get(number).rows for number in store.catalog.read_packs())


def is_sound(store, digests):
    rows = make_rows(range(len(digests)))
    other = TensorStore(store.packs_directory.parent)  # as another process sees it
    found = other.gather(other.locate(np.concatenate(digests), NBYTES), NBYTES)
    other.close()
    folders = list_pack_directories(store.packs_directory)
    registered = {digest.hex() for digest in store.catalog.read_packs().values()}
    damage = [each for folder in folders for each in check_pack(folder).damage]
    return (found == rows).all() and {folder.name for folder in folders} == registered and not damage


def test_packs_and_work_grow_like_the_logarithm_of_the_commits(store, add, monkeypatch):
    written = []
    append = PackWriter.append_row
    monkeypatch.setattr(PackWriter, "append_row", lambda self, *row: (written.append(1), append(self, *row)))
    digests, most = [], 0
    for number in range(300):
        digests.append(add(number))
        join_packs(store)
        most = max(most, len(store.catalog.read_packs()))
    assert most <= 2 * (FANOUT - 1) + 1
    assert count_rows(store) == [1] * 12 + [16] * 2 + [256]
    assert len(written) == 288 + 256  # each row once for each level that it has passed
    assert is_sound(store, digests)


def test_too_few_packs_are_not_even_listed(store, add, monkeypatch):
    digests = [add(number) for number in range(FANOUT - 1)]
    monkeypatch.setattr(store.catalog, "read_packs", None)
    monkeypatch.setattr(join, "try_lock_removal", None)
    assert join_packs(store) == 0
    monkeypatch.undo()
    assert count_rows(store) == [1] * (FANOUT - 1)
    assert is_sound(store, digests)


def test_kinds_and_sizes_are_not_mixed(store, add, writer):
    for number in range(FANOUT - 1):
        add(number)
        add(100 + number, codec="zstd")
        writer.put_row(bytes([number]) * NBYTES, Stream("uint8", None, "raw"))
        writer.put_row(bytes([number]) * (NBYTES // 2), Stream("uint8", (NBYTES // 2,), "raw"))
        writer.flush()
    assert join_packs(store) == 0
    add(99)
    assert join_packs(store) == FANOUT
    assert count_rows(store) == [1] * (3 * (FANOUT - 1)) + [FANOUT]


@pytest.mark.parametrize("lock", [lock_removal, forbid_removal])
def test_a_join_does_not_wait_for_others_and_is_done_later(store, add, lock):
    digests = [add(number) for number in range(FANOUT)]
    with lock(store, timeout_s=0):
        assert join_packs(store) == 0
    assert len(store.catalog.read_packs()) == FANOUT
    assert join_packs(store) == FANOUT
    assert is_sound(store, digests)


def test_packs_that_could_not_leave_are_removed_next_time_without_writing_again(store, add, monkeypatch):
    digests = [add(number) for number in range(FANOUT)]
    with lock_packs(store.packs_directory, alone=False):
        assert join_packs(store) == 0
    assert count_rows(store) == [1] * FANOUT + [FANOUT]
    monkeypatch.setattr(PackWriter, "append_row", None)
    assert join_packs(store) == FANOUT
    assert count_rows(store) == [FANOUT]
    assert is_sound(store, digests)


def test_partial_and_spared_packs_are_left_alone_and_the_others_joined(store, add):
    digests = [add(number) for number in range(FANOUT + 2)]
    partial, spared = list_pack_directories(store.packs_directory)[:2]
    PresenceMap.create(partial, 1)
    assert join_packs(store, list_spared=lambda: [bytes.fromhex(spared.name)]) == FANOUT
    assert partial.is_dir()
    assert spared.is_dir()
    assert count_rows(store) == [1, 1, FANOUT]
    assert join_packs(store) == 0
    (partial / PRESENCE_NAME).unlink()
    assert is_sound(store, digests)


@pytest.mark.parametrize("part", ["chunks", "c.0.0"])
def test_a_damaged_pack_fails_nothing_and_is_not_tried_again(store, add, part):
    digests = [add(number) for number in range(FANOUT)]
    folder = list_pack_directories(store.packs_directory)[0]
    content = (folder / part).read_bytes()
    (folder / part).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    join_packs(store)
    assert join_packs(store) == 0
    assert folder.is_dir()
    digests += [add(number) for number in range(FANOUT, 2 * FANOUT)]
    assert join_packs(store) >= FANOUT
    (folder / part).write_bytes(content)
    assert is_sound(store, digests)


def test_one_call_rewrites_a_bounded_amount(store, add, monkeypatch):
    monkeypatch.setattr(join, "PACK_TARGET_NBYTES", 10 * NBYTES)
    digests = [add(number) for number in range(2 * FANOUT)]
    assert join_packs(store) == 10
    assert join_packs(store) == 10
    assert count_rows(store) == [1] * 12 + [10, 10]
    assert is_sound(store, digests)


def test_a_marked_pack_that_is_made_again_is_reported(store, add):
    for number in range(FANOUT):
        add(number)
    made = []
    join_packs(store, on_made=made.append)
    assert made == list(store.catalog.read_packs().values())


def test_a_full_pack_of_tiny_rows_is_not_small():
    assert is_small(8, 1)
    assert not is_small(8 * PACK_MAX_ROWS // 2, PACK_MAX_ROWS // 2)


def test_a_join_leaves_no_files_open(store, add):
    before = count_open_files()
    for number in range(FANOUT):
        add(number)
    join_packs(store)
    assert count_open_files() <= before + 1  # the catalog's
