"""Limits in the headers that OpenAI's SDKs and their users read.

Format: https://platform.openai.com/docs/guides/rate-limits (resets are durations: `1s`, `6m0s`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from shared.limit_state import LimitState, tightest

_KINDS = ("requests", "tokens")


def openai_limit_headers(limits: Sequence[LimitState], now: datetime) -> dict[str, str]:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, each of the tightest window, as far
    as there are such limits."""
    headers = {}
    for kind in _KINDS:
        limit = tightest(limits, kind)
        if limit is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(limit.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(limit.remaining)
            headers[f"x-ratelimit-reset-{kind}"] = _duration(
                (limit.resets_at - now).total_seconds()
            )
    return headers


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, math.ceil(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
