"""Limits in the headers that Anthropic's SDKs and their users read.

Format: https://docs.anthropic.com/en/api/rate-limits (resets are times).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.limit_state import LimitState, tightest

_KINDS = ("requests", "tokens")


def anthropic_limit_headers(limits: Sequence[LimitState], _now: datetime) -> dict[str, str]:
    """`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`, each of the tightest window,
    as far as there are such."""
    headers = {}
    for kind in _KINDS:
        limit = tightest(limits, kind)
        if limit is not None:
            name = f"anthropic-ratelimit-{kind}"
            headers[f"{name}-limit"] = str(limit.limit)
            headers[f"{name}-remaining"] = str(limit.remaining)
            headers[f"{name}-reset"] = f"{limit.resets_at:%Y-%m-%dT%H:%M:%SZ}"
    return headers
