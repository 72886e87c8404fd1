"""How long a vendor asks to be left alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

_LONGEST_WAIT = timedelta(hours=24)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """`retry-after-ms`, then `retry-after` as seconds or as a date (RFC 9110, section 10.2.3)."""
    wait = _milliseconds(headers.get("retry-after-ms")) or _seconds_or_date(
        headers.get("retry-after")
    )
    return _sensible(wait)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """`x-should-retry`, by which OpenAI and Anthropic overrule what a status means; None without
    it."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def retry_delay(body: Any) -> timedelta | None:
    """Google's `RetryInfo`, which stands in the error's body: `"31.2s"`."""
    body = body[0] if isinstance(body, list) and body else body
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for row in details if isinstance(details, list) else []:
        delay = row.get("retryDelay") if isinstance(row, dict) else None
        if isinstance(delay, str) and delay.endswith("s"):
            return _sensible(_seconds(delay[:-1]))
    return None


def _sensible(wait: timedelta | None) -> timedelta | None:
    return min(wait, _LONGEST_WAIT) if wait and wait > timedelta() else None


def _milliseconds(value: str | None) -> timedelta | None:
    try:
        return timedelta(milliseconds=float(value)) if value else None
    except (ValueError, OverflowError):
        return None


def _seconds(value: str) -> timedelta | None:
    try:
        return timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        return None


def _seconds_or_date(value: str | None) -> timedelta | None:
    if not value:
        return None
    if (seconds := _seconds(value)) is not None:
        return seconds
    try:
        return parsedate_to_datetime(value) - datetime.now(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
