"""What Anthropic's refusals mean: https://docs.anthropic.com/en/api/errors"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chat.domain.errors import ModelUnavailable, PromptTooLong, VendorRejectedRequest
from services.chat.providers._reading import mapping, text
from shared.clients.egress import NoUsableKey
from shared.vendors.anthropic import MONEY_CODES, OWN_LIMIT
from shared.vendors.failures import (
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)
from shared.vendors.waiting import retry_after, should_retry

# The type says the same as the status, and in the middle of a stream it is all there is.
_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_PASSING = {408, 409, 425}
_TOO_LONG = ("prompt is too long", "exceed context limit")
# An authentication error that is about a header that no key can mend.
_ABOUT_ORIGIN = "CORS"


def refusal(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str]
) -> VendorRefused | NoUsableKey:
    """The failure. Some are told from others by the vendor's message alone, which may echo the key
    and is never passed on."""
    error = mapping(body.get("error"))
    status = _STATUS_OF.get(text(error.get("type")), status)
    code = text(mapping(error.get("details")).get("error_code"))
    message = text(error.get("message"))
    if (about_key := _about_the_key(status, code, message)) is not None:
        return about_key
    if _is_about_money(status, code, message):
        said = "Your credit or spending limit at Anthropic is used up."
        return VendorQuotaExhausted(said, provider="anthropic", again=False)
    kind, said = _about_the_call(status, message)
    waits = kind in {VendorRateLimited, VendorOverloaded}
    wait = retry_after(headers) if waits else None
    return kind(said, provider="anthropic", retry_after=wait, again=should_retry(headers))


def _is_about_money(status: int, code: str, message: str) -> bool:
    own_limit = status == 400 and message.startswith(OWN_LIMIT)
    return status == 402 or code in MONEY_CODES or own_limit


def _about_the_key(status: int, code: str, message: str) -> NoUsableKey | None:
    if status == 401 and not message.startswith(_ABOUT_ORIGIN):
        said, reason = "Anthropic no longer accepts your key.", "key_rejected"
    elif status == 403 or code == "organization_on_hold":
        said, reason = "Anthropic does not let your key do this.", "key_restricted"
    else:
        return None
    return NoUsableKey(said, provider="anthropic", reason=reason)


def _about_the_call(status: int, message: str) -> tuple[type[VendorRefused], str]:
    if status == 404:
        return ModelUnavailable, "Anthropic does not serve this model to your key."
    if status == 429:
        return VendorRateLimited, "Anthropic's rate limit for your key is reached."
    if status in _PASSING or not 400 <= status < 500:
        return VendorOverloaded, "Anthropic is in trouble."
    if any(words in message for words in _TOO_LONG):
        return PromptTooLong, "The conversation is too long for this model."
    return VendorRejectedRequest, "Anthropic did not accept the request."
