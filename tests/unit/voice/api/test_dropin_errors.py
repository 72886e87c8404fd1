"""Every failure there is, as ElevenLabs and as OpenAI would tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

import services.voice.app  # noqa: F401 - with all that can go wrong in it
from services.voice.api import dropin_errors, openai_errors
from shared.errors import ExpectedFailure, LimitReached, NotInTier, Unauthenticated
from shared.http.openai_errors import OpenAIErrorBody
from shared.limit_state import LimitState
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
)

# What the vendor's SDK tries again by itself.
TRIED_AGAIN = {408, 409, 429}


def _catalogue() -> list[type[ExpectedFailure]]:
    found, coming = [], [ExpectedFailure]
    while coming:
        for kind in coming.pop().__subclasses__():
            coming.append(kind)
            if kind.__module__.startswith(("services.voice", "shared.")):
                found.append(kind)
    return sorted(set(found), key=lambda kind: f"{kind.__module__}.{kind.__name__}")


def a(kind: type[ExpectedFailure]) -> ExpectedFailure:
    """One of that kind, whatever it wants to be told."""
    failure = kind.__new__(kind)
    ExpectedFailure.__init__(failure, "It did not work.", param="speed", limit=5)
    failure.__dict__.setdefault("limits", ())
    failure.__dict__["retry_after"] = timedelta(seconds=7)
    return failure


@pytest.mark.parametrize("kind", _catalogue(), ids=lambda kind: kind.__name__)
def test_each_failure_has_a_form(kind: type[ExpectedFailure]) -> None:
    failure = a(kind)
    theirs = dropin_errors.error_response(failure)
    detail = orjson.loads(theirs.body)["detail"]
    assert dropin_errors.ElevenLabsError.model_validate(detail).code == failure.code
    assert theirs.headers["retry-after"] == "7"
    assert (theirs.status_code == 401) == isinstance(failure, Unauthenticated)
    document = orjson.loads(openai_errors.error_response(failure).body)
    error = OpenAIErrorBody.model_validate(document).error
    assert (error.code, error.message) == (failure.code, "It did not work.")


@pytest.mark.parametrize("kind", [NotInTier, VendorQuotaExhausted, VendorPlanRequired])
def test_what_no_second_try_brings_is_not_tried_again(kind: type[ExpectedFailure]) -> None:
    assert dropin_errors.error_response(a(kind)).status_code not in TRIED_AGAIN
    assert openai_errors.error_response(a(kind)).headers["x-should-retry"] == "false"


def test_what_was_charged_is_not_tried_again() -> None:
    cut = VendorFailed("elevenlabs")
    assert dropin_errors.error_response(cut).status_code == 502
    charged = dropin_errors.error_response(cut, charged=True)
    assert charged.status_code == 424
    assert openai_errors.error_response(cut, charged=True).headers["x-should-retry"] == "false"
    assert "x-should-retry" not in openai_errors.error_response(cut).headers


def test_a_vendor_that_is_busy_is_tried_again() -> None:
    assert dropin_errors.error_response(a(VendorOverloaded)).status_code in TRIED_AGAIN
    assert openai_errors.error_response(a(VendorOverloaded)).status_code == 503


def test_the_month_is_a_quota_and_the_minute_a_rate() -> None:
    now = datetime.now(UTC)
    words = {}
    for scope in ("elevenlabs.characters_per_month", "elevenlabs.requests_per_minute"):
        window = LimitState(scope, 5, 5, timedelta(minutes=1), now + timedelta(seconds=9))
        full = LimitReached(
            "It is full.", retry_after=timedelta(seconds=9), limits=[window], scope=scope
        )
        detail = orjson.loads(dropin_errors.error_response(full).body)["detail"]
        theirs = openai_errors.error_response(full)
        words[scope] = (
            detail["status"],
            orjson.loads(theirs.body)["error"]["type"],
            theirs.headers.get("x-should-retry"),
        )
    assert words == {
        "elevenlabs.characters_per_month": ("quota_exceeded", "insufficient_quota", "false"),
        "elevenlabs.requests_per_minute": ("rate_limit_exceeded", "rate_limit_error", None),
    }
