"""Anthropic's refusals; 529 is its own way of saying that it is overloaded."""

from collections.abc import Mapping
from typing import Final

from tests.support.simulator.refusals import Refusal
from tests.support.simulator.wire import event

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error(
    status: int,
    message: str,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Refusal:
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    details = {"details": {"error_code": code}} if code else {}
    fault = {"type": kind, "message": message, **details}
    return Refusal(status, {"type": "error", "error": fault}, headers or {})


def _paced(code: str | None = None) -> Refusal:
    headers = {
        "retry-after": "1",
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-11-24T12:00:00Z",
    }
    return error(429, "This request would exceed your rate limit.", code, headers)


_SPEND: Final = "You have reached your spend limit."

REFUSALS: Final[dict[str, Refusal]] = {
    "no_key": error(401, "x-api-key header is required"),
    "invalid_key": error(401, "invalid x-api-key"),
    "cors": error(401, "CORS requests must set 'anthropic-dangerous-direct-browser-access' header"),
    "missing_scope": error(403, "Your API key does not have permission to use this resource."),
    "permission": error(403, "Your account does not have access to this resource."),
    "region": error(403, "Access is not available in your region."),
    "bad_request": error(400, "messages: Invalid value"),
    "context_length": error(400, "prompt is too long: 1000001 tokens > 1000000 maximum"),
    "usage_limit": error(
        400, "You have reached your specified API usage limits. You will regain access on a date."
    ),
    "workspace_usage_limit": error(
        400, "You have reached your specified workspace API usage limits."
    ),
    "organization_on_hold": error(400, "Your organization is on hold.", "organization_on_hold"),
    "quota": error(402, "Your credit balance is too low to access the API."),
    "model_not_found": error(404, "model: unknown"),
    "conflict": error(409, "The request conflicts with another one."),
    "too_large": error(413, "Request exceeds the maximum size"),
    "rate_limit": _paced(),
    "ramp_limit": _paced("ramp_limit_exceeded"),
    "spend_limit": error(429, _SPEND, "enforced_spend_limit_reached"),
    "contract_spend_limit": error(
        429, _SPEND, "contract_spend_limit_reached", {"retry-after": "86400"}
    ),
    "server_error": error(500, "Internal server error"),
    "bad_gateway": error(502, "Bad gateway"),
    "unavailable": error(503, "Service unavailable"),
    "gateway_timeout": error(504, "Request timed out"),
    "overloaded": error(529, "Overloaded"),
}


def extra_input(name: str) -> Refusal:
    return error(400, f"{name}: Extra inputs are not permitted")


def missing(name: str) -> Refusal:
    return error(400, f"{name}: Field required")


def failure(request_id: str) -> bytes:
    """The `error` event after a status of 200."""
    fault = {"type": "overloaded_error", "message": "Overloaded"}
    return event({"type": "error", "error": fault, "request_id": request_id})
