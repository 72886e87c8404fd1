"""Failures as OpenAI's SDKs read them, for the route that stands in for OpenAI's speech.

The same rules as chat's under `/v1`: the SDK goes by the status and by `x-should-retry`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from services.voice.domain.errors import (
    AlreadySpoken,
    FormatNotInVendorPlan,
    SpeechStopped,
    VoiceNotFound,
)
from shared.clients.egress import KeyRefused
from shared.errors import ExpectedFailure, Invalid, LimitReached, NotInTier, PaymentRequired
from shared.http.errors import problem_of
from shared.http.openai_limits import openai_limit_headers
from shared.http.problems import Responses
from shared.lenient_json import to_json
from shared.vendors.failures import (
    NoUsableKey,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
    VendorRateLimited,
)

_QUOTA = "insufficient_quota"
_TYPES = {
    401: "authentication_error",
    402: _QUOTA,
    403: "permission_error",
    429: "rate_limit_error",
}
_MONTH = ".characters_per_month"


@dataclass(frozen=True, slots=True)
class _Shown:
    """How OpenAI would tell it; what is None follows from the family and the status. `final`: the
    SDK is told not to try again."""

    status: int | None = None
    type: str | None = None
    param: str | None = None
    final: bool = False


# By the nearest class.
_SHOWN: Mapping[type[ExpectedFailure], _Shown] = {
    Invalid: _Shown(400),
    NotInTier: _Shown(final=True),
    PaymentRequired: _Shown(final=True),
    VoiceNotFound: _Shown(param="voice"),
    AlreadySpoken: _Shown(final=True),
    SpeechStopped: _Shown(final=True),
    NoUsableKey: _Shown(403, final=True),
    KeyRefused: _Shown(403, final=True),
    VendorRateLimited: _Shown(429),
    VendorOverloaded: _Shown(503),
    VendorQuotaExhausted: _Shown(429, _QUOTA, final=True),
    VendorPlanRequired: _Shown(403, final=True),
    FormatNotInVendorPlan: _Shown(403, param="response_format", final=True),
}
_SPENT = _Shown(429, _QUOTA, final=True)  # it is another month until trying again helps
_FACTS = ("limit", "used", "scope", "resets_at", "retry_after", "upgrade_tier", "formats", "models")


class OpenAIError(BaseModel):
    """What went wrong; `code` is ours and stable. A limit, or what the tier lacks, names itself in
    further fields."""

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
                return error_response(failure)
            except RequestValidationError as failure:
                return _off_schema(failure)

        return handled


def openai_errors(*statuses: int) -> Responses:
    """FastAPI's `responses=` for such a route."""
    return {
        status: {"model": OpenAIErrorBody, "description": _type_of(status)}
        for status in (*statuses, 422, 503)
    }


def error_response(failure: ExpectedFailure, *, charged: bool = False) -> Response:
    """One of our failures as an answer. `charged`: after audio was made, and so paid for."""
    family_status, _, headers = problem_of(failure)
    shown = _shown(failure)
    if shown.final or charged:
        headers["x-should-retry"] = "false"
    if isinstance(failure, LimitReached):
        headers |= openai_limit_headers(failure.limits, datetime.now(UTC))
    body = to_json(error_document(failure))
    status = shown.status or family_status
    return Response(body, status, headers, media_type="application/json")


def error_document(failure: ExpectedFailure) -> dict[str, Any]:
    """OpenAI's error object for one of our failures."""
    family_status, document, _ = problem_of(failure)
    shown = _shown(failure)
    param = failure.facts.get("param", shown.param)
    error = OpenAIError(
        message=document["detail"],
        type=shown.type or _type_of(shown.status or family_status),
        param=param if isinstance(param, str) else None,
        code=failure.code,
    )
    facts = {name: document[name] for name in _FACTS if name in document}
    return {"error": {**error.model_dump(), **facts}}


def _shown(failure: ExpectedFailure) -> _Shown:
    if isinstance(failure, LimitReached) and str(failure.facts.get("scope")).endswith(_MONTH):
        return _SPENT
    return next((_SHOWN[kind] for kind in type(failure).__mro__ if kind in _SHOWN), _Shown())


def _off_schema(failure: RequestValidationError) -> Response:
    """Where it is wrong and why, never what was sent: that may be a secret."""
    first = failure.errors()[0]
    name = str(first["loc"][1]) if len(first["loc"]) > 1 else ""
    error = OpenAIError(
        message=f"{name}: {first['msg']}.",
        type=_type_of(400),
        param=name or None,
        code="bad_parameter",
    )
    return Response(to_json({"error": error.model_dump()}), 400, media_type="application/json")


def _type_of(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
