"""A fork leaves no lock locked that another thread of the parent held."""

from __future__ import annotations

import os
import signal
import threading

from stockroom.locks import make_fork_lock


def test_a_child_forked_while_another_thread_holds_the_lock_takes_it_at_once():
    lock = make_fork_lock()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a lock left locked would wait for ever
        with lock:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    done.set()
    thread.join()
    assert status == 0


def test_its_holder_may_take_it_again():
    lock = make_fork_lock()
    with lock, lock:
        pass
