"""Work done in a forked child, which may change its user, its limits or its open files, or die of it."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stockroom import StockroomError


def call_in_fork(act: Callable[[], object]) -> int:
    """The exit status of a child that runs `act`: 1 after one of our errors, 2 after another, below 0 for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            act()
            code = 0
        except StockroomError:
            code = 1
            traceback.print_exc()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_in_child(act: Callable[[], bool]) -> bool:
    """What `act` answers in a forked child."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            status = 0 if act() else 1
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1)
    return status == 0


@contextmanager
def holder_with_worker(hold: Callable[[], object]) -> Iterator[int]:
    """A process that keeps what `hold` returns, by its id, and has a forked worker that outlives it."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            held = hold()
            if os.fork() == 0:  # as a data loader's worker
                os.write(tell, str(os.getpid()).encode())
            while held:
                signal.pause()
        finally:
            os._exit(1)
    worker = int(os.read(ready, 20))
    try:
        yield child
    finally:
        os.kill(worker, signal.SIGKILL)
        for fd in (ready, tell):
            os.close(fd)


def kill(child: int) -> None:
    """Kill a child and wait for its end."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
