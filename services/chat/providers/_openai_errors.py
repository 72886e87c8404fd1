"""What a refusal in OpenAI's form means, by its code, then its type, then the status.

The vendor's message may echo the key and is never passed on.
https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.chat.domain.errors import ModelUnavailable, PromptTooLong, VendorRejectedRequest
from services.chat.providers._reading import text
from shared.errors import ExpectedFailure
from shared.values import dataclass
from shared.vendors.failures import (
    NoUsableKey,
    VendorFailed,
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)
from shared.vendors.waiting import retry_after, should_retry

_MEANINGS: Mapping[str, type[VendorRefused]] = {
    "insufficient_quota": VendorQuotaExhausted,
    "credit_balance_exhausted": VendorQuotaExhausted,
    "organization_spend_limit_exceeded": VendorQuotaExhausted,
    "project_spend_limit_exceeded": VendorQuotaExhausted,
    "organization_usage_limit_exceeded": VendorQuotaExhausted,
    "rate_limit_exceeded": VendorRateLimited,
    "slow_down": VendorRateLimited,
    "server_is_overloaded": VendorOverloaded,
    "service_unavailable_error": VendorOverloaded,
    "context_length_exceeded": PromptTooLong,
    "exceed_context_size_error": PromptTooLong,  # llama.cpp
    "model_not_found": ModelUnavailable,
    "invalid_prompt": VendorRejectedRequest,
    "unsupported_country_region_territory": VendorRefused,
}
# Of a wide meaning: an answer that has begun tells no status, so that they decide there alone.
_WITHIN_ANSWERS: Mapping[str, type[VendorRefused]] = {
    **_MEANINGS,
    "server_error": VendorOverloaded,
    "invalid_request_error": VendorRejectedRequest,
}
# vLLM has no code for it, and OpenAI's is not certain.
_TOO_LONG = "maximum context length"
# What a 401 or 403 says when the key itself is good.
_GOOD_KEY = ("Missing scopes", "must be a member of an organization", "IP not authorized")
_WAITS = (VendorRateLimited, VendorOverloaded)


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """A vendor's error: OpenAI's object, or the bare text that others make of it."""

    codes: tuple[str, ...]
    message: str

    @classmethod
    def of(cls, error: Any) -> ErrorWords:
        if not isinstance(error, Mapping):
            return cls((), error if isinstance(error, str) else "")
        codes = (text(error.get("code")), text(error.get("type")))
        return cls(tuple(filter(None, codes)), text(error.get("message")))

    def kind(self, meanings: Mapping[str, type[VendorRefused]]) -> type[VendorRefused] | None:
        known = (meanings[code] for code in self.codes if code in meanings)
        kind = next(known, None)
        if any(code.startswith("image_") for code in self.codes):
            return kind or VendorRejectedRequest
        return PromptTooLong if kind is None and _TOO_LONG in self.message else kind


@dataclass(frozen=True, slots=True)
class Refusals:
    """The refusals of one host. `users_key` tells whether the key is the user's own, which they
    can mend, or the operator's."""

    provider: str
    host: str  # as its users know it
    users_key: bool = True

    def refusal(
        self, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> ExpectedFailure:
        """What an answer other than 200 means."""
        words = ErrorWords.of(body.get("error") or body)
        kind = words.kind(_MEANINGS)
        if kind is None and status in {401, 403}:
            return self._about_the_key(status, words)
        kind = kind or _by_status(status)
        wait = retry_after(headers) if issubclass(kind, _WAITS) else None
        again = False if kind is VendorQuotaExhausted else should_retry(headers)
        return kind(self._text(kind), provider=self.provider, retry_after=wait, again=again)

    def within(self, error: Any, *, said: bool) -> ExpectedFailure:
        """What an error within an answer means. Once something was `said` the vendor has worked,
        whatever it calls the failure."""
        kind = None if said else ErrorWords.of(error).kind(_WITHIN_ANSWERS)
        if kind is None:
            return VendorFailed(self.provider)
        return kind(self._text(kind), provider=self.provider)

    def _about_the_key(self, status: int, words: ErrorWords) -> ExpectedFailure:
        if not self.users_key:
            return VendorRefused(
                f"{self.host} does not let this service in.", provider=self.provider
            )
        is_good = status == 403 or any(words_of in words.message for words_of in _GOOD_KEY)
        if is_good and "invalid_api_key" not in words.codes:
            said, reason = f"{self.host} does not let your key do this.", "key_restricted"
        else:
            said, reason = f"{self.host} no longer accepts your key.", "key_rejected"
        return NoUsableKey(said, provider=self.provider, reason=reason)

    def _text(self, kind: type[VendorRefused]) -> str:
        return _TEXTS[kind].format(host=self.host)


_TEXTS: Mapping[type[VendorRefused], str] = {
    VendorQuotaExhausted: "Your credit or spending limit at {host} is used up.",
    VendorRateLimited: "The rate limit of {host} is reached.",
    VendorOverloaded: "{host} is in trouble.",
    PromptTooLong: "The conversation is too long for this model.",
    ModelUnavailable: "{host} does not serve this model here.",
    VendorRejectedRequest: "{host} did not accept the request.",
    VendorRefused: "{host} does not serve the region that it is called from.",
}


def _by_status(status: int) -> type[VendorRefused]:
    if status == 404:
        return ModelUnavailable
    if status == 429:
        return VendorRateLimited
    if status >= 500 or status == 408:
        return VendorOverloaded
    return VendorRejectedRequest
