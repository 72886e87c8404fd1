"""Reading what vendors' HTTP answers share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import orjson

from shared.vendors.failures import VendorFailed

_LONGEST_WAIT = timedelta(hours=24)


async def json_body(response: aiohttp.ClientResponse, *, provider: str) -> dict[str, Any] | None:
    """The body as a JSON object; None when it is none. Raises VendorFailed when it was cut."""
    try:
        parsed = orjson.loads(await response.read())
    except orjson.JSONDecodeError:
        return None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise VendorFailed(provider) from error
    return parsed if isinstance(parsed, dict) else None


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """How long the vendor asks us to wait: `retry-after-ms`, then `retry-after` as seconds or as a
    date (RFC 9110, section 10.2.3)."""
    wait = _milliseconds(headers.get("retry-after-ms")) or _seconds_or_date(
        headers.get("retry-after")
    )
    return min(wait, _LONGEST_WAIT) if wait and wait > timedelta() else None


def _milliseconds(value: str | None) -> timedelta | None:
    try:
        return timedelta(milliseconds=float(value)) if value else None
    except (ValueError, OverflowError):
        return None


def _seconds_or_date(value: str | None) -> timedelta | None:
    if not value:
        return None
    try:
        return timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        pass
    try:
        return parsedate_to_datetime(value) - datetime.now(UTC)
    except (ValueError, TypeError):
        return None
