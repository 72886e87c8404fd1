"""Failures as Anthropic tells them: https://docs.anthropic.com/en/api/errors"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chat.api.dropin_errors import Told, VendorWords, one_of

_TYPES = {
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
_KNOWN_TYPES = frozenset({*_TYPES.values(), "api_error"})
_KNOWN_CODES = frozenset(
    {
        *("enforced_spend_limit_reached", "contract_spend_limit_reached", "ramp_limit_exceeded"),
        "organization_on_hold",
    }
)


def document(told: Told) -> dict[str, Any]:
    """The error body; the failure's code and facts stand in its details."""
    details = {**told.facts, "error_code": told.detail or told.code}
    kind = told.word or _type_of(told.status)
    error = {"type": kind, "message": told.message, "details": details}
    return {"type": "error", "error": error, "request_id": told.request_id}


def words(refusal: Mapping[str, Any]) -> VendorWords:
    """What of Anthropic's own error may be repeated."""
    error = refusal.get("error")
    error = error if isinstance(error, dict) else {}
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    return VendorWords(one_of(error.get("type"), _KNOWN_TYPES), one_of(code, _KNOWN_CODES))


def _type_of(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
