"""The places of packs: many may bring packs at once, one takes them away alone, and no wait is endless."""

from __future__ import annotations

import pytest

from stockroom.errors import LockedError
from stockroom.store.pack.pack_lock import lock_packs, try_lock_packs


def test_packs_may_come_from_many_at_once_but_go_alone(tmp_path):
    first, second = (lock_packs(tmp_path, alone=False) for _ in range(2))
    first.release()
    with second, pytest.raises(LockedError, match=r"moving packs.*waited 0\.01 s.*place\.lock"):
        lock_packs(tmp_path, alone=True, timeout_s=0.01)
    with lock_packs(tmp_path, alone=True), pytest.raises(LockedError, match="moving packs"):
        lock_packs(tmp_path, alone=False, timeout_s=0.01)
    lock_packs(tmp_path, alone=True).release()


def test_whoever_can_do_without_does_not_wait(tmp_path):
    with try_lock_packs(tmp_path) as is_held, lock_packs(tmp_path, alone=False):
        assert is_held
    with lock_packs(tmp_path, alone=True), try_lock_packs(tmp_path) as is_held:
        assert not is_held
    lock_packs(tmp_path, alone=True).release()
