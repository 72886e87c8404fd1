"""The limits of a tier, window by window, and who comes near to them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from shared.ids import UserId
from shared.tiers import TIERS, Tier
from shared.values import dataclass

Counted = Literal["requests", "characters"]

SPENDING = "monthly_spend"
CHARACTERS = ".characters_per_month"
"""What the names of these windows end with, after the provider's."""
THRESHOLDS = (80, 100)
"""Percent of a window at which its user is told."""


@dataclass(frozen=True, slots=True)
class LimitStanding:
    """What is used of a limit in the present window, and what running requests hold of it.

    `limit` is None where billing does not know it: what a user caps their own spending at is
    between them and chat.
    """

    name: str
    provider: str | None
    limit: int | None
    used: int
    resets_at: datetime
    reserved: int = 0

    @property
    def remaining(self) -> int | None:
        """Never less than none, also after a change to a smaller tier."""
        return None if self.limit is None else max(0, self.limit - self.used - self.reserved)


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A window of a tier that is worth a word before it is full: one that lasts."""

    tier: str
    name: str
    provider: str
    counted: Counted
    limit: int
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Approach:
    """A user has come to a threshold of a window."""

    user_id: UserId
    tier: str
    window: str
    percent: int
    limit: int
    used: int
    resets_at: datetime


def alert_rules(
    day: tuple[datetime, datetime], month: tuple[datetime, datetime]
) -> list[AlertRule]:
    """Those of all tiers, for this day and this month."""
    return [rule for tier in TIERS.values() for rule in _rules_of(tier, day, month)]


def _rules_of(
    tier: Tier, day: tuple[datetime, datetime], month: tuple[datetime, datetime]
) -> Iterator[AlertRule]:
    for provider, allowance in tier.allowances.items():
        if (most := allowance.requests_per_day) is not None:
            name = f"{provider}.requests_per_day"
            yield AlertRule(tier.name, name, provider, "requests", most, *day)
        if (most := allowance.characters_per_month) is not None:
            name = f"{provider}.characters_per_month"
            yield AlertRule(tier.name, name, provider, "characters", most, *month)
