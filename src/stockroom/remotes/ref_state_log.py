"""The newest ref state of a remote, and its marks: found without listing, followed by the one that one push makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from blake3 import blake3

from stockroom.digest import check_digest
from stockroom.errors import MalformedRecordError, RemoteError, StockroomError, UnreachableError
from stockroom.remotes.format.marks import MAX_MARKS_NBYTES, Item, RemoteMark, decode_marks, encode_marks
from stockroom.remotes.format.paths import LATEST_PATH, marks_path, state_path
from stockroom.remotes.format.ref_state import MAX_STATE_NBYTES, RefState, decode_state
from stockroom.remotes.tracking import Tracking
from stockroom.remotes.transport.protocol import MissingFileError, Transport

_HINT_EVERY: Final = 8
_MAX_HINT_NBYTES: Final = 32


class StateTakenError(Exception):
    """Another push made the state of that number: `found`."""

    def __init__(self, found: RefState) -> None:
        super().__init__(found.number)
        self.found = found


def find_state(transport: Transport, number: int) -> RefState | None:
    """The state of that number, if there is one."""
    path = state_path(number)
    try:
        content = transport.get(path, max_nbytes=MAX_STATE_NBYTES)
    except MissingFileError:
        return None
    return decode_state(content, number=number, where=f"{transport.url}: {path}")


def find_newest_state(transport: Transport, known: RefState | None = None) -> RefState | None:
    """The newest state of a remote, or None for one without any.

    `known` is a state seen there earlier: with nothing newer than it, two requests answer. Should the remote have been
    replaced by another since, so that it has no such state, the search starts anew.
    """
    if known is None:
        return _search(transport, _read_hint(transport))
    newest = find_newer_state(transport, known)
    return newest if newest is not known or is_current(transport, known) else _search(transport, _read_hint(transport))


def get_newest_state(transport: Transport, known: RefState | None = None) -> RefState:
    """The newest state of a remote, as by `find_newest_state`; `RemoteError` for one without any."""
    state = find_newest_state(transport, known)
    if state is None:
        raise RemoteError(f"{transport.url}: there is no Stockroom repository; `stock push` makes one")
    return state


def find_newer_state(transport: Transport, known: RefState) -> RefState:
    """The newest state from `known` on, which is the remote's own: `known` itself, after one request, if that is it."""
    return _climb(known, lambda number: find_state(transport, number))


def find_following_state(transport: Transport, state: RefState) -> RefState | None:
    """The newest state of a remote, if it has any after `state`."""
    newest = find_newer_state(transport, state)
    return None if newest.number == state.number else newest


def is_current(transport: Transport, known: RefState) -> bool:
    """Whether a state seen earlier is still there, of the same push."""
    found = find_state(transport, known.number)
    return found is not None and found.write_id == known.write_id


def publish_state(transport: Transport, state: RefState) -> None:
    """Make `state` the remote's next; exactly one of all that try makes the state of a number.

    Raises:
        StateTakenError: another push was faster.
        RemoteError: it could not be found out whether it was made; doing all again is safe.
    """
    try:
        is_mine = transport.put_if_absent(state.path, state.encode())
    except StockroomError as error:
        is_mine = _resolve_lost_answer(transport, state, error)
    if not is_mine:
        found = find_state(transport, state.number)
        if found is None:
            raise RemoteError(f"{transport.url}: says that {state.path} is there, and that it is not; try again")
        if found.write_id != state.write_id:
            raise StateTakenError(found)
    if state.number % _HINT_EVERY == 1:
        _write_hint(transport, state.number)


def read_marks(transport: Transport, state: RefState | None, tracking: Tracking) -> dict[Item, RemoteMark]:
    """The marks of a state; no request is made for a table that was read before.

    Raises:
        MissingFileError: they are not there: a newer state has others.
    """
    if state is None or state.marks is None:
        return {}
    path = marks_path(state.marks)
    where = f"{transport.url}: {path}"
    content = tracking.read_marks(state.marks)
    if content is None:
        content = transport.get(path, max_nbytes=MAX_MARKS_NBYTES)
        check_digest(content, state.marks, where=where)
        tracking.write_marks(content)
    return decode_marks(content, where=where)


def put_marks(transport: Transport, marks: Iterable[RemoteMark]) -> bytes:
    """Put a new table on a remote; its digest, for a ref state to name."""
    content = encode_marks(marks)
    digest = blake3(content).digest()
    transport.put(marks_path(digest), content)
    return digest


def _resolve_lost_answer(transport: Transport, state: RefState, error: StockroomError) -> bool:
    """Whether a put that ended in `error` took effect after all."""
    try:
        found = find_state(transport, state.number)
    except StockroomError as again:
        raise UnreachableError(
            f"{transport.url}: whether the push took effect is not known ({again}); run it again: nothing is sent twice"
        ) from error
    if found is None:
        raise error
    return False  # something is there: whose it is, the caller finds out


def _search(transport: Transport, hint: int) -> RefState | None:
    """The newest state, searched from a number that may be too small, or wrong."""
    if hint > 1:
        start = find_state(transport, hint)
        if start is not None:
            return _climb(start, lambda number: find_state(transport, number))
    first = find_state(transport, 1)
    return None if first is None else _climb(first, lambda number: find_state(transport, number))


def _climb(start: RefState, find: Callable[[int], RefState | None]) -> RefState:
    """The newest state from `start` on: ever longer steps up until one leads nowhere, then halving."""
    best, step = start, 1
    missing: int | None = None
    while missing is None:
        found = find(start.number + step)
        if found is None:
            missing = start.number + step
        else:
            best, step = found, step * 2
    while missing - best.number > 1:
        middle = (best.number + missing) // 2
        found = find(middle)
        if found is None:
            missing = middle
        else:
            best = found
    return best


def _read_hint(transport: Transport) -> int:
    """The number that the remote's hint gives; 0 where there is none, or none that can be read."""
    try:
        text = transport.get(LATEST_PATH, max_nbytes=_MAX_HINT_NBYTES).decode("ascii").strip()
        return int(text) if text.isdigit() else 0
    except (MissingFileError, UnicodeDecodeError, MalformedRecordError):
        return 0


def _write_hint(transport: Transport, number: int) -> None:
    """Renew the hint. It is no more than that: whatever goes wrong is nobody's concern."""
    try:
        transport.put(LATEST_PATH, f"{number}\n".encode())
    except StockroomError:
        return
