"""Failures as Google's interfaces tell them: https://google.aip.dev/193"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from services.chat.api.dropin_errors import Told, VendorWords, one_of

_STATUSES = {
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
_KNOWN_STATUSES = frozenset({*_STATUSES.values(), "INTERNAL", "FAILED_PRECONDITION", "UNKNOWN"})
_KNOWN_REASONS = frozenset({"RATE_LIMIT_EXCEEDED", "QUOTA_EXCEEDED", "MODEL_NOT_FOUND"})
_DELAY = re.compile(r"\d{1,6}(\.\d{1,9})?s")
_GOOGLE = "type.googleapis.com/google.rpc."


def document(told: Told) -> dict[str, Any]:
    """The error body; the failure's code and facts stand in an ErrorInfo."""
    facts = {name: str(value) for name, value in told.facts.items() if value is not None}
    info = {
        "@type": _GOOGLE + "ErrorInfo",
        "reason": told.detail or told.code.upper(),
        "domain": "companion",
        "metadata": {**facts, "code": told.code, "request_id": told.request_id or ""},
    }
    details = [info]
    if delay := told.retry_delay or _delay_of(told):
        details.append({"@type": _GOOGLE + "RetryInfo", "retryDelay": delay})
    error = {
        "code": told.status,
        "message": told.message,
        "status": told.word or _status_of(told.status),
        "details": details,
    }
    return {"error": error}


def words(refusal: Mapping[str, Any]) -> VendorWords:
    """What of Google's own error may be repeated."""
    error = refusal.get("error")
    error = error if isinstance(error, dict) else {}
    details = error.get("details")
    rows = [row for row in details if isinstance(row, dict)] if isinstance(details, list) else []
    reasons = (one_of(row.get("reason"), _KNOWN_REASONS) for row in rows)
    delays = (row.get("retryDelay") for row in rows)
    return VendorWords(
        word=one_of(error.get("status"), _KNOWN_STATUSES),
        detail=next(filter(None, reasons), None),
        retry_delay=next((d for d in delays if isinstance(d, str) and _DELAY.fullmatch(d)), None),
    )


def _delay_of(told: Told) -> str | None:
    seconds = told.facts.get("retry_after")
    return f"{seconds}s" if isinstance(seconds, int) else None


def _status_of(status: int) -> str:
    return _STATUSES.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
