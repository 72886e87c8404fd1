"""The limits of a tier, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from shared.tiers import Tier

Span = Literal["minute", "day", "month"]


@dataclass(frozen=True, slots=True)
class LimitRule:
    """A limit that a tier sets at a vendor; chat and voice count under the same name."""

    name: str
    provider: str
    limit: int
    span: Span


@dataclass(frozen=True, slots=True)
class LimitStanding:
    """What is used of a limit in the present window."""

    rule: LimitRule
    used: int
    resets_at: datetime

    @property
    def remaining(self) -> int:
        """Never less than none, also after a change to a smaller tier."""
        return max(0, self.rule.limit - self.used)


def rules_of(tier: Tier) -> tuple[LimitRule, ...]:
    """Every limit of the tier; what is unlimited has none."""
    rules = []
    for provider, allowance in tier.allowances.items():
        limits: tuple[tuple[str, int | None, Span], ...] = (
            ("requests_per_minute", allowance.requests_per_minute, "minute"),
            ("requests_per_day", allowance.requests_per_day, "day"),
            ("characters_per_month", allowance.characters_per_month, "month"),
        )
        rules += [
            LimitRule(f"{provider}.{name}", provider, limit, span)
            for name, limit, span in limits
            if limit is not None
        ]
    return tuple(rules)
