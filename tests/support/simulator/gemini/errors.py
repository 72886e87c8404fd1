"""Gemini's refusals; an invalid key is a 400 here."""

from typing import Any, Final

import orjson

from tests.support.simulator.refusals import Refusal

_STATUSES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_GOOGLE: Final = "type.googleapis.com/google.rpc."


def error(status: int, message: str, name: str | None = None, *details: Any) -> Refusal:
    name = name or _STATUSES.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    fault: dict[str, Any] = {"code": status, "message": message, "status": name}
    if details:
        fault["details"] = list(details)
    return Refusal(status, {"error": fault})


def _reason(reason: str) -> dict[str, Any]:
    return {
        "@type": _GOOGLE + "ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }


def _quota(quota_id: str) -> dict[str, Any]:
    violation = {"quotaMetric": "generate_requests", "quotaId": quota_id}
    return {"@type": _GOOGLE + "QuotaFailure", "violations": [violation]}


def _retry(delay: str) -> dict[str, Any]:
    return {"@type": _GOOGLE + "RetryInfo", "retryDelay": delay}


def _denied(message: str, reason: str | None = None) -> Refusal:
    return error(403, message, None, *([_reason(reason)] if reason else []))


def _invalid_key() -> Refusal:
    message = "API key not valid. Please pass a valid API key."
    localized = {"@type": _GOOGLE + "LocalizedMessage", "locale": "en-US", "message": message}
    return error(400, message, None, _reason("API_KEY_INVALID"), localized)


def _rate_limit(delay: str) -> Refusal:
    per_minute = _quota("GenerateRequestsPerMinutePerProjectPerModel")
    help_link = {"description": "Learn more", "url": "https://ai.google.dev/gemini-api/docs"}
    links = {"@type": _GOOGLE + "Help", "links": [help_link]}
    return error(429, "You exceeded your current quota.", None, per_minute, links, _retry(delay))


def _per_day() -> Refusal:
    per_day = _quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
    return error(429, "You exceeded your current quota.", None, per_day, _retry("31s"))


REFUSALS: Final[dict[str, Refusal]] = {
    "no_key": _denied("Method doesn't allow unregistered callers."),
    "invalid_key": _invalid_key(),
    "unauthenticated": error(
        401,
        "Request had invalid authentication credentials.",
        None,
        _reason("ACCESS_TOKEN_TYPE_UNSUPPORTED"),
    ),
    "missing_scope": _denied("Requests to this API method are blocked.", "API_KEY_SERVICE_BLOCKED"),
    "permission": _denied("Your project has been denied access. Please contact support."),
    "leaked_key": _denied("Your API key was reported as leaked. Please use another API key."),
    "consumer_suspended": _denied("Consumer has been suspended.", "CONSUMER_SUSPENDED"),
    "service_disabled": _denied("The API is disabled in this project.", "SERVICE_DISABLED"),
    "region": error(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"),
    "bad_request": error(400, "Request contains an invalid argument."),
    "context_length": error(400, "The input token count exceeds the maximum of 1048576."),
    "quota": error(402, "Your prepayment credits are depleted."),
    "model_not_found": error(404, "The model is not found or not supported."),
    "conflict": error(409, "The operation was aborted."),
    "too_large": error(413, "Request payload size exceeds the limit."),
    "rate_limit": _rate_limit("31s"),
    "rate_limit_fractional": _rate_limit("1.2s"),
    "rate_limit_per_day": _per_day(),
    "cancelled": error(499, "The operation was cancelled."),
    "server_error": error(500, "An internal error has occurred."),
    "bad_gateway": error(502, "Bad gateway."),
    "overloaded": error(503, "The model is overloaded. Please try again later."),
    "unavailable": error(503, "The service is currently unavailable."),
    "gateway_timeout": error(504, "Deadline expired before operation could complete."),
}


def failure(kind: str) -> bytes:
    """In mid-stream: an `error` in a frame, or bare JSON on several lines without `data:`."""
    body = REFUSALS["overloaded"].body
    if kind == "stream_error_bare":
        return orjson.dumps(body, option=orjson.OPT_INDENT_2).replace(b"\n", b"\r\n") + b"\r\n"
    return b"data: %b\r\n\r\n" % orjson.dumps(body)
