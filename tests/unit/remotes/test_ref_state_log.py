"""The newest state is found with few requests, and each number is made by exactly one push, whatever gets lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stockroom.errors import RemoteError, UnreachableError
from stockroom.remotes.format.ref_state import RefState, new_write_id
from stockroom.remotes.ref_state_log import StateTakenError, find_newest_state, find_state, is_current, publish_state
from stockroom.remotes.transport.directory import DirectoryTransport
from stockroom.testing.transports import CountingTransport, UnreliableTransport


def make_state(number: int) -> RefState:
    return RefState(number=number, write_id=new_write_id(), time_ns=0, head=None, branches={}, tags={}, bundles=())


@pytest.mark.parametrize(("count", "at_most"), [(0, 2), (1, 3), (7, 9), (9, 4), (100, 10), (1000, 10)])
def test_the_newest_state_is_found_with_few_requests(tmp_path: Path, count: int, at_most: int) -> None:
    transport = DirectoryTransport(tmp_path)
    for number in range(1, count + 1):
        publish_state(transport, make_state(number))
    counting = CountingTransport(transport)
    newest = find_newest_state(counting)
    assert (newest.number if newest else 0) == count
    assert counting.requests.total() <= at_most
    assert not counting.requests["list"]


@pytest.mark.parametrize("hint", ["", "0\n", "3\n", "99999\n", "rubbish", "-1", "9" * 40])
def test_a_hint_that_is_stale_or_wrong_only_costs_requests(tmp_path: Path, hint: str) -> None:
    transport = DirectoryTransport(tmp_path)
    for number in range(1, 21):
        publish_state(transport, make_state(number))
    (tmp_path / "refs/latest").write_text(hint)
    if len(hint) > 32:
        with pytest.raises(RemoteError):
            find_newest_state(transport)
        return
    newest = find_newest_state(transport)
    assert newest is not None
    assert newest.number == 20


def test_a_known_state_saves_the_search_and_a_replaced_remote_is_noticed(tmp_path: Path) -> None:
    transport = DirectoryTransport(tmp_path / "a")
    known = make_state(1)
    publish_state(transport, known)
    counting = CountingTransport(transport)
    assert find_newest_state(counting, known) == known
    assert counting.requests.total() == 2
    other = DirectoryTransport(tmp_path / "b")
    publish_state(other, make_state(1))
    assert not is_current(other, known)
    assert find_newest_state(other, known) == find_state(other, 1)


def test_a_lost_answer_is_recognised_by_the_write_id(tmp_path: Path) -> None:
    inner = DirectoryTransport(tmp_path)
    lost: list[str] = []

    def lose_reply(kind: str, path: str, done: bool) -> bool:
        if kind == "put_if_absent" and done:
            lost.append(path)
            return True
        return False

    state = make_state(1)
    publish_state(UnreliableTransport(inner, lose_reply), state)  # took effect: a success
    assert lost == ["refs/00000001"]
    assert find_newest_state(inner) == state
    with pytest.raises(StateTakenError) as caught:  # the reply that another push won was lost as well
        publish_state(UnreliableTransport(inner, lose_reply), make_state(1))
    assert caught.value.found == state


def test_a_request_that_took_no_effect_is_no_success_and_no_conflict(tmp_path: Path) -> None:
    transport = UnreliableTransport(
        DirectoryTransport(tmp_path), lambda kind, _, done: kind == "put_if_absent" and not done
    )
    with pytest.raises(UnreachableError, match="no connection"):
        publish_state(transport, make_state(1))
    assert find_newest_state(transport) is None


def test_where_nothing_can_be_found_out_that_is_what_is_said(tmp_path: Path) -> None:
    inner = DirectoryTransport(tmp_path)
    is_down = []

    def fail(kind: str, _: str, done: bool) -> bool:
        if kind == "put_if_absent" and done:
            is_down.append(1)
        return bool(is_down)

    state = make_state(1)
    with pytest.raises(UnreachableError, match=r"may have taken effect .*; run it again"):
        publish_state(UnreliableTransport(inner, fail), state)
    assert find_newest_state(inner) == state


def test_of_eight_that_publish_at_once_exactly_one_wins_each_number(tmp_path: Path) -> None:
    transport = DirectoryTransport(tmp_path)

    def publish(number: int) -> RefState | None:
        state = make_state(number)
        try:
            publish_state(transport, state)
        except StateTakenError as taken:
            return state if taken.found.write_id == state.write_id else None
        return state

    with ThreadPoolExecutor(8) as pool:
        for number in range(1, 51):
            winners = [state for state in pool.map(publish, [number] * 8) if state is not None]
            assert winners == [find_state(transport, number)]
