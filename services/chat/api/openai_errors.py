"""Failures as OpenAI's SDKs read them, for the routes that stand in for OpenAI's."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from services.chat.domain.errors import (
    AnswerNotKept,
    ModelUnavailable,
    PromptTooLong,
    QuestionTooLong,
    VendorRejectedRequest,
)
from shared.clients.egress import KeyRefused
from shared.errors import ExpectedFailure, Invalid, LimitReached, NotInTier, PaymentRequired
from shared.http.errors import problem_of
from shared.http.openai_limits import openai_limit_headers
from shared.http.problems import Responses
from shared.limits.tier_admission import SPENDING
from shared.vendors.failures import (
    NoUsableKey,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
    VendorRateLimited,
    may_be_charged,
)

_QUOTA = "insufficient_quota"
_TYPES = {
    401: "authentication_error",
    402: _QUOTA,
    403: "permission_error",
    429: "rate_limit_error",
}
_TOO_LONG = "context_length_exceeded"


@dataclass(frozen=True, slots=True)
class _Shown:
    """How OpenAI would tell it; what is None follows from the family and the status. `final`: SDKs,
    which go by the status, are told not to try again."""

    status: int | None = None
    type: str | None = None
    code: str | None = None
    final: bool = False


# By the nearest class. A vendor's rate limit and trouble keep the status that they have at OpenAI,
# so that the backoff of the SDKs works. A key that is missing or refused is no 401, which would be
# about the token of ours, and no 409, which SDKs try again.
_SHOWN: Mapping[type[ExpectedFailure], _Shown] = {
    Invalid: _Shown(400),
    QuestionTooLong: _Shown(400, code=_TOO_LONG),
    NotInTier: _Shown(final=True),
    PaymentRequired: _Shown(final=True),
    AnswerNotKept: _Shown(final=True),
    NoUsableKey: _Shown(403, final=True),
    KeyRefused: _Shown(403, final=True),
    VendorRejectedRequest: _Shown(400, final=True),
    PromptTooLong: _Shown(400, code=_TOO_LONG, final=True),
    ModelUnavailable: _Shown(404, final=True),
    VendorRateLimited: _Shown(429),
    VendorOverloaded: _Shown(503),
    VendorQuotaExhausted: _Shown(429, _QUOTA, final=True),
    VendorPlanRequired: _Shown(403, final=True),
}
_SPENT = _Shown(429, _QUOTA, final=True)
# Which limit it is stands beside what OpenAI says, as under every other path.
_LIMIT_FACTS = ("limit", "used", "scope", "resets_at", "retry_after", "upgrade_tier")


class OpenAIError(BaseModel):
    """What went wrong; `code` is ours and stable."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIErrorBody(BaseModel):
    """OpenAI's envelope around it."""

    error: OpenAIError


class OpenAIRoute(APIRoute):
    """A route whose expected failures, also those of its dependencies, have OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except ExpectedFailure as failure:
                return _response(failure)
            except RequestValidationError as failure:
                return _off_schema(failure)

        return handled


def openai_errors(*statuses: int) -> Responses:
    """FastAPI's `responses=` for such a route."""
    return {
        status: {"model": OpenAIErrorBody, "description": _type_of(status)}
        for status in (*statuses, 422, 503)
    }


def error_document(failure: ExpectedFailure) -> dict[str, Any]:
    """OpenAI's error object for one of our failures."""
    return error_answer(failure)[1]


def error_answer(failure: ExpectedFailure) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, error object and headers of a failure, as OpenAI's SDKs read them."""
    family_status, document, headers = problem_of(failure)
    shown = _shown(failure)
    status = shown.status or family_status
    param = failure.facts.get("param")
    error = OpenAIError(
        message=document["detail"],
        type=shown.type or _type_of(status),
        param=param if isinstance(param, str) else None,
        code=shown.code or failure.code,
    )
    # SDKs try again by themselves, and what may have been charged must not be charged again.
    if shown.final or may_be_charged(failure):
        headers["x-should-retry"] = "false"
    if not isinstance(failure, LimitReached):
        return status, {"error": error.model_dump()}, headers
    facts = {name: document[name] for name in _LIMIT_FACTS if name in document}
    limits = openai_limit_headers(failure.limits, datetime.now(UTC))
    return status, {"error": {**error.model_dump(), **facts}}, headers | limits


def _shown(failure: ExpectedFailure) -> _Shown:
    if isinstance(failure, LimitReached) and failure.facts.get("scope") == SPENDING:
        return _SPENT
    kinds = (_SHOWN[kind] for kind in type(failure).__mro__ if kind in _SHOWN)
    return next(kinds, _Shown())


def _response(failure: ExpectedFailure) -> Response:
    status, document, headers = error_answer(failure)
    return JSONResponse(document, status, headers)


def _off_schema(failure: RequestValidationError) -> Response:
    """Where it is wrong, never what was sent: that may be a secret."""
    place = failure.errors()[0]["loc"]
    error = OpenAIError(
        message="The request is not valid.",
        type=_type_of(422),
        param=str(place[-1]) if len(place) == 2 else None,
        code="invalid_request",
    )
    return JSONResponse({"error": error.model_dump()}, 422)


def _type_of(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
