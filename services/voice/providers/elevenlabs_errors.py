"""ElevenLabs' refusals: https://elevenlabs.io/docs/errors

`detail` comes as a text, as an object or as a list. `status` is the finer word, `code` the newer
and coarser one: `status` is asked first. The HTTP status decides only where neither is known,
because a 401 may be about credit and a 400 about a voice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from services.voice.domain.errors import (
    FormatNotInVendorPlan,
    SpeechRejected,
    VoiceNotFound,
    VoiceSlotsFull,
)
from services.voice.domain.script import VENDOR
from shared.clients.egress import NoUsableKey
from shared.errors import ExpectedFailure
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorPlanRequired,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)

_Make = Callable[["_Refusal"], ExpectedFailure]
_LONGEST_WAIT = timedelta(hours=1)


class _Refusal:
    """A refusal as it came."""

    def __init__(self, status: int, detail: Any, headers: Mapping[str, str], path: str) -> None:
        self.status = status
        self.words = _words(detail)
        self.param = detail.get("param") if isinstance(detail, dict) else None
        self.retry_after = _retry_after(headers.get("retry-after"))
        self.voice_id = _voice_id_in(path)


def failure_of(status: int, body: Any, headers: Mapping[str, str], path: str) -> ExpectedFailure:
    """The failure that a refusal stands for. The vendor's own text is not passed on."""
    detail = body.get("detail") if isinstance(body, dict) else None
    refusal = _Refusal(status, detail, headers, path)
    for word in refusal.words:
        make = _BY_WORD.get(word) or (_plan if word.startswith("only_for_") else None)
        if make is not None:
            return make(refusal)
    make = _BY_STATUS.get(status)
    if make is not None:
        return make(refusal)
    return VendorFailed(VENDOR) if status >= 500 or status < 400 else _refused(refusal)


def failure_of_word(word: str) -> ExpectedFailure:
    """The failure that an error on an open socket stands for."""
    make = _BY_WORD.get(word)
    return VendorFailed(VENDOR) if make is None else make(_Refusal(0, word, {}, ""))


def _words(detail: Any) -> tuple[str, ...]:
    if isinstance(detail, str):
        return (detail,)
    if isinstance(detail, dict):
        return tuple(str(detail[name]) for name in ("status", "code") if detail.get(name))
    return ()


def _key_rejected(_: _Refusal) -> ExpectedFailure:
    return NoUsableKey(
        f"{VENDOR} does not accept the stored key.", provider=VENDOR, reason="key_rejected"
    )


def _key_restricted(_: _Refusal) -> ExpectedFailure:
    return NoUsableKey(
        f"The stored key has no permission for this at {VENDOR}.",
        provider=VENDOR,
        reason="key_restricted",
    )


def _quota(_: _Refusal) -> ExpectedFailure:
    return VendorQuotaExhausted(f"The credit at {VENDOR} is used up.", provider=VENDOR)


def _plan(_: _Refusal) -> ExpectedFailure:
    return VendorPlanRequired(
        f"The account's plan at {VENDOR} does not include this.", provider=VENDOR
    )


def _format_outside_plan(_: _Refusal) -> ExpectedFailure:
    return FormatNotInVendorPlan(VENDOR)


def _slots_full(_: _Refusal) -> ExpectedFailure:
    return VoiceSlotsFull(VENDOR)


def _voice_gone(refusal: _Refusal) -> ExpectedFailure:
    return VoiceNotFound(refusal.voice_id)


def _not_found(refusal: _Refusal) -> ExpectedFailure:
    names_other = refusal.param is not None and "voice" not in str(refusal.param)
    return _rejected(refusal) if names_other or not refusal.voice_id else _voice_gone(refusal)


def _rejected(_: _Refusal) -> ExpectedFailure:
    return SpeechRejected(VENDOR)


def _too_fast(refusal: _Refusal) -> ExpectedFailure:
    return VendorRateLimited(
        f"{VENDOR} is answering as many requests of this account as it may.",
        provider=VENDOR,
        retry_after=refusal.retry_after,
    )


def _busy(refusal: _Refusal) -> ExpectedFailure:
    return VendorOverloaded(f"{VENDOR} is busy.", provider=VENDOR, retry_after=refusal.retry_after)


def _refused(_: _Refusal) -> ExpectedFailure:
    return VendorRefused(f"{VENDOR} refuses the request.", provider=VENDOR)


_BY_WORD: Mapping[str, _Make] = {
    "invalid_api_key": _key_rejected,
    "missing_permissions": _key_restricted,
    "insufficient_permissions": _key_restricted,
    "quota_exceeded": _quota,
    "payment_required": _plan,
    "paid_plan_required": _plan,
    "output_format_not_allowed": _format_outside_plan,
    "can_not_use_instant_voice_cloning": _plan,
    "voice_limit_reached": _slots_full,
    "voice_not_found": _voice_gone,
    "invalid_uid": _not_found,  # an id that is of no voice's form
    "max_character_limit_exceeded": _rejected,
    "unsupported_model": _rejected,
    "model_not_found": _rejected,
    "unsupported_language": _rejected,
    "invalid_output_format": _rejected,
    "detected_unusual_activity": _refused,
    "too_many_concurrent_requests": _too_fast,
    "concurrent_limit_exceeded": _too_fast,
    "rate_limit_exceeded": _too_fast,
    "system_busy": _busy,
}
_BY_STATUS: Mapping[int, _Make] = {
    400: _rejected,
    402: _plan,
    404: _not_found,
    408: _busy,
    422: _rejected,
    425: _busy,
    429: _too_fast,
    503: _busy,
    529: _busy,
}


def _voice_id_in(path: str) -> str:
    """The voice of `/v1/voices/{id}…` or `/v1/text-to-speech/{id}…`; empty when there is none."""
    parts = path.partition("?")[0].split("/")
    return parts[3] if len(parts) > 3 else ""


def _retry_after(value: str | None) -> timedelta | None:
    """Seconds or a date, within reason."""
    if not value:
        return None
    try:
        wait = timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        wait = _until(value)
    return min(wait, _LONGEST_WAIT) if wait > timedelta() else None


def _until(date: str) -> timedelta:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return timedelta()
    return (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)
