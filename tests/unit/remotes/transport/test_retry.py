"""Requests are tried again a bounded number of times, and what is going on can be told."""

from __future__ import annotations

import pytest

from stockroom import errors
from stockroom.remotes.transport.retry import Retrier, RetryPolicy, TransientError


def make_failing(times: int) -> tuple[list[int], object]:
    calls: list[int] = []

    def request() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise TransientError("HTTP 503")
        return "done"

    return calls, request


def test_a_request_that_fails_for_a_while_succeeds() -> None:
    calls, request = make_failing(3)
    retrier = Retrier("s3://b", RetryPolicy(first_pause_s=0.001))
    assert retrier.call("get x", request) == "done"
    assert len(calls) == 4
    assert retrier.describe_trouble() is None


def test_one_that_always_fails_ends_with_its_last_cause() -> None:
    calls, request = make_failing(100)
    retrier = Retrier("s3://b", RetryPolicy(tries=4, first_pause_s=0.001))
    with pytest.raises(errors.UnreachableError, match=r"s3://b: could not get x in 4 tries; the last cause: HTTP 503"):
        retrier.call("get x", request)
    assert len(calls) == 4


def test_the_deadline_holds_for_all_tries_together() -> None:
    _, request = make_failing(100)
    retrier = Retrier("s3://b", RetryPolicy(tries=100, deadline_s=0.05, first_pause_s=0.02))
    with pytest.raises(errors.TimeoutError, match=r"within 0\.05 s"):
        retrier.call("get x", request)


def test_other_errors_are_not_tried_again() -> None:
    calls = []

    def request() -> None:
        calls.append(1)
        raise errors.AuthenticationError("no")

    with pytest.raises(errors.AuthenticationError):
        Retrier("s3://b").call("get x", request)
    assert len(calls) == 1


def test_pauses_are_random_and_bounded() -> None:
    policy = RetryPolicy(first_pause_s=0.1, longest_pause_s=1.0)
    pauses = [policy.choose_pause_s(failed) for failed in range(1, 30) for _ in range(20)]
    assert min(pauses) >= 0
    assert max(pauses) <= 1.0
    assert len(set(pauses)) > 500
    assert max(policy.choose_pause_s(1) for _ in range(100)) <= 0.2


def test_trouble_can_be_seen_while_it_lasts() -> None:
    seen = []
    retrier = Retrier("s3://b", RetryPolicy(tries=2, first_pause_s=0.001))

    def request() -> None:
        seen.append(retrier.describe_trouble())
        raise TransientError("HTTP 429")

    with pytest.raises(errors.UnreachableError):
        retrier.call("get x", request)
    assert seen == [None, "try 1 of 2 to get x failed: HTTP 429"]
