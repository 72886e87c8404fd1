"""What the doors that stand in for one vendor say of a failure, whichever vendor's shape it takes.

A vendor's own message may echo the user's key. So its refusals are told in our words, with the
vendor's status, and with those of its own words that are known beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from services.chat.domain.errors import AnswerNotKept
from services.chat.domain.raw_calls import RawRefusal
from shared.errors import ExpectedFailure, Invalid, LimitReached, NotInTier, PaymentRequired
from shared.http.errors import is_too_long_to_wait, problem_of
from shared.idempotency import IdempotencyKeyReused
from shared.limits.tier_admission import SPENDING
from shared.values import dataclass
from shared.vendors.failures import NoUsableKey, VendorQuotaExhausted, may_be_charged

# What another try by itself can't mend, and SDKs would try again by the status.
_FINAL = (NotInTier, PaymentRequired, NoUsableKey, AnswerNotKept, IdempotencyKeyReused)
# A 401 would be about the token of ours, and a 409 is tried again: a key that is missing or refused
# is a permission that the user does not have.
_STATUS: Mapping[type[ExpectedFailure], int] = {Invalid: 400, NotInTier: 403, NoUsableKey: 403}
_RETRY = "x-should-retry"
_KEPT_HEADERS: Mapping[str, re.Pattern[str]] = {
    "retry-after": re.compile(r"\d{1,9}(\.\d{1,9})?|[A-Za-z]{3}, [0-9A-Za-z: ]{1,30}"),
    "retry-after-ms": re.compile(r"\d{1,12}(\.\d{1,9})?"),
    _RETRY: re.compile(r"true|false"),
}
# No key looks like the name of a field: lower case, digits in brackets alone.
_FIELD = re.compile(r"[a-z_]{1,40}(\[\d{1,5}\])?(\.(\d{1,5}|[a-z_]{1,40}(\[\d{1,5}\])?)){0,6}")


@dataclass(frozen=True, slots=True)
class Told:
    """A failure on its way to a client. `word` and `param` are the vendor's own, where known."""

    status: int
    code: str
    message: str
    facts: Mapping[str, Any]
    headers: Mapping[str, str]
    request_id: str | None
    word: str | None = None
    detail: str | None = None
    param: str | None = None
    retry_delay: str | None = None


def told(failure: ExpectedFailure) -> Told:
    """One of our failures."""
    status, document, headers = problem_of(failure)
    headers.pop("www-authenticate", None)
    shown = next((_STATUS[kind] for kind in type(failure).__mro__ if kind in _STATUS), status)
    if isinstance(failure, _FINAL) or _is_about_money(failure) or may_be_charged(failure):
        headers[_RETRY] = "false"
    param = failure.facts.get("param")
    own = {"type", "title", "status", "detail", "code", "request_id"}
    return Told(
        status=shown,
        code=failure.code,
        message=failure.message,
        facts={name: value for name, value in document.items() if name not in own},
        headers=_without_long_sleep(headers),
        request_id=document["request_id"],
        param=param if isinstance(param, str) else None,
    )


def _without_long_sleep(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {**headers, _RETRY: "false"} if is_too_long_to_wait(headers) else headers


def _is_about_money(failure: ExpectedFailure) -> bool:
    if isinstance(failure, LimitReached):
        return failure.facts.get("scope") == SPENDING
    return isinstance(failure, VendorQuotaExhausted)


@dataclass(frozen=True, slots=True)
class VendorWords:
    """What a vendor's error document may be quoted with."""

    word: str | None = None
    detail: str | None = None
    param: str | None = None
    retry_delay: str | None = None


def told_refusal(refusal: RawRefusal, words: Callable[[Mapping[str, Any]], VendorWords]) -> Told:
    """A vendor's refusal, by its own status."""
    ours = told(refusal.failure)
    if isinstance(refusal.failure, NoUsableKey):
        return ours
    said = words(refusal.document)
    kept = {
        name: value
        for name, form in _KEPT_HEADERS.items()
        if (value := refusal.headers.get(name, "")) and form.fullmatch(value)
    }
    return Told(
        status=refusal.status if 400 <= refusal.status < 600 else ours.status,
        code=ours.code,
        message=ours.message,
        facts=ours.facts,
        headers=_without_long_sleep({**ours.headers, **kept}),
        request_id=ours.request_id,
        word=said.word,
        detail=said.detail,
        param=said.param or ours.param,
        retry_delay=said.retry_delay,
    )


def field_name(value: Any) -> str | None:
    """The value, if it can only be the name of a field."""
    return value if isinstance(value, str) and _FIELD.fullmatch(value) else None


def one_of(value: Any, words: frozenset[str]) -> str | None:
    """The value, if it is one of these words."""
    return value if isinstance(value, str) and value in words else None
