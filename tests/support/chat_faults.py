"""Every fault of the simulated chat vendors, and what each has to come to, by rule.

The meanings are those of the vendors' own documents: what is about money or the key is final, what
is about pace or trouble passes, and what broke after the vendor had begun may be charged. What
follows for a turn is derived here from the meaning and the door alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

Said = Literal["all", "part", "none", "other"]

VENDORS = ("openai", "anthropic", "gemini")
WORDS = "one two three four five"
WHOLE = f"You said: {WORDS}"
# The simulated vendors' own waits are a second or 31; a turn waits for 30 at most.
TRIES = 3


@dataclass(frozen=True, slots=True)
class Door:
    """A way to ask. `translates`: the vendor is asked by us, not by the client through us."""

    name: str
    surface: str
    streamed: bool

    @property
    def translates(self) -> bool:
        return self.surface in {"session", "v1"}


DOORS = (
    Door("session-json", "session", False),
    Door("session-sse", "session", True),
    Door("v1-json", "v1", False),
    Door("v1-sse", "v1", True),
    Door("dropin-json", "dropin", False),
    Door("dropin-sse", "dropin", True),
    Door("responses-json", "responses", False),
    Door("responses-sse", "responses", True),
)


@dataclass(frozen=True, slots=True)
class Want:
    """What a turn has to come to. `code` None is an answer; `calls` is how often the vendor is
    asked; `outcome` None is any. `thinks_aloud`: the vendor's thinking is shown. `goes`: in how
    many the answer comes, each a paid call of its own."""

    code: str | None
    calls: int = 1
    outcome: str = "done"
    said: Said = "all"
    source: str | None = "provider"
    finish: str | None = None
    thinks_aloud: bool = False
    goes: int = 1

    @property
    def is_told(self) -> bool:
        """Whether billing hears of it: of everything but what the vendor declined."""
        return self.outcome != "refused"


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault at one vendor through one door."""

    vendor: str
    door: Door
    directive: str
    want: Want

    @property
    def id(self) -> str:
        return f"{self.vendor}-{self.door.name}-{self.directive or 'fine'}"

    @property
    def tells_input(self) -> bool:
        """Whether the vendor had told what it read when it broke off."""
        kind, _, place = self.directive.partition(",at=")
        began = {"anthropic": "0", "gemini": "3"}.get(self.vendor)
        return kind in _BREAKS and self.door.streamed and began is not None and place >= began


_KEY = "no_usable_key"
_MONEY = "vendor_quota_exhausted"
_PACE = "vendor_rate_limited"
_TROUBLE = "vendor_overloaded"
_REQUEST = "vendor_rejected_request"
_LONG = "prompt_too_long"
_MODEL = "model_unavailable"
_REFUSED = "vendor_refused"
_BROKEN = "vendor_failed"

_EVERYWHERE: Mapping[str, str] = {
    "no_key": _KEY,
    "invalid_key": _KEY,
    "missing_scope": _KEY,
    "permission": _KEY,
    "bad_request": _REQUEST,
    "too_large": _REQUEST,
    "context_length": _LONG,
    "model_not_found": _MODEL,
    "quota": _MONEY,
    "server_error": _TROUBLE,
    "bad_gateway": _TROUBLE,
    "unavailable": _TROUBLE,
    "overloaded": _TROUBLE,
    "gateway_timeout": _TROUBLE,
    "status_418": _REQUEST,
    "status_529": _TROUBLE,
    "html_429": _PACE,
    "html_502": _TROUBLE,
    "html_413": _REQUEST,
}
_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "openai": {
        **_EVERYWHERE,
        "rate_limit": _PACE,
        "slow_down": _PACE,
        "missing_scope_403": _KEY,
        "not_member": _KEY,
        "ip_not_authorized": _KEY,
        "region": _REFUSED,
        "conflict": _REQUEST,
        "credit_exhausted": _MONEY,
        "organization_spend_limit": _MONEY,
        "project_spend_limit": _MONEY,
        "organization_usage_limit": _MONEY,
    },
    "anthropic": {
        **_EVERYWHERE,
        "rate_limit": _PACE,
        "ramp_limit": _PACE,
        "region": _KEY,
        "conflict": _TROUBLE,
        "cors": _REQUEST,
        "organization_on_hold": _KEY,
        "usage_limit": _MONEY,
        "workspace_usage_limit": _MONEY,
        "spend_limit": _MONEY,
        "contract_spend_limit": _MONEY,
    },
    "gemini": {
        **_EVERYWHERE,
        "rate_limit_fractional": _PACE,
        "rate_limit_fractional,wrapped": _PACE,
        "rate_limit_per_day": _MONEY,
        "unauthenticated": _KEY,
        "leaked_key": _KEY,
        "consumer_suspended": _KEY,
        "service_disabled": _KEY,
        "region": _KEY,
        "cancelled": _REQUEST,
        "conflict": _TROUBLE,
    },
}
# Whatever it means, who says so is waited for, or not.
_WAITS: Mapping[str, tuple[str, int]] = {
    "rate_limit,retry_after=60": (_PACE, 1),
    "unavailable,retry_after_ms=20": (_TROUBLE, TRIES),
}
_WORD_ON_RETRIES: Mapping[str, tuple[str, int]] = {
    "unavailable,should_retry=false": (_TROUBLE, 1),
    "quota,should_retry=true": (_MONEY, 1),
}
_PASSING = {_PACE, _TROUBLE}

# A vendor's failure is a 502 at our own door. At the door in OpenAI's shape, SDKs go by what the
# status is there; and neither a 401 nor a 409 would tell them of a key that the user has to mend.
_OUR_STATUS: Mapping[str, int] = {_KEY: 409, "content_blocked": 422}
_OPENAI_STATUS: Mapping[str, int] = {
    _KEY: 403,
    "content_blocked": 400,
    _REQUEST: 400,
    _LONG: 400,
    _MODEL: 404,
    _PACE: 429,
    _MONEY: 429,
    _TROUBLE: 503,
}


def status_of(code: str, door: Door) -> int:
    """How a failure is told at a door of ours."""
    return (_OUR_STATUS if door.surface == "session" else _OPENAI_STATUS).get(code, 502)


def code_of(code: str, door: Door) -> str:
    """What it is called there."""
    return "context_length_exceeded" if (code, door.surface) == (_LONG, "v1") else code


_BREAKS = ("cut", "reset", "truncate", "stall")
_ERROR_EVENTS: Mapping[str, tuple[str, ...]] = {
    "openai": ("stream_error",),
    "anthropic": ("stream_error",),
    "gemini": ("stream_error", "stream_error_bare"),
    "responses": ("stream_error", "stream_error_flat", "stream_failed"),
}
_FINE = ("", "first_ms=150", "delay_ms=20", "odd", "split,odd")


def every_cell() -> Iterator[Cell]:
    """The whole matrix."""
    for vendor in VENDORS:
        for door in DOORS:
            if door.surface == "responses" and vendor != "openai":
                continue
            for directive, want in _wanted(vendor, door):
                yield Cell(vendor, door, directive, want)


def _wanted(vendor: str, door: Door) -> Iterator[tuple[str, Want]]:
    for kind, code in _MEANINGS[vendor].items():
        yield f"fault={kind}", _refusal(code, TRIES if code in _PASSING else 1, door)
    waits = dict(_WAITS)
    if vendor == "gemini":
        waits["rate_limit"] = (_PACE, 1)
    else:
        waits |= _WORD_ON_RETRIES
    for kind, (code, calls) in waits.items():
        yield f"fault={kind}", _refusal(code, calls, door)
    for kind in ("connection_reset", "connection_close"):
        # The request was sent: the vendor may have worked and may charge, so nobody asks again.
        yield kind, Want(_BROKEN, 1, "provider_failed", "none", "estimated")
    yield from _broken(vendor, door)
    yield from _answered(vendor, door)


def _refusal(code: str, calls: int, door: Door) -> Want:
    # At a drop-in door the client's SDK tries again by itself.
    calls = calls if door.translates else 1
    return Want(code, calls, "refused", "none", None)


def _broken(vendor: str, door: Door) -> Iterator[tuple[str, Want]]:
    broken = Want(_BROKEN, 1, "provider_failed", "part", "estimated")
    silent = replace(broken, said="none")
    for kind in _BREAKS:
        if not door.streamed:
            # An answer in one piece is whole, or it is none.
            yield kind, silent
            continue
        yield f"{kind},at=3", broken
        yield f"{kind},at=0", silent
        if kind != "stall":
            # All was said but the end mark.
            yield f"{kind},at=99", replace(broken, said="all")
    shapes = _ERROR_EVENTS["responses" if door.surface == "responses" else vendor]
    for kind in shapes:
        if not door.streamed:
            yield kind, _refusal(_TROUBLE, TRIES, door)
            continue
        yield f"{kind},at=3", broken
        # It says that it is in trouble, and nothing was said before.
        yield f"{kind},at=0", _refusal(_TROUBLE, TRIES, door)


def _answered(vendor: str, door: Door) -> Iterator[tuple[str, Want]]:
    for directive in _FINE:
        split = "split" in directive
        yield directive, Want(None, finish="stop", said="other" if split else "all")
    yield "nousage", Want(None, source="estimated", finish="stop")
    yield "cached=7,reasoning=5", Want(None, finish="stop")
    # Thinking has used up all that there was to say it with.
    aloud = vendor == "anthropic" and (door.surface == "dropin" or door.name == "session-sse")
    yield "reasoning=40000", Want(None, said="none", finish="length", thinks_aloud=aloud)
    if vendor == "gemini":
        blocked = Want("content_blocked", 1, "content_blocked", "none", finish="content_filter")
        if not door.translates:
            blocked = replace(blocked, code=None)  # the vendor's own answer tells it
        for directive in ("refuse", "block", "block=SPII"):
            yield directive, blocked
        # Filtered at its end: what was streamed was said, and a whole answer comes without text.
        filtered = Want(None, finish="content_filter") if door.streamed else blocked
        yield "finish=content_filter", filtered
        if door.translates:
            yield "continuation=1", Want(None, calls=2, finish="stop", goes=2)
            yield "continuation=2,reasoning=2", Want(None, calls=3, finish="stop", goes=3)
    else:
        reason = "stop" if vendor == "openai" else "content_filter"
        yield "refuse", Want(None, said="other", finish=reason)
        yield "finish=content_filter", Want(None, finish="content_filter")
