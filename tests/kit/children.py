"""Work done in a forked child, which may change its user, its limits or its open files, or die of it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

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
