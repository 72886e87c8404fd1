"""Failures as OpenAI's SDKs read them: what all routes that stand in for OpenAI's have in common.

The SDKs go by the status and by `x-should-retry`. A service adds what its own failures are like.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from shared.errors import ExpectedFailure, Invalid, NotInTier, PaymentRequired
from shared.http.errors import is_too_long_to_wait, problem_of, rule_text
from shared.http.openai_limits import openai_limit_headers
from shared.http.problems import NEVER, Responses
from shared.lenient_json import to_json
from shared.values import dataclass
from shared.vendors.dropins import BadParameter
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


@dataclass(frozen=True, slots=True)
class Shown:
    """How OpenAI would tell it; what is None follows from the family and the status. `final`: SDKs,
    which go by the status, are told not to try again."""

    status: int | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    final: bool = False


# By the nearest class. A vendor's rate limit and trouble keep the status that they have at OpenAI,
# so that the backoff of the SDKs works. A key that is missing or refused is no 401, which would be
# about the token of ours, and no 409, which SDKs try again.
SHOWN: Mapping[type[ExpectedFailure], Shown] = {
    Invalid: Shown(400),
    NotInTier: Shown(final=True),
    PaymentRequired: Shown(final=True),
    NoUsableKey: Shown(403, final=True),
    VendorRateLimited: Shown(429),
    VendorOverloaded: Shown(503),
    VendorQuotaExhausted: Shown(429, _QUOTA, final=True),
    VendorPlanRequired: Shown(403, final=True),
}
SPENT = Shown(429, _QUOTA, final=True)
"""A limit of a month: until trying again helps, it is another one."""

# Which limit it is stands beside what OpenAI says, as under every other path.
LIMIT_FACTS = ("limit", "used", "scope", "resets_at", "retry_after", "upgrade_tier")


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


def route_class(answer: Callable[[ExpectedFailure], Response]) -> type[APIRoute]:
    """Routes whose expected failures, also those of their dependencies, are answered like this, and
    requests that are not as they have to be as OpenAI answers them.
    """

    class OpenAIRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    return await handle(request)
                except ExpectedFailure as failure:
                    return answer(failure)
                except RequestValidationError as failure:
                    return off_schema(failure)

            return handled

    return OpenAIRoute


def openai_errors(*statuses: int) -> Responses:
    """FastAPI's `responses=` for such a route."""
    return {
        **{
            status: {"model": OpenAIErrorBody, "description": type_of(status)}
            for status in (*statuses, 400, 503)
        },
        422: NEVER,
    }


def off_schema(failure: RequestValidationError) -> Response:
    """Where it is wrong and why, never what was sent: that may be a secret."""
    first = failure.errors()[0]
    place = first["loc"][1] if len(first["loc"]) > 1 else ""
    name = place if isinstance(place, str) else ""  # how far a document was JSON is no name
    if first["type"] == "extra_forbidden":  # its sender named it, and may have put a key there
        name = ""
    error = OpenAIError(
        message=f"{name or 'The request'}: {rule_text(first)}.",
        type=type_of(400),
        param=name or None,
        code=BadParameter.code,
    )
    document = {"error": error.model_dump()}
    return Response(to_json(document), 400, media_type="application/json")


def told(
    failure: ExpectedFailure, shown: Shown, *, final: bool, facts: Collection[str]
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, error object and headers of a failure. `facts`: which of its own stand in it."""
    family_status, document, headers = problem_of(failure)
    status = shown.status or family_status
    param = failure.facts.get("param", shown.param)
    error = OpenAIError(
        message=document["detail"],
        type=shown.type or type_of(status),
        param=param if isinstance(param, str) else None,
        code=shown.code or failure.code,
    )
    if shown.final or final or is_too_long_to_wait(headers):
        headers["x-should-retry"] = "false"
    if failure.limits:
        headers |= openai_limit_headers(failure.limits, datetime.now(UTC))
    named = {name: document[name] for name in facts if name in document}
    return status, {"error": {**error.model_dump(), **named}}, headers


def nearest(failure: ExpectedFailure, shown: Mapping[type[ExpectedFailure], Shown]) -> Shown:
    """By the first of its classes that the table knows."""
    kinds = (shown[kind] for kind in type(failure).__mro__ if kind in shown)
    return next(kinds, Shown())


def type_of(status: int) -> str:
    """OpenAI's word for errors of a status."""
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
