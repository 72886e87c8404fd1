"""Failures as OpenAI's SDKs read them, for the routes that stand in for OpenAI's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from services.chat.domain.errors import (
    AnswerLost,
    AnswerNotKept,
    ModelUnavailable,
    PromptTooLong,
    QuestionTooLong,
    VendorRejectedRequest,
)
from shared.clients.egress import KeyRefused
from shared.errors import ExpectedFailure, LimitReached
from shared.http.openai_errors import (
    LIMIT_FACTS,
    SHOWN,
    SPENT,
    Shown,
    nearest,
    openai_errors,
    route_class,
    told,
)
from shared.limits.tier_admission import SPENDING
from shared.vendors.failures import may_be_charged

__all__ = ["OpenAIRoute", "error_answer", "error_document", "openai_errors"]

_TOO_LONG = "context_length_exceeded"
_SHOWN: Mapping[type[ExpectedFailure], Shown] = {
    **SHOWN,
    QuestionTooLong: Shown(400, code=_TOO_LONG),
    AnswerLost: Shown(final=True),
    AnswerNotKept: Shown(final=True),
    KeyRefused: Shown(403, final=True),
    VendorRejectedRequest: Shown(400, final=True),
    PromptTooLong: Shown(400, code=_TOO_LONG, final=True),
    ModelUnavailable: Shown(404, final=True),
}


def error_document(failure: ExpectedFailure) -> dict[str, Any]:
    """OpenAI's error object for one of our failures."""
    return error_answer(failure)[1]


def error_answer(failure: ExpectedFailure) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, error object and headers of a failure, as OpenAI's SDKs read them."""
    # SDKs try again by themselves, and what may have been charged must not be charged again.
    return told(
        failure,
        _shown(failure),
        final=may_be_charged(failure),
        facts=LIMIT_FACTS if isinstance(failure, LimitReached) else (),
    )


def _shown(failure: ExpectedFailure) -> Shown:
    if isinstance(failure, LimitReached) and failure.facts.get("scope") == SPENDING:
        return SPENT
    return nearest(failure, _SHOWN)


def _response(failure: ExpectedFailure) -> Response:
    status, document, headers = error_answer(failure)
    return JSONResponse(document, status, headers)


OpenAIRoute = route_class(_response)
