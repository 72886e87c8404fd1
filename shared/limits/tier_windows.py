"""Every window that a tier sets, under the names by which chat and voice count."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from shared.limits.windows import Window, day_window, minute_window, month_window
from shared.tiers import COMPATIBLE, Allowance, Tier


def tier_windows(tier: Tier, now: datetime) -> list[Window]:
    """Those of all vendors, with the operator's own server last; what is unlimited has none."""
    return [
        window
        for provider in (*tier.allowances, COMPATIBLE)
        if (allowance := tier.allowance(provider)) is not None
        for window in vendor_windows(allowance, provider, now)
    ]


def vendor_of(window: Window) -> str | None:
    """The vendor that a window is about; None for those over all vendors."""
    vendor, dot, _ = window.name.partition(".")
    return vendor if dot else None


def vendor_windows(
    allowance: Allowance, provider: str, now: datetime, *, tokens: int = 0
) -> Iterator[Window]:
    """Those of one vendor, for a request that may use so many tokens."""
    if allowance.requests_per_minute is not None:
        name = f"{provider}.requests_per_minute"
        yield minute_window(name, allowance.requests_per_minute, now)
    if allowance.requests_per_day is not None:
        yield day_window(f"{provider}.requests_per_day", allowance.requests_per_day, now)
    if allowance.tokens_per_minute is not None:
        yield token_window(provider, allowance.tokens_per_minute, now, tokens)
    if allowance.characters_per_month is not None:
        yield month_window(f"{provider}.characters_per_month", allowance.characters_per_month, now)


def token_window(provider: str, limit: int, now: datetime, tokens: int = 0) -> Window:
    """The minute's tokens. One request that is larger than the whole window has it to itself."""
    return minute_window(f"{provider}.tokens_per_minute", limit, now, min(max(0, tokens), limit))
