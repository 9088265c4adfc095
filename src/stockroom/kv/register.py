"""The LMDB environments that this process has open: one for each file, however often and by whatever paths.

LMDB's locks belong to the process and the file, so a second environment on a file would silently undo the first one's.
Forks are handled here too: running transactions end first, and the child only ever releases inherited environments.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stockroom.errors import StockroomError
from stockroom.kv.opening import OpenOptions
from stockroom.kv.shared import FORK_PATIENCE_S, SharedEnvironment, find_file_id


class Register:
    """Counts the handles on each environment. Nothing here waits for a transaction while it holds the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[SharedEnvironment] = []
        self._dropped: deque[SharedEnvironment] = deque()
        self._inherited: list[SharedEnvironment] = []
        self._quiesced: list[SharedEnvironment] = []
        self._locked_for_fork = False

    def take(self, path: Path, databases: Sequence[str], options: OpenOptions) -> SharedEnvironment:
        """Return the environment at the real path `path`, with one more handle on it."""
        self._give_back_dropped()
        with self._lock:
            shared = self._find_open(path)
            if shared is None:
                self._let_go_of_inherited(find_file_id(path))
                shared = SharedEnvironment(path, options)
                self._open.append(shared)
            shared.handles += 1
        try:
            shared.add_path(path)
            shared.add_databases(databases)
        except BaseException:
            self.give_back(shared)
            raise
        return shared

    def _find_open(self, path: Path) -> SharedEnvironment | None:
        """Return the open environment of the file at `path`; a bind mount gives one file several real paths."""
        file_id = find_file_id(path)
        if file_id is None:  # deleted, or never created
            return None
        return next((shared for shared in self._open if shared.file_id == file_id), None)

    def give_back(self, shared: SharedEnvironment) -> None:
        """Release a handle; the last one closes the files, once no thread is in a transaction.

        Raises:
            StockroomError: it is the last, and this thread is in a transaction.
        """
        with self._lock:
            if shared.handles == 1:
                shared.refuse_inside("closed")
            shared.handles -= 1
            if shared.handles:
                return
        with shared.alone():
            self._close_unless_taken_again(shared)

    def drop(self, shared: SharedEnvironment) -> None:
        """Release a handle for the garbage collector, which must not wait: now, or with the next `take`."""
        self._dropped.append(shared)
        if not self._lock.locked():
            self._give_back_dropped()

    def _give_back_dropped(self) -> None:
        while self._dropped:
            with suppress(IndexError, StockroomError):
                self.give_back(self._dropped.popleft())

    def _close_unless_taken_again(self, shared: SharedEnvironment) -> None:
        with self._lock:
            if shared.handles:
                return
            shared.close()
            if shared in self._open:  # not in a forked child
                self._open.remove(shared)

    def _let_go_of_inherited(self, file_id: tuple[int, int] | None) -> None:
        """Release the parent's environment of a file: LMDB opens a file once in a process."""
        for shared in [shared for shared in self._inherited if shared.file_id == file_id]:
            shared.abandon()
            self._inherited.remove(shared)

    def _before_fork(self) -> None:
        self._locked_for_fork = self._lock.acquire(timeout=FORK_PATIENCE_S)
        self._quiesced = list(self._open)
        for shared in self._quiesced:
            shared.quiesce()

    def _after_fork_in_parent(self) -> None:
        for shared in self._quiesced:
            shared.resume()
        if self._locked_for_fork:
            self._lock.release()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._inherited.extend(self._quiesced)
        self._open = []
        self._dropped.clear()

    def watch_forks(self) -> None:
        """Keep forked children from using inherited environments from now on."""
        os.register_at_fork(
            before=self._before_fork,
            after_in_parent=self._after_fork_in_parent,
            after_in_child=self._after_fork_in_child,
        )
