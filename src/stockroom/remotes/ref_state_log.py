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
from stockroom.remotes.transport.directory import DirectoryTransport
from stockroom.remotes.transport.protocol import MissingFileError, Transport
from stockroom.remotes.transport.working_repository import WorkingRepositoryTransport
from stockroom.remotes.working_repository import read_working_state
from stockroom.repository.paths import FOLDER_NAME

_HINT_EVERY: Final = 8
_MAX_HINT_NBYTES: Final = 32
_FIRST_HINT: Final = b"1\n"


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
    if isinstance(transport, WorkingRepositoryTransport):
        return read_working_state(transport)
    if known is None:
        return _search(transport, _read_hint(transport))
    newest = read_newer_state(transport, known)
    return newest if newest is not known or is_current(transport, known) else _search(transport, _read_hint(transport))


def get_newest_state(transport: Transport, known: RefState | None = None) -> RefState:
    """Return the newest state of a remote, as `find_newest_state` does.

    Raises:
        UnreachableError: there is no such folder, or it had states before and has none now.
        RemoteError: it has no state.
    """
    state = find_newest_state(transport, known)
    if state is None and known is not None:
        raise make_vanished_error(transport)
    if state is None and isinstance(transport, DirectoryTransport) and not transport.exists():
        raise UnreachableError(
            f"{transport.url}: expected a Stockroom remote, found no such folder; check the path, and that it is "
            "mounted (the first `stock push` creates it)"
        )
    if state is None and not transport.can_write and _is_served_repository(transport):
        raise RemoteError(
            f"{transport.url}: expected a Stockroom remote, found a repository that somebody works in, which only its "
            "own machine can read: let the web server serve a remote, and push there from the repository"
        )
    if state is None:
        raise RemoteError(
            f"{transport.url}: expected a Stockroom remote, found none; check the URL, or create a remote there with "
            "`stock push`"
        )
    return state


def _is_served_repository(transport: Transport) -> bool:
    try:
        return bool(transport.get(f"{FOLDER_NAME}/format", max_nbytes=_MAX_HINT_NBYTES))
    except StockroomError:
        return False


def make_vanished_error(transport: Transport) -> UnreachableError:
    """Return the error for a remote that was seen to have ref states, and has none."""
    return UnreachableError(
        f"{transport.url}: expected the Stockroom repository that was seen there before, found none: check that the "
        "folder is mounted and that the server is the right one; if it is gone for good, `stock push "
        "--allow-new-remote` makes a new one"
    )


def check_exclusive(transport: Transport) -> None:
    """Raise `RemoteError` if a remote lets the same file be created twice: concurrent pushes would be lost there.

    The file is the hint, as the first push writes it; a remote that has one refuses at once.
    """
    if transport.put_if_absent(LATEST_PATH, _FIRST_HINT) and transport.put_if_absent(LATEST_PATH, _FIRST_HINT):
        raise RemoteError(
            f"{transport.url}: expected the store to refuse to create a file that exists (`If-None-Match: *`), found "
            "that it replaces it, so one of two pushes at the same time would be lost without a word; nothing was "
            "pushed: use a store that honours the condition"
        )


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
    if isinstance(transport, WorkingRepositoryTransport):
        now = read_working_state(transport)
        return None if now.write_id == state.write_id else now
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
            raise RemoteError(f"{transport.url}: reports that {state.path} exists, and that it does not; try again")
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
    content = tracking.read_marks(state.marks)
    if content is None:
        content = download_marks(transport, state.marks)
        tracking.write_marks(content)
    return decode_marks(content, where=f"{transport.url}: {marks_path(state.marks)}")


def download_marks(transport: Transport, digest: bytes) -> bytes:
    """Return a remote's table of marks. Raises `MissingFileError` or `DigestMismatchError`."""
    path = marks_path(digest)
    content = transport.get(path, max_nbytes=MAX_MARKS_NBYTES)
    check_digest(content, digest, where=f"{transport.url}: {path}")
    return content


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
            f"{transport.url}: the push may have taken effect ({again}); run it again: nothing is sent twice"
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
