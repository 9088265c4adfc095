"""The gate before transactions: many pass, one shuts it, and an interrupted thread keeps nobody waiting."""

from __future__ import annotations

import threading

import pytest

from stockroom.errors import LockedError
from stockroom.kv.gate import Gate


def test_whoever_shuts_the_gate_waits_for_those_inside():
    gate = Gate()
    inside, leave = threading.Event(), threading.Event()

    def pass_through() -> None:
        gate.enter()
        inside.set()
        leave.wait()
        gate.leave()

    thread = threading.Thread(target=pass_through)
    thread.start()
    inside.wait()
    assert not gate.shut(0.01)
    leave.set()
    assert gate.shut(60)
    thread.join()
    gate.open()
    gate.enter()
    gate.leave()


def test_a_thread_that_an_interrupt_kept_from_leaving_can_be_alone_later():
    gate = Gate()
    gate.enter()  # and never left
    assert gate.shut(10)
    gate.open()


def test_a_thread_that_an_interrupt_kept_from_opening_can_still_pass_and_shut():
    gate = Gate()
    assert gate.shut(60)  # and never opened
    gate.enter()
    gate.leave()
    with gate.alone():
        pass
    passed = threading.Thread(target=gate.enter)
    passed.start()
    passed.join(10)
    assert not passed.is_alive()


def test_opening_leaves_alone_what_another_thread_shut():
    gate = Gate()
    other = threading.Thread(target=gate.shut, args=(60,))
    other.start()
    other.join()
    gate.open()
    assert not gate.shut(0.01)


def test_an_error_while_alone_opens_the_gate():
    gate = Gate()
    with pytest.raises(ValueError, match="inside"), gate.alone():
        raise ValueError("inside")
    assert gate.shut(0)


def test_waits_at_the_gate_end_and_name_the_thread_in_the_way(monkeypatch):
    monkeypatch.setattr("stockroom.kv.gate.PATIENCE_S", 0.01)
    gate, inside, done = Gate(), threading.Barrier(2), threading.Event()

    def stay(enter, leave) -> None:
        enter()
        inside.wait()
        done.wait()
        leave()

    for enter, leave, attempt in [
        (gate.enter, gate.leave, lambda: gate.alone().__enter__()),
        (lambda: gate.shut(60), gate.open, gate.enter),
    ]:
        thread = threading.Thread(target=stay, args=(enter, leave))
        thread.start()
        inside.wait()
        with pytest.raises(LockedError, match=rf"\b{thread.ident} of this process"):
            attempt()
        done.set()
        thread.join()
        done.clear()
    gate.enter()
