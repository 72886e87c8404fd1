"""Admission by the counters in Valkey."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.ids import UserId
from shared.limits.admission import Admissions, Window, day_window, minute_window
from shared.limits.tier_admission import ValkeyReservation, admit_by_tier
from shared.tiers import Tier


class ValkeyAdmission:
    """Requests a minute and a day, as the tier grants them at this provider."""

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions

    async def admit(
        self, user_id: UserId, tier: Tier, provider: str, *, now: datetime, reservation: UUID
    ) -> ValkeyReservation:
        """Raises TierChanged, LimitReached, or DependencyUnavailable while Valkey is gone for an
        unpaid tier."""
        return await admit_by_tier(
            self._admissions,
            user_id,
            tier,
            provider,
            _windows(tier, provider, now),
            now=now,
            reservation=reservation,
        )

    async def tier_told_of(self, user_id: UserId) -> str | None:
        return await self._admissions.tier_told_of(str(user_id))


def _windows(tier: Tier, provider: str, now: datetime) -> list[Window]:
    allowance = tier.allowance(provider)
    windows = []
    if allowance and allowance.requests_per_minute is not None:
        name = f"{provider}.requests_per_minute"
        windows.append(minute_window(name, allowance.requests_per_minute, now))
    if allowance and allowance.requests_per_day is not None:
        name = f"{provider}.requests_per_day"
        windows.append(day_window(name, allowance.requests_per_day, now))
    return windows
