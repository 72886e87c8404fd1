"""What the limit headers say."""

from __future__ import annotations

from datetime import timedelta

from shared.errors import LimitReached
from shared.http.errors import problem_of
from shared.http.ratelimit import rate_limit_headers
from shared.limit_state import LimitState
from tests.support.voice import NOON

MINUTE = LimitState("a.minute", 5, 2, timedelta(minutes=1), NOON + timedelta(seconds=36.2))
MONTH = LimitState("a.month", 10, 12, timedelta(days=30), NOON - timedelta(seconds=1))


def test_every_window_is_told_with_its_policy() -> None:
    assert rate_limit_headers([MINUTE, MONTH], NOON) == {
        "RateLimit-Policy": '"a.minute";q=5;w=60, "a.month";q=10;w=2592000',
        "RateLimit": '"a.minute";r=3;t=37, "a.month";r=0;t=0',
    }


def test_without_windows_there_is_nothing_to_tell() -> None:
    assert rate_limit_headers([], NOON) == {}


def test_a_refusal_tells_its_windows_too() -> None:
    full = LimitReached(
        "Full.", retry_after=timedelta(seconds=3), limits=[MINUTE], scope="a.minute"
    )
    status, document, headers = problem_of(full)
    assert (status, headers["retry-after"], document["scope"]) == (429, "3", "a.minute")
    assert headers["RateLimit-Policy"] == '"a.minute";q=5;w=60'
