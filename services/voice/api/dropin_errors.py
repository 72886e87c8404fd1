"""Failures as ElevenLabs tells them: https://elevenlabs.io/docs/errors

Clients match `status` first, which therefore has the vendor's own word where it has one for what
happened; `code` is always ours. The vendor's SDK goes by the HTTP status: it tries 408, 409, 429
and all from 500 on again by itself, whatever else it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from services.voice.domain.errors import (
    FormatNotInVendorPlan,
    SpeechStopped,
    VoiceNotClonedHere,
    VoiceNotFound,
    VoiceOnAnotherKey,
    VoiceSlotsFull,
)
from shared.errors import (
    ExpectedFailure,
    Invalid,
    LimitReached,
    NotInTier,
    PaymentRequired,
    Unauthenticated,
)
from shared.http.errors import problem_of
from shared.http.problems import Responses
from shared.lenient_json import to_json
from shared.values import dataclass
from shared.vendors.failures import (
    NoUsableKey,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)

_TYPES = {
    400: "validation_error",
    401: "authentication_error",
    402: "payment_required",
    403: "authorization_error",
    404: "not_found",
    409: "conflict",
    422: "validation_error",
    429: "rate_limit_error",
}
_PLAN = "paid_plan_required"
_QUOTA = "quota_exceeded"
# An error of its own for what was charged and did not arrive: SDKs leave it at that, and do not
# have it charged again.
CHARGED = 424
_OWN = frozenset({"type", "title", "status", "detail", "code", "request_id"})


@dataclass(frozen=True, slots=True)
class _Shown:
    """How ElevenLabs would tell it; what is None follows from the family."""

    status: int | None = None
    word: str | None = None
    param: str | None = None


# By the nearest class. A key that is missing or refused is no 401, which would be about the token
# of ours, and no 409, which the SDK tries again. What credit or plan at the vendor lack, no second
# try brings.
_SHOWN: Mapping[type[ExpectedFailure], _Shown] = {
    Invalid: _Shown(422),
    Unauthenticated: _Shown(401, "invalid_api_key"),
    NotInTier: _Shown(402, _PLAN),
    PaymentRequired: _Shown(402, "payment_required"),
    NoUsableKey: _Shown(403),
    VoiceNotFound: _Shown(404, "voice_not_found", "voice_id"),
    VoiceNotClonedHere: _Shown(403),
    VoiceOnAnotherKey: _Shown(403),
    VoiceSlotsFull: _Shown(400, "voice_limit_reached"),
    LimitReached: _Shown(429, "rate_limit_exceeded"),
    VendorRefused: _Shown(403),
    FormatNotInVendorPlan: _Shown(403, "output_format_not_allowed", "output_format"),
    VendorQuotaExhausted: _Shown(402, _QUOTA),
    VendorPlanRequired: _Shown(402, _PLAN),
    VendorRateLimited: _Shown(429, "too_many_concurrent_requests"),
    VendorOverloaded: _Shown(429, "system_busy"),
    SpeechStopped: _Shown(CHARGED),
}
_MONTH = ".characters_per_month"


class ElevenLabsError(BaseModel):
    """What went wrong: `status` in the vendor's words where it has one, `code` in ours."""

    type: str
    code: str
    status: str
    message: str
    request_id: str | None
    param: str | None = None


class ElevenLabsErrorBody(BaseModel):
    """ElevenLabs' envelope around it; a list of what is wrong where a field is."""

    detail: ElevenLabsError | list[dict[str, Any]]


class ElevenLabsRoute(APIRoute):
    """A route whose expected failures, also those of reading a request, have ElevenLabs' shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except ExpectedFailure as failure:
                return error_response(failure)
            except RequestValidationError as failure:
                return _off_schema(failure.errors())

        return handled


def elevenlabs_errors(*statuses: int) -> Responses:
    """FastAPI's `responses=` for such a route."""
    return {
        status: {"model": ElevenLabsErrorBody, "description": "ElevenLabs' error."}
        for status in (*statuses, 400, 401, 403, 422, 503)
    }


def error_response(failure: ExpectedFailure, *, charged: bool = False) -> Response:
    """One of our failures as an answer. `charged`: after audio was made, and so paid for."""
    family_status, document, headers = problem_of(failure)
    shown = _shown(failure)
    status = CHARGED if charged else shown.status or family_status
    detail = {
        "type": _TYPES.get(status, "server_error" if status >= 500 else "validation_error"),
        "code": failure.code,
        "status": shown.word or failure.code,
        "message": document["detail"],
        "request_id": document["request_id"],
        **({"param": shown.param} if shown.param else {}),
        **{name: value for name, value in document.items() if name not in _OWN},
    }
    body = to_json({"detail": detail})
    return Response(body, status, headers, media_type="application/json")


def _shown(failure: ExpectedFailure) -> _Shown:
    if isinstance(failure, LimitReached) and str(failure.facts.get("scope")).endswith(_MONTH):
        return _Shown(429, _QUOTA)
    return next((_SHOWN[kind] for kind in type(failure).__mro__ if kind in _SHOWN), _Shown())


def _off_schema(errors: Sequence[Any]) -> Response:
    """Where it is wrong, never what was sent: that may be a secret."""
    places = [
        {"loc": list(one["loc"]), "msg": _message(one), "type": one["type"]} for one in errors
    ]
    return Response(to_json({"detail": places}), 422, media_type="application/json")


def _message(error: Any) -> str:
    # Messages of our own validators may quote what they were given.
    own = error["type"] in {"value_error", "assertion_error"}
    return "Value is not acceptable" if own else str(error["msg"])
