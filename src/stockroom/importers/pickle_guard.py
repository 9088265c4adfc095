"""Keeps libraries that read foreign files from unpickling functions and classes, and so from running code.

Kept apart: Python's audit hooks stay for the life of the process, so there is exactly one, and it is added here.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from stockroom.errors import InvalidInputError

_guarded = threading.local()


@contextmanager
def refuse_pickled_code() -> Iterator[None]:
    """In this thread, make every unpickling of a function or class in the block raise `InvalidInputError`."""
    _add_hook()
    before = getattr(_guarded, "is_on", False)
    _guarded.is_on = True
    try:
        yield
    finally:
        _guarded.is_on = before


@cache
def _add_hook() -> None:
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event == "pickle.find_class" and getattr(_guarded, "is_on", False):
        module, name = arguments
        raise InvalidInputError(f"a pickle asks for {module}.{name}, which is code; nothing was executed")
