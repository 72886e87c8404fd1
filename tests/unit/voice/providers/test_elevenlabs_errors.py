"""Every refusal of the vendor, in each of its forms, becomes a failure of ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from services.voice.domain.errors import FormatNotInVendorPlan, SpeechRejected, VoiceNotFound
from services.voice.providers.elevenlabs_errors import failure_of
from shared.clients.egress import NoUsableKey
from shared.errors import ExpectedFailure, Unauthenticated
from shared.http.errors import problem_of
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)

PATH = "/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM/stream?output_format=mp3_44100_64"


def refused(status: int, detail: Any, headers: dict[str, str] | None = None) -> ExpectedFailure:
    return failure_of(status, {"detail": detail}, headers or {}, PATH)


@pytest.mark.parametrize(
    ("status", "word", "family", "ours"),
    [
        (401, "invalid_api_key", NoUsableKey, 409),
        (401, "missing_permissions", NoUsableKey, 409),
        (403, "missing_permissions", NoUsableKey, 409),
        (401, "quota_exceeded", VendorQuotaExhausted, 502),
        (401, "detected_unusual_activity", VendorRefused, 502),
        (402, "payment_required", VendorPlanRequired, 502),
        (402, "paid_plan_required", VendorPlanRequired, 502),
        (403, "only_for_creator+", VendorPlanRequired, 502),
        (403, "output_format_not_allowed", FormatNotInVendorPlan, 502),
        (400, "voice_not_found", VoiceNotFound, 404),
        (404, "voice_not_found", VoiceNotFound, 404),
        (400, "invalid_uid", VoiceNotFound, 404),
        (400, "max_character_limit_exceeded", SpeechRejected, 422),
        (400, "model_not_found", SpeechRejected, 422),
        (422, "invalid_parameters", SpeechRejected, 422),
        (425, "too_early", VendorOverloaded, 502),
        (429, "too_many_concurrent_requests", VendorRateLimited, 502),
        (429, "concurrent_limit_exceeded", VendorRateLimited, 502),
        (429, "system_busy", VendorOverloaded, 502),
        (429, "something_new", VendorRateLimited, 502),
        (401, "something_new", VendorRefused, 502),
        (403, "something_new", VendorRefused, 502),
        (409, "conflict", VendorRefused, 502),
        (500, "internal_server_error", VendorFailed, 502),
        (503, "service_unavailable", VendorOverloaded, 502),
    ],
)
@pytest.mark.parametrize("form", ["status", "code", "both"])
def test_a_refusal_is_known_by_its_word(
    status: int, word: str, family: type[ExpectedFailure], ours: int, form: str
) -> None:
    names = {"status": ["status"], "code": ["code"], "both": ["status", "code"]}[form]
    failure = refused(status, {"message": "…", **dict.fromkeys(names, word)})
    assert type(failure) is family
    assert problem_of(failure)[0] == ours


def test_the_finer_word_goes_first() -> None:
    detail = {"status": "missing_permissions", "code": "unauthorized", "message": "…"}
    assert refused(401, detail).facts["reason"] == "key_restricted"
    detail = {"status": "quota_exceeded", "code": "invalid_api_key", "message": "…"}
    assert isinstance(refused(401, detail), VendorQuotaExhausted)


@pytest.mark.parametrize(
    ("status", "detail", "family"),
    [
        (404, "Not Found", VoiceNotFound),
        (401, "invalid_api_key", NoUsableKey),
        (422, [{"loc": ["body", "text"], "msg": "…", "type": "missing"}], SpeechRejected),
        (500, "Internal Server Error", VendorFailed),
        (400, None, SpeechRejected),
        (400, {"status": None, "code": 7}, SpeechRejected),
        (302, None, VendorFailed),
        (204, None, VendorFailed),
    ],
)
def test_other_forms_are_read_too(status: int, detail: Any, family: type[ExpectedFailure]) -> None:
    assert type(refused(status, detail)) is family


@pytest.mark.parametrize("body", [None, [], "<html>", 7, {}, {"detail": 7}])
def test_a_body_of_any_other_kind_is_judged_by_its_status(body: Any) -> None:
    assert type(failure_of(429, body, {}, PATH)) is VendorRateLimited
    assert type(failure_of(500, body, {}, PATH)) is VendorFailed


def test_what_is_not_found_is_the_voice_unless_the_vendor_names_something_else() -> None:
    gone = refused(404, {"status": "not_found", "param": "voice_id"})
    assert gone.facts == {"voice_id": "21m00Tcm4TlvDq8ikWAM"}
    assert isinstance(refused(404, {"status": "not_found", "param": "model_id"}), SpeechRejected)
    assert isinstance(failure_of(404, None, {}, "/v1/voices"), SpeechRejected)


@pytest.mark.parametrize(
    ("given", "wait"),
    [
        ("3", timedelta(seconds=3)),
        ("0.5", timedelta(seconds=0.5)),
        ("86400", timedelta(hours=1)),
        ("1e300", None),
        ("inf", None),
        ("nan", None),
        ("-1", None),
        ("soon", None),
        ("", None),
    ],
)
def test_how_long_to_wait_is_passed_on_within_reason(given: str, wait: timedelta | None) -> None:
    failure = refused(429, {"status": "system_busy"}, {"retry-after": given})
    assert isinstance(failure, VendorOverloaded)
    assert failure.retry_after == wait


def test_a_date_to_wait_for_is_read_too() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    failure = refused(503, None, {"retry-after": at})
    assert isinstance(failure, VendorOverloaded)
    assert failure.retry_after is not None
    assert timedelta(seconds=15) < failure.retry_after <= timedelta(seconds=20)


def test_no_refusal_of_the_vendor_looks_like_a_bad_sign_in_or_repeats_its_text() -> None:
    for status in range(400, 600):
        failure = refused(status, {"status": "new", "message": "your key sk_123 is bad"})
        assert not isinstance(failure, Unauthenticated)
        assert "sk_123" not in str(problem_of(failure))
