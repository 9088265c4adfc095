"""Retries a request: a bounded number of times, with growing random pauses, within a deadline."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from stockroom import errors
from stockroom.errors import UnreachableError

T = TypeVar("T")


class TransientError(Exception):
    """A request failed in a way that may pass: no connection, a server's error, an incomplete answer."""


def read_clock_s() -> float:
    """Return seconds since some moment, including time in which the machine was asleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits of retries: `deadline_s` for all tries together, and pauses random up to a doubling bound."""

    tries: int = 6
    deadline_s: float = 60.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0

    def choose_pause_s(self, failed: int) -> float:
        """Return a random pause after try `failed`, from 1. Full jitter keeps clients from coming back together."""
        return random.uniform(0, min(self.first_pause_s * 2 ** (failed - 1) * 2, self.longest_pause_s))  # noqa: S311


@dataclass(slots=True)
class Retrier:
    """Runs requests to one remote, and knows which of them are being retried."""

    url: str
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    _troubles: dict[int, str] = field(default_factory=dict)

    def call(self, what: str, request: Callable[[], T], *, extra_s: float = 0.0) -> T:
        """Return the result of `request`. `what` describes it in words; `extra_s` extends the deadline.

        Raises:
            UnreachableError: every try failed.
            TimeoutError: the deadline passed.
        """
        start_s, policy = read_clock_s(), self.policy
        deadline_s = policy.deadline_s + extra_s
        mine = threading.get_ident()
        try:
            for failed in range(1, policy.tries + 1):
                try:
                    return request()
                except TransientError as error:
                    cause = error
                self._troubles[mine] = f"try {failed} of {policy.tries} to {what} failed: {cause}"
                pause_s = policy.choose_pause_s(failed)
                if read_clock_s() - start_s + pause_s > deadline_s:
                    raise errors.TimeoutError(
                        f"{self.url}: could not {what} within {deadline_s:g} s; the last cause: {cause}"
                    ) from cause
                if failed < policy.tries:
                    time.sleep(pause_s)
            raise UnreachableError(
                f"{self.url}: could not {what} in {policy.tries} tries; the last cause: {cause}"
            ) from cause
        finally:
            self._troubles.pop(mine, None)

    def describe_trouble(self) -> str | None:
        """Describe a request that is being retried, if there is one."""
        return next(iter(list(self._troubles.values())), None)
