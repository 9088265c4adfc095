"""Finds the newest ref state of a remote without listing, publishes the next, and reads and writes marks."""

from __future__ import annotations

from collections.abc import Iterable
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
    """Another push published the state of that number: `found`."""

    def __init__(self, found: RefState) -> None:
        super().__init__(found.number)
        self.found = found


def find_state(transport: Transport, number: int) -> RefState | None:
    """Return the state of that number, or None."""
    path = state_path(number)
    try:
        content = transport.get(path, max_nbytes=MAX_STATE_NBYTES)
    except MissingFileError:
        return None
    return decode_state(content, number=number, where=f"{transport.url}: {path}")


def find_newest_state(transport: Transport, known: RefState | None = None) -> RefState | None:
    """Return the newest state of a remote, or None if it has none.

    `known` is a state seen there earlier. If it is still the newest, two requests suffice. If the remote was replaced
    by another, which has no such state, the search starts over.
    """
    if known is None:
        return _search(transport, _read_hint(transport))
    newest = read_newer_state(transport, known)
    return newest if newest is not known or is_current(transport, known) else _search(transport, _read_hint(transport))


def get_newest_state(transport: Transport, known: RefState | None = None) -> RefState:
    """Return the newest state of a remote, as `find_newest_state` does. Raises `RemoteError` if it has none."""
    state = find_newest_state(transport, known)
    if state is None:
        raise RemoteError(f"{transport.url}: there is no Stockroom repository; `stock push` makes one")
    return state


def read_newer_state(transport: Transport, known: RefState) -> RefState:
    """Return the newest state from `known` on, which must be this remote's; if it is `known`, by one request.

    Doubles the step until a state is missing, then bisects.
    """
    best, step = known, 1
    missing: int | None = None
    while missing is None:
        found = find_state(transport, known.number + step)
        if found is None:
            missing = known.number + step
        else:
            best, step = found, step * 2
    while missing - best.number > 1:
        middle = (best.number + missing) // 2
        found = find_state(transport, middle)
        if found is None:
            missing = middle
        else:
            best = found
    return best


def find_following_state(transport: Transport, state: RefState) -> RefState | None:
    """Return the newest state of a remote after `state`, or None."""
    newest = read_newer_state(transport, state)
    return None if newest.number == state.number else newest


def is_current(transport: Transport, known: RefState) -> bool:
    """Whether a state seen earlier is still there, from the same push."""
    found = find_state(transport, known.number)
    return found is not None and found.write_id == known.write_id


def publish_state(transport: Transport, state: RefState) -> None:
    """Publish `state` as the remote's next. Of all concurrent tries for a number, exactly one succeeds.

    Raises:
        StateTakenError: another push was faster.
        RemoteError: the outcome is unknown; it is safe to do everything again.
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
    """Read the marks of a state. A table that was read before costs no request.

    Raises:
        MissingFileError: the table is gone: a newer state has another.
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
    """Put a new table on a remote. Return its digest, for a ref state to name."""
    content = encode_marks(marks)
    digest = blake3(content).digest()
    transport.put(marks_path(digest), content)
    return digest


def _resolve_lost_answer(transport: Transport, state: RefState, error: StockroomError) -> bool:
    """Return False if a state is there after a put that ended in `error`; raise if none is, or it is unknown."""
    try:
        found = find_state(transport, state.number)
    except StockroomError as again:
        raise UnreachableError(
            f"{transport.url}: whether the push took effect is not known ({again}); run it again: nothing is sent twice"
        ) from error
    if found is None:
        raise error
    return False  # the caller finds out whose state it is


def _search(transport: Transport, hint: int) -> RefState | None:
    """Search for the newest state from a number that may be too small, or wrong."""
    if hint > 1:
        start = find_state(transport, hint)
        if start is not None:
            return read_newer_state(transport, start)
    first = find_state(transport, 1)
    return None if first is None else read_newer_state(transport, first)


def _read_hint(transport: Transport) -> int:
    """Return the number in the remote's hint, or 0 if there is no readable one."""
    try:
        text = transport.get(LATEST_PATH, max_nbytes=_MAX_HINT_NBYTES).decode("ascii").strip()
        return int(text) if text.isdigit() else 0
    except (MissingFileError, UnicodeDecodeError, MalformedRecordError):
        return 0


def _write_hint(transport: Transport, number: int) -> None:
    """Update the hint. Errors are ignored: it is only a hint."""
    try:
        transport.put(LATEST_PATH, f"{number}\n".encode())
    except StockroomError:
        return
