"""Admission by the counters in Valkey."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from services.voice.domain.script import VENDOR, speech_allowance
from shared.ids import UserId
from shared.limits.admission import Admissions, Window, minute_window, month_window
from shared.limits.tier_admission import ValkeyReservation, admit_by_tier
from shared.tiers import Tier


class ValkeyAdmission:
    """Requests a minute and characters a month, as the tier grants them."""

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions

    async def admit(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> ValkeyReservation:
        """Raises TierChanged, LimitReached, or DependencyUnavailable while Valkey is gone for an
        unpaid tier."""
        return await admit_by_tier(
            self._admissions,
            user_id,
            tier,
            VENDOR,
            _windows(tier, characters, now),
            now=now,
            reservation=reservation,
        )

    async def tier_told_of(self, user_id: UserId) -> str | None:
        return await self._admissions.tier_told_of(str(user_id))


def _windows(tier: Tier, characters: int, now: datetime) -> list[Window]:
    allowance = speech_allowance(tier)
    windows = []
    if allowance.requests_per_minute is not None:
        name = f"{VENDOR}.requests_per_minute"
        windows.append(minute_window(name, allowance.requests_per_minute, now))
    if allowance.characters_per_month is not None:
        name = f"{VENDOR}.characters_per_month"
        windows.append(month_window(name, allowance.characters_per_month, now, characters))
    return windows
