"""Limits in the headers that OpenAI's SDKs and their users read.

Format: https://platform.openai.com/docs/guides/rate-limits (resets are durations: `1s`, `6m0s`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from shared.limit_state import LimitState

_KINDS = {"requests_per_minute": "requests", "tokens_per_minute": "tokens"}


def openai_limit_headers(limits: Sequence[LimitState], now: datetime) -> dict[str, str]:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`, as far as there are such limits."""
    headers = {}
    for limit in limits:
        kind = _KINDS.get(limit.name.rpartition(".")[2])
        if kind is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(limit.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(limit.remaining)
            headers[f"x-ratelimit-reset-{kind}"] = _duration(
                (limit.resets_at - now).total_seconds()
            )
    return headers


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, math.ceil(seconds)), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
