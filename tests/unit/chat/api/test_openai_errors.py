"""Which failure of ours has which status, type and code in OpenAI's wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.chat.api.dropin_errors import told
from services.chat.api.openai_errors import error_answer, error_document
from services.chat.domain.errors import (
    AnswerEnded,
    AnswerLost,
    AnswerNotKept,
    ContentBlocked,
    FeatureNotInTier,
    ModelUnavailable,
    PromptTooLong,
    QuestionTooLong,
    SessionNotFound,
    VendorRejectedRequest,
)
from shared.errors import (
    DependencyUnavailable,
    ExpectedFailure,
    Forbidden,
    LimitReached,
    SessionEnded,
    TooLarge,
    UpstreamFailed,
)
from shared.http.errors import problem_of, vendor_failed
from shared.idempotency import IdempotencyKeyReused, RequestInProgress
from shared.limit_state import LimitState
from shared.limits.tier_admission import SPENDING
from shared.vendors.dropins import BadParameter, ModelNotFound
from shared.vendors.failures import (
    NoUsableKey,
    VendorFailed,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)

INVALID, LIMIT, QUOTA = "invalid_request_error", "rate_limit_error", "insufficient_quota"
SERVER, PERMISSION = "server_error", "permission_error"
SOON = timedelta(seconds=7)
AGAIN, FINAL = True, False


def refused(kind: type[VendorRefused]) -> VendorRefused:
    return kind("The vendor said no.", provider="openai", retry_after=SOON)


TABLE: list[tuple[ExpectedFailure, int, str, str, bool]] = [
    (BadParameter("n", "1"), 400, INVALID, "bad_parameter", AGAIN),
    (QuestionTooLong(9, 5), 400, INVALID, "context_length_exceeded", AGAIN),
    (ContentBlocked("openai", None), 400, INVALID, "content_blocked", AGAIN),
    (IdempotencyKeyReused(), 400, INVALID, "idempotency_key_reused", AGAIN),
    (SessionEnded(), 401, "authentication_error", "session_ended", AGAIN),
    (FeatureNotInTier("x", "openai", "free", None), 402, QUOTA, "feature_not_in_tier", FINAL),
    (Forbidden("No."), 403, PERMISSION, "forbidden", AGAIN),
    (NoUsableKey("No key."), 403, PERMISSION, "no_usable_key", FINAL),
    (ModelNotFound(), 404, INVALID, "model_not_found", AGAIN),
    (SessionNotFound(uuid4()), 404, INVALID, "session_not_found", AGAIN),
    (RequestInProgress(), 409, INVALID, "request_in_progress", AGAIN),
    (AnswerNotKept(), 409, INVALID, "answer_not_kept", FINAL),
    (TooLarge("Too large."), 413, INVALID, "too_large", AGAIN),
    (LimitReached("Full.", retry_after=SOON, scope="day"), 429, LIMIT, "limit_reached", AGAIN),
    (LimitReached("Spent.", retry_after=SOON, scope=SPENDING), 429, QUOTA, "limit_reached", FINAL),
    (refused(VendorRateLimited), 429, LIMIT, "vendor_rate_limited", AGAIN),
    (refused(VendorQuotaExhausted), 429, QUOTA, "vendor_quota_exhausted", FINAL),
    (refused(VendorPlanRequired), 403, PERMISSION, "vendor_plan_required", FINAL),
    (refused(VendorRejectedRequest), 400, INVALID, "vendor_rejected_request", FINAL),
    (refused(PromptTooLong), 400, INVALID, "context_length_exceeded", FINAL),
    (refused(ModelUnavailable), 404, INVALID, "model_unavailable", FINAL),
    (refused(VendorRefused), 502, SERVER, "vendor_refused", AGAIN),
    (VendorFailed("openai"), 502, SERVER, "vendor_failed", FINAL),
    (refused(VendorOverloaded), 503, SERVER, "vendor_overloaded", AGAIN),
    (AnswerLost(None), 503, SERVER, "answer_lost", FINAL),
    (AnswerEnded(), 503, SERVER, "answer_ended", AGAIN),
    (DependencyUnavailable("cache"), 503, SERVER, "dependency_unavailable", AGAIN),
]


def test_nobody_is_told_to_wait_for_what_stays_lost() -> None:
    status, document, headers = problem_of(AnswerLost(None))
    assert (status, document["code"]) == (503, "answer_lost")
    assert "retry-after" not in headers and "retry_after" not in document


@pytest.mark.parametrize(
    ("failure", "status", "kind", "code", "again"),
    TABLE,
    ids=[f"{type(row[0]).__name__}-{row[1]}-{row[2]}" for row in TABLE],
)
def test_each_failure_is_told_as_openai_would(
    failure: ExpectedFailure, status: int, kind: str, code: str, again: bool
) -> None:
    vendor_failed.set(False)
    shown, document, headers = error_answer(failure)
    assert vendor_failed.get() is isinstance(failure, UpstreamFailed)
    assert shown == status
    assert document["error"]["type"] == kind
    assert document["error"]["code"] == code
    assert document["error"]["message"] == failure.message
    assert (headers.get("x-should-retry") != "false") is again
    assert error_document(failure) == document


def test_when_to_come_back_is_told_where_it_is_known() -> None:
    for failure in (refused(VendorRateLimited), LimitReached("Full.", retry_after=SOON)):
        assert error_answer(failure)[2]["retry-after"] == "7"


def test_nobody_is_to_sleep_until_tomorrow() -> None:
    full = LimitReached("Full.", retry_after=timedelta(hours=11), scope="openai.requests_per_day")
    _, document, headers = error_answer(full)
    assert (headers["retry-after"], headers["x-should-retry"]) == ("39600", "false")
    assert document["error"]["type"] == LIMIT


def test_a_limit_names_itself_and_its_windows() -> None:
    window = LimitState("openai.requests_per_minute", 5, 5, timedelta(minutes=1), datetime.now(UTC))
    facts = {"limit": 5, "scope": window.name, "upgrade_tier": "pro"}
    full = LimitReached("Full.", retry_after=SOON, limits=[window], **facts)
    _, document, headers = error_answer(full)
    assert document["error"].items() >= {**facts, "retry_after": 7}.items()
    assert headers["x-ratelimit-limit-requests"] == "5"
    assert headers["x-ratelimit-remaining-requests"] == "0"


def test_only_the_name_of_a_field_is_shown_as_one() -> None:
    assert error_document(BadParameter("tools[0].type", "x"))["error"]["param"] == "tools[0].type"
    odd = ExpectedFailure.__new__(ModelNotFound)
    ExpectedFailure.__init__(odd, "No.", param={"not": "a name"})
    assert error_document(odd)["error"]["param"] is None


@pytest.mark.parametrize(("billed", "word"), [(True, "false"), (False, None)])
def test_what_may_have_been_charged_is_not_to_be_tried_again(
    billed: bool, word: str | None
) -> None:
    failure = VendorFailed("openai", billed=billed)
    assert error_answer(failure)[2].get("x-should-retry") == word
    assert told(failure).headers.get("x-should-retry") == word
