"""THE table: each family of failure has its status, and a document that tells the facts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import errors
from shared.errors import (
    DependencyUnavailable,
    ExpectedFailure,
    LimitReached,
    NotFound,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
    after_counting,
)
from shared.events.base import current_request_id
from shared.http.errors import PROBLEM, STATUS, bug_response, problem_of, respond
from shared.lenient_json import to_json
from shared.limit_state import LimitState

STATUSES = {
    "Invalid": 422,
    "TooLarge": 413,
    "Unauthenticated": 401,
    "NotInTier": 402,
    "PaymentRequired": 402,
    "Forbidden": 403,
    "NotFound": 404,
    "Conflict": 409,
    "LimitReached": 429,
    "UpstreamFailed": 502,
    "Unavailable": 503,
}


def document_of(failure: ExpectedFailure) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(bytes(respond(failure).body))
    return document


def test_every_family_has_its_status() -> None:
    families = {
        kind.__name__: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and kind.__bases__ == (ExpectedFailure,)
    }
    assert set(families) == set(STATUSES)
    assert {kind.__name__: STATUS[kind][0] for kind in families.values()} == STATUSES


class KeyNotFound(NotFound):
    code = "key_not_found_here"


def test_a_failure_of_a_service_answers_as_its_family() -> None:
    status, document, headers = problem_of(KeyNotFound("No such key.", key_id="77"))
    assert status == 404
    assert headers == {}
    assert document == {
        "type": "urn:companion:problem:key_not_found_here",
        "title": "Not found",
        "status": 404,
        "detail": "No such key.",
        "code": "key_not_found_here",
        "request_id": None,
        "key_id": "77",
    }


def test_sums_among_the_facts_are_told_in_dollars_as_well() -> None:
    document = document_of(KeyNotFound("No.", owed_microusd=-1_500_000, tier="pro"))
    assert (document["owed_microusd"], document["owed_usd"]) == (-1_500_000, "-1.500000")


def test_a_document_names_its_request() -> None:
    reset = current_request_id.set("request-77")
    try:
        assert document_of(KeyNotFound("No."))["request_id"] == "request-77"
    finally:
        current_request_id.reset(reset)


def test_a_failure_of_no_family_is_a_bug() -> None:
    class Stray(ExpectedFailure):
        code = "stray"

    with pytest.raises(TypeError, match="Stray belongs to no family"):
        problem_of(Stray("?"))


@pytest.mark.parametrize(
    ("failure", "seconds"),
    [
        (Unavailable("x"), "2"),
        (DependencyUnavailable("database"), "2"),
        (DependencyUnavailable("database", retry_after=timedelta(milliseconds=100)), "1"),
        (UpstreamFailed("x", retry_after=timedelta(seconds=12.2)), "13"),
        (UpstreamFailed("x"), None),
        (LimitReached("x", retry_after=timedelta(0)), "1"),
        (LimitReached("x", retry_after=timedelta(hours=5)), "18000"),
        (NotFound("x"), None),
    ],
)
def test_who_may_come_back_is_told_when(failure: ExpectedFailure, seconds: str | None) -> None:
    _, document, headers = problem_of(failure)
    assert headers.get("retry-after") == seconds
    assert document.get("retry_after") == (int(seconds) if seconds else None)


def test_moments_are_told_as_everywhere() -> None:
    at = datetime(2026, 11, 30, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=1)))
    failure = LimitReached("x", retry_after=timedelta(hours=5), resets_at=at)
    assert document_of(failure)["resets_at"] == "2026-11-30T00:02:03.000004Z"
    assert json.loads(to_json({"at": at.astimezone(UTC)}))["at"] == "2026-11-30T00:02:03.000004Z"


def test_what_failed_after_it_was_counted_tells_the_windows() -> None:
    windows = [LimitState("minute", 5, 1, timedelta(minutes=1), datetime.now(UTC))]
    failure = after_counting(UpstreamFailed("x"), windows)
    assert problem_of(failure)[2]["RateLimit"] == '"minute";r=4;t=0'
    assert "RateLimit" not in problem_of(UpstreamFailed("x"))[2]


def test_a_missing_dependency_is_named() -> None:
    assert document_of(DependencyUnavailable("database"))["dependency"] == "database"


def test_only_our_own_trouble_is_retryable() -> None:
    assert {kind.__name__ for kind in STATUS if kind.retryable} == {"Unavailable"}
    assert DependencyUnavailable.retryable


def test_sign_in_is_asked_for_as_http_does() -> None:
    assert problem_of(Unauthenticated("x"))[2]["www-authenticate"] == "Bearer"


def test_a_reached_limit_tells_every_window() -> None:
    windows = [
        LimitState("minute", 5, 5, timedelta(minutes=1), datetime.now(UTC) + timedelta(seconds=30)),
        LimitState("day", 50, 7, timedelta(days=1), datetime.now(UTC) + timedelta(hours=2)),
    ]
    _, _, headers = problem_of(LimitReached("x", retry_after=timedelta(seconds=30), limits=windows))
    assert headers["RateLimit-Policy"] == '"minute";q=5;w=60, "day";q=50;w=86400'
    assert headers["RateLimit"].startswith('"minute";r=0;t=30, "day";r=43;t=7200')


def test_a_bug_tells_nothing_but_that_it_is_one() -> None:
    answer = bug_response()
    assert answer.status_code == 500
    assert answer.media_type == PROBLEM
    document = json.loads(bytes(answer.body))
    assert document["code"] == "internal_error"
    assert set(document) == {"type", "title", "status", "detail", "code", "request_id"}


@given(
    fact=st.one_of(
        st.text(st.characters()), st.integers(), st.floats(), st.binary(), st.datetimes(), st.none()
    ),
    detail=st.text(st.characters()),
)
def test_whatever_the_facts_hold_the_answer_is_written(fact: Any, detail: str) -> None:
    assert document_of(NotFound(detail, fact=fact))["code"] == "not_found"


@pytest.mark.parametrize("text", ["\ud800", "\0", "a\nb"])
def test_text_that_is_no_text_is_answered_escaped(text: str) -> None:
    assert document_of(NotFound(text, name=text, n=2**80))["n"] == 2**80
