"""What is left is said in every answer that a limit governs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shared.http.ratelimit import rate_limit_headers
from shared.limit_state import LimitState

NOW = datetime(2030, 5, 17, 12, 30, 30, tzinfo=UTC)


def test_no_window_means_no_header() -> None:
    assert rate_limit_headers([], NOW) == {}


def test_each_window_tells_its_quota_and_what_is_left() -> None:
    resets = NOW + timedelta(seconds=29.5)
    state = LimitState("minute", 5, 2, timedelta(minutes=1), resets)
    assert rate_limit_headers([state], NOW) == {
        "RateLimit-Policy": '"minute";q=5;w=60',
        "RateLimit": '"minute";r=3;t=30',
    }


def test_a_second_that_has_begun_is_waited_for() -> None:
    def told(**left: int) -> str:
        state = LimitState("minute", 5, 2, timedelta(minutes=1), NOW + timedelta(**left))
        return rate_limit_headers([state], NOW)["RateLimit"]

    assert told(seconds=29) == '"minute";r=3;t=29'
    assert told(seconds=29, microseconds=1) == '"minute";r=3;t=30'


def test_limits_of_one_name_are_told_apart() -> None:
    states = [LimitState("minute", most, 2, timedelta(minutes=1), NOW) for most in (5, 6)]
    assert rate_limit_headers(states, NOW)["RateLimit-Policy"] == (
        '"minute";q=5;w=60, "minute";q=6;w=60'
    )


def test_nothing_is_ever_negative() -> None:
    state = LimitState("minute", 5, 9, timedelta(minutes=1), NOW - timedelta(seconds=5))
    assert rate_limit_headers([state], NOW)["RateLimit"] == '"minute";r=0;t=0'
    assert state.remaining == 0


def test_what_is_held_is_not_left() -> None:
    state = LimitState("tokens", 100, 20, timedelta(minutes=1), NOW, reserved=30)
    assert rate_limit_headers([state], NOW)["RateLimit"] == '"tokens";r=50;t=0'


def test_a_limit_of_how_many_at_once_has_no_window() -> None:
    state = LimitState("streams", 2, 1, timedelta(), NOW + timedelta(seconds=3))
    assert rate_limit_headers([state], NOW) == {
        "RateLimit-Policy": '"streams";q=2',
        "RateLimit": '"streams";r=1;t=3',
    }
