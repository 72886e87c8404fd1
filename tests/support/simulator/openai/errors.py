"""OpenAI's refusals. Clients branch on `code`, then `type`, then status."""

from collections.abc import Mapping
from typing import Any, Final

from tests.support.simulator.refusals import Refusal
from tests.support.simulator.wire import data, event


def error_object(
    message: str, kind: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    return {"message": message, "type": kind, "param": param, "code": code}


def error(
    status: int,
    message: str,
    kind: str | None = None,
    code: str | None = None,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Refusal:
    kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
    return Refusal(status, {"error": error_object(message, kind, code, param)}, headers or {})


def _pace(code: str) -> Refusal:
    headers = {
        "retry-after": "1",
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
    }
    message = "Rate limit reached for requests. Please try again in 1s."
    return error(429, message, "requests", code, headers=headers)


def _money(code: str) -> Refusal:
    message = "You exceeded your current quota, please check your plan and billing details."
    return error(429, message, "insufficient_quota", code)


REFUSALS: Final[dict[str, Refusal]] = {
    "no_key": error(401, "You didn't provide an API key in an Authorization header."),
    "invalid_key": error(401, "Incorrect API key provided: sim-****.", code="invalid_api_key"),
    "missing_scope": error(401, "Missing scopes: model.request."),
    "missing_scope_403": error(403, "Missing scopes: model.request."),
    "not_member": error(401, "You must be a member of an organization to use the API."),
    "ip_not_authorized": error(401, "IP not authorized."),
    "region": error(
        403,
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    "permission": error(403, "Your project has no access to this operation."),
    "bad_request": error(400, "Invalid value in the request.", param="messages"),
    "context_length": error(
        400,
        "This model's maximum context length is 1050000 tokens.",
        code="context_length_exceeded",
        param="messages",
    ),
    "model_not_found": error(
        404,
        "The model does not exist or you do not have access to it.",
        code="model_not_found",
    ),
    "conflict": error(409, "The request conflicts with another one."),
    "too_large": error(413, "The request body is too large."),
    "rate_limit": _pace("rate_limit_exceeded"),
    "slow_down": _pace("slow_down"),
    "quota": _money("insufficient_quota"),
    "credit_exhausted": _money("credit_balance_exhausted"),
    "organization_spend_limit": _money("organization_spend_limit_exceeded"),
    "project_spend_limit": _money("project_spend_limit_exceeded"),
    "organization_usage_limit": _money("organization_usage_limit_exceeded"),
    "server_error": error(500, "The server had an error while processing your request."),
    "bad_gateway": error(502, "Bad gateway."),
    "gateway_timeout": error(504, "The request timed out."),
    "overloaded": error(
        503,
        "The server is currently overloaded with other requests.",
        "service_unavailable_error",
        "server_is_overloaded",
    ),
    "unavailable": error(503, "The service is unavailable.", "service_unavailable_error"),
}


def unsupported(param: str, instead: str = "") -> Refusal:
    message = f"Unsupported parameter: '{param}' is not supported with this model. {instead}"
    return error(400, message.strip(), code="unsupported_parameter", param=param)


def no_such_model(model: str) -> Refusal:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return error(404, message, code="model_not_found")


_BROKEN: Final = error_object(
    "The server had an error while processing your request.", "server_error", "server_error"
)


def chat_failure(kind: str) -> bytes:
    """A chat stream fails by an `error` key at the top of a frame, whichever form is asked for."""
    return data({"error": _BROKEN})


def responses_failure(kind: str, number: int) -> bytes:
    """The Responses API has two shapes of error event: the SDK raises one and yields the other."""
    if kind == "stream_error_flat":
        flat = {"code": "server_error", "message": _BROKEN["message"], "param": None}
        return event({"type": "error", **flat, "sequence_number": number})
    return event({"type": "error", "error": _BROKEN, "sequence_number": number})
