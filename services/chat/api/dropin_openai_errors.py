"""Failures as OpenAI tells them: https://platform.openai.com/docs/guides/error-codes"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chat.api.dropin_errors import Told, VendorWords, field_name, one_of

_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}
_KNOWN_TYPES = frozenset(
    {
        *("invalid_request_error", "insufficient_quota", "requests", "tokens", "server_error"),
        *("service_unavailable_error", "rate_limit_error", "request_forbidden"),
    }
)
_KNOWN_CODES = frozenset(
    {
        *("context_length_exceeded", "model_not_found", "rate_limit_exceeded", "slow_down"),
        *("insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded"),
        *("project_spend_limit_exceeded", "organization_usage_limit_exceeded", "server_error"),
        *("server_is_overloaded", "unsupported_parameter", "unsupported_value", "invalid_value"),
        *("invalid_type", "missing_required_parameter", "unknown_parameter", "invalid_prompt"),
        *("invalid_image_url", "image_parse_error", "invalid_image_format", "image_too_large"),
        *("unsupported_country_region_territory", "content_policy_violation"),
    }
)


def document(told: Told) -> dict[str, Any]:
    """The error body, with the failure's facts beside what OpenAI says."""
    error = {
        "message": told.message,
        "type": told.word or _type_of(told.status),
        "param": told.param,
        "code": told.detail or told.code,
    }
    return {"error": {**told.facts, **error, "request_id": told.request_id}}


def words(refusal: Mapping[str, Any]) -> VendorWords:
    """What of OpenAI's own error may be repeated."""
    error = refusal.get("error")
    error = error if isinstance(error, dict) else {}
    return VendorWords(
        word=one_of(error.get("type"), _KNOWN_TYPES),
        detail=one_of(error.get("code"), _KNOWN_CODES),
        param=field_name(error.get("param")),
    )


def _type_of(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
