"""A forked child that hashes a file waits for no thread of its parent's."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from blake3 import blake3

from stockroom.digest import compute_file_digest


def test_a_file_is_hashed_in_a_child_whose_parent_hashed_by_many_threads(tmp_path: Path) -> None:
    content = bytes(8 << 20)
    (tmp_path / "large").write_bytes(content)
    expected = blake3(content).digest()
    assert compute_file_digest(tmp_path / "large") == expected  # starts the threads
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # which ends a child that hangs
        os._exit(0 if compute_file_digest(tmp_path / "large") == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
