"""Failures in each vendor's shape, and nothing of what a vendor wrote that could be a key."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from services.chat.api import (
    dropin_anthropic,
    dropin_anthropic_errors,
    dropin_gemini,
    dropin_gemini_errors,
    dropin_openai,
    dropin_openai_errors,
)
from services.chat.api.dropin_door import Manner
from services.chat.api.dropin_errors import field_name, told, told_refusal
from services.chat.domain.errors import ModelNotInTier, VendorRejectedRequest
from services.chat.domain.raw_calls import RawRefusal
from services.chat.domain.relayed import AnswerHead
from shared.errors import ExpectedFailure, LimitReached
from shared.events.base import current_request_id
from shared.http.errors import vendor_failed
from shared.limit_state import LimitState
from shared.limits.tier_admission import SPENDING
from shared.vendors.failures import (
    NoUsableKey,
    VendorFailed,
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
)

SECRET = "sk-proj-0123456789abcdefghijABCDEFGH"
MANNERS = {
    "openai": dropin_openai.MANNER,
    "anthropic": dropin_anthropic.MANNER,
    "gemini": dropin_gemini.MANNER,
}
every = pytest.mark.parametrize("manner", MANNERS.values(), ids=MANNERS)
NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def limit_reached(scope: str) -> LimitReached:
    window = LimitState("openai.requests_per_minute", 20, 20, timedelta(minutes=1), NOON)
    return LimitReached(
        "Full.", retry_after=timedelta(seconds=31), limits=[window], scope=scope, resets_at=NOON
    )


def refusal(document: Any, failure: ExpectedFailure, status: int = 400, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return RawRefusal(status, document, named, failure)


REJECTED = VendorRejectedRequest("The vendor did not accept the request.", provider="x")


@every
def test_a_vendors_failure_is_noted_as_one_whatever_its_status(manner: Manner) -> None:
    vendor_failed.set(False)
    manner.refusal(refusal({}, NoUsableKey("openai"), 401))
    assert not vendor_failed.get()
    manner.refusal(refusal({}, VendorOverloaded("It is in trouble.", provider="openai"), 503))
    assert vendor_failed.get()


@every
def test_a_vendors_words_are_only_those_that_are_known(manner: Manner) -> None:
    echo = {
        "message": f"Incorrect key {SECRET}",
        "type": SECRET,
        "code": SECRET,
        "param": SECRET,
        "status": SECRET,
        "details": [{"reason": SECRET, "retryDelay": SECRET, "message": SECRET}, SECRET],
    }
    documents: list[Any] = [
        {"error": echo, "type": "error", "request_id": SECRET},
        {"error": {**echo, "details": {"error_code": SECRET}}},
        {"error": SECRET},
        {"error": [SECRET]},
        {},
    ]
    for document in documents:
        answer = manner.refusal(refusal(document, REJECTED, retry_after=SECRET, x_other=SECRET))
        assert answer.status_code == 400
        assert SECRET not in bytes(answer.body).decode() + repr(answer.raw_headers)
        assert REJECTED.message in bytes(answer.body).decode()


def test_what_programs_branch_on_is_kept() -> None:
    error: Any = {
        "type": "invalid_request_error",
        "code": "unsupported_value",
        "param": "messages[0].x",
    }
    said = told_refusal(refusal({"error": error}, REJECTED, 422), dropin_openai_errors.words)
    shown = dropin_openai_errors.document(said)["error"]
    assert (said.status, shown["type"], shown["code"], shown["param"]) == (422, *error.values())
    error = {"type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}}
    told_by = refusal({"error": error}, REJECTED, 429, retry_after="12", x_should_retry="true")
    said = told_refusal(told_by, dropin_anthropic_errors.words)
    shown = dropin_anthropic_errors.document(said)["error"]
    assert shown["type"] == "rate_limit_error"
    assert shown["details"]["error_code"] == "ramp_limit_exceeded"
    assert (said.headers["retry-after"], said.headers["x-should-retry"]) == ("12", "true")
    error = {"status": "UNAVAILABLE", "details": [{"retryDelay": "1.5s"}]}
    said = told_refusal(refusal({"error": error}, REJECTED, 503), dropin_gemini_errors.words)
    shown = dropin_gemini_errors.document(said)["error"]
    assert (shown["code"], shown["status"]) == (503, "UNAVAILABLE")
    assert shown["details"][1]["retryDelay"] == "1.5s"


@every
@pytest.mark.parametrize("status", [401, 403, 400, 409])
def test_what_is_about_the_stored_key_is_never_a_401(manner: Manner, status: int) -> None:
    failure = NoUsableKey("The vendor no longer accepts your key.", reason="key_rejected")
    for answer in (manner.refusal(refusal({}, failure, status)), manner.error(failure)):
        assert answer.status_code == 403
        assert answer.headers["x-should-retry"] == "false"


@every
def test_a_status_that_is_no_refusal_is_not_passed_on(manner: Manner) -> None:
    assert manner.refusal(refusal({}, REJECTED, 204)).status_code == 502
    assert manner.refusal(refusal({}, REJECTED, 307)).status_code == 502


@every
def test_a_limit_says_when_to_come_back_and_a_cap_of_money_that_it_is_no_use(
    manner: Manner,
) -> None:
    answer = manner.error(limit_reached("openai.requests_per_minute"))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "31")
    assert "x-should-retry" not in answer.headers
    assert "2026-11-28" in bytes(answer.body).decode()
    assert manner.error(limit_reached(SPENDING)).headers["x-should-retry"] == "false"
    quota = VendorQuotaExhausted("Used up.", provider="openai")
    assert manner.refusal(refusal({}, quota, 429)).headers["x-should-retry"] == "false"


@every
def test_nobody_is_to_sleep_until_tomorrow(manner: Manner) -> None:
    full = LimitReached("Full.", retry_after=timedelta(hours=11), scope="openai.requests_per_day")
    answer = manner.error(full)
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("39600", "false")
    soon = LimitReached("Full.", retry_after=timedelta(seconds=60))
    assert "x-should-retry" not in manner.error(soon).headers
    limited = VendorRateLimited("Too fast.", provider="x")
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    for long in (
        {"retry_after": "61", "x_should_retry": "true"},
        {"retry_after_ms": "60001"},
        {"retry_after": tomorrow},
    ):
        answer = manner.refusal(refusal({}, limited, 429, **long))
        assert answer.headers["x-should-retry"] == "false", long
    past = "Sat, 28 Nov 2020 12:00:00 GMT"
    for short in ({"retry_after": "60"}, {"retry_after": past}, {"retry_after": "Tag, 1 x"}):
        assert "x-should-retry" not in manner.refusal(refusal({}, limited, 429, **short)).headers


def test_of_two_windows_the_tighter_is_told() -> None:
    minute = LimitState("openai.requests_per_minute", 5, 3, timedelta(minutes=1), NOON)
    later = datetime.now(UTC) + timedelta(hours=2, minutes=3, seconds=4)
    day = LimitState("openai.requests_per_day", 50, 50, timedelta(days=1), later)
    month = LimitState("elevenlabs.characters_per_month", 9, 9, timedelta(days=30), later)
    full = LimitReached("Full.", retry_after=timedelta(1), limits=[minute, day, month])
    headers = dropin_openai.MANNER.error(full).headers
    assert headers["x-ratelimit-limit-requests"] == "50"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"].startswith("2h3m")
    headers = dropin_anthropic.MANNER.error(full).headers
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert headers["anthropic-ratelimit-requests-reset"] == f"{later:%Y-%m-%dT%H:%M:%SZ}"
    both = LimitReached("Full.", retry_after=timedelta(1), limits=[replace(minute, used=5), day])
    # Of two that have nothing left, the one that stays so for longer.
    assert dropin_openai.MANNER.error(both).headers["x-ratelimit-limit-requests"] == "50"
    day = replace(day, used=10)
    at_once = LimitReached("Full.", retry_after=timedelta(1), limits=[day, minute])
    headers = dropin_openai.MANNER.error(at_once).headers
    assert headers["x-ratelimit-remaining-requests"] == "2"


def test_anthropics_sdk_finds_an_id_in_every_answer() -> None:
    known = current_request_id.set("0199-an-id")
    try:
        for answer in (
            dropin_anthropic.MANNER.error(limit_reached("x")),
            dropin_anthropic.MANNER.refusal(refusal({}, REJECTED)),
        ):
            assert answer.headers["request-id"] == "0199-an-id"
            assert json.loads(bytes(answer.body))["request_id"] == "0199-an-id"
        head = AnswerHead("application/json", {}, (), "pro")
        assert dropin_anthropic.MANNER.answer_headers(head)["request-id"] == "0199-an-id"
        head = replace(head, vendor_headers={"request-id": "req_vendors"})
        assert dropin_anthropic.MANNER.answer_headers(head)["request-id"] == "req_vendors"
        assert "request-id" not in dropin_openai.MANNER.error(limit_reached("x")).headers
    finally:
        current_request_id.reset(known)


def test_limits_are_told_in_the_names_that_sdks_read() -> None:
    answer = dropin_openai.MANNER.error(limit_reached("x"))
    assert answer.headers["x-ratelimit-limit-requests"] == "20"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    answer = dropin_anthropic.MANNER.error(limit_reached("x"))
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "20"
    assert answer.headers["anthropic-ratelimit-requests-reset"] == "2026-11-28T12:00:00Z"
    error = json.loads(bytes(dropin_gemini.MANNER.error(limit_reached("x")).body))["error"]
    assert error["details"][1]["retryDelay"] == "31s"


@every
def test_the_families_have_statuses_that_sdks_have_classes_for(manner: Manner) -> None:
    assert manner.error(ModelNotInTier("m", "free", ["a"])).status_code == 403
    assert manner.error(VendorFailed("openai")).status_code == 502
    assert told(VendorFailed("openai", billed=False)).headers == {}


@pytest.mark.parametrize("name", ["temperature", "messages[0].content", "tools.0.custom.input"])
def test_names_of_fields_are_known_by_their_form(name: str) -> None:
    assert field_name(name) == name


@pytest.mark.parametrize(
    "value", [SECRET, "AIzaSyA0123456789", "0123abcd" * 4, "a b", "", None, 7, "x" * 41, "a\n"]
)
def test_what_may_be_a_key_is_no_name_of_a_field(value: Any) -> None:
    assert field_name(value) is None
