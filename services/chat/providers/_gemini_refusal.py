"""What Gemini's refusals mean: https://ai.google.dev/gemini-api/docs/troubleshooting"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from services.chat.domain.errors import ModelUnavailable, PromptTooLong, VendorRejectedRequest
from services.chat.providers._reading import count, mapping, rows, text
from shared.clients.egress import NoUsableKey
from shared.vendors.failures import (
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)
from shared.vendors.gemini import BAD_KEY_REASONS
from shared.vendors.waiting import retry_after, retry_delay

_PASSING = {408, 409, 425}
_TOO_LONG = re.compile(r"input token count.*exceeds", re.IGNORECASE | re.DOTALL)
# Such a quota comes back at midnight, Pacific time.
_DAILY = "PerDay"


def refusal(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str]
) -> VendorRefused | NoUsableKey:
    """The failure. Some are told from others by the vendor's message alone, which is never passed
    on."""
    error = mapping(body.get("error"))
    status = count(error.get("code")) or status
    details = rows(error.get("details"))
    if (about_key := _about_the_key(status, text(error.get("status")), details)) is not None:
        return about_key
    kind, said = _about_the_call(status, text(error.get("message")), details)
    if kind is VendorQuotaExhausted:
        return kind(said, provider="gemini", again=False)
    waits = kind in {VendorRateLimited, VendorOverloaded}
    wait = retry_after(headers) or retry_delay(body) if waits else None
    return kind(said, provider="gemini", retry_after=wait)


def _about_the_key(
    status: int, name: str, details: Sequence[Mapping[str, Any]]
) -> NoUsableKey | None:
    # A bad key is a 400 here, told from a bad request by its reason alone.
    if status == 401 or any(text(row.get("reason")) in BAD_KEY_REASONS for row in details):
        said, reason = "Gemini no longer accepts your key.", "key_rejected"
    elif status == 403 or (status == 400 and name == "FAILED_PRECONDITION"):
        said, reason = "Gemini does not let your key do this.", "key_restricted"
    else:
        return None
    return NoUsableKey(said, provider="gemini", reason=reason)


def _about_the_call(
    status: int, message: str, details: Sequence[Mapping[str, Any]]
) -> tuple[type[VendorRefused], str]:
    if status == 402 or (status == 429 and _is_daily(details)):
        return VendorQuotaExhausted, "Your credit or quota at Gemini is used up."
    if status == 404:
        return ModelUnavailable, "Gemini does not serve this model to your key."
    if status == 429:
        return VendorRateLimited, "Gemini's rate limit for your key is reached."
    if status in _PASSING or not 400 <= status < 500:
        return VendorOverloaded, "Gemini is in trouble."
    if _TOO_LONG.search(message):
        return PromptTooLong, "The conversation is too long for this model."
    return VendorRejectedRequest, "Gemini did not accept the request."


def _is_daily(details: Sequence[Mapping[str, Any]]) -> bool:
    violations = [row for detail in details for row in rows(detail.get("violations"))]
    return any(_DAILY in text(row.get("quotaId")) for row in violations)
