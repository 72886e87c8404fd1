"""Admission by the counters in Valkey."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.voice.domain.script import VENDOR, speech_allowance
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.limits.admission import Admissions, Window, minute_window, month_window
from shared.limits.tier_admission import ValkeyReservation, admit_by_tier, limit_states
from shared.tiers import Tier


class VoiceReservation:
    """A speech's place: a request, and its characters."""

    def __init__(self, place: ValkeyReservation, tier: Tier, now: datetime) -> None:
        self._place = place
        self._tier = tier
        self._now = now

    @property
    def limits(self) -> Sequence[LimitState]:
        """The windows as they are after this reservation."""
        return self._place.limits

    async def refund(self) -> None:
        """Give everything back: nothing was said."""
        await self._place.refund()

    async def settle(self, characters: int) -> None:
        """Count what was used, in the month in which it was reserved."""
        windows = _character_windows(self._tier, characters, self._now)
        await self._place.settle([(window, characters) for window in windows])


class ValkeyAdmission:
    """Requests a minute and characters a month, as the tier grants them."""

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions

    async def admit(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> VoiceReservation:
        """Raises TierChanged, LimitReached, or DependencyUnavailable while Valkey is gone for an
        unpaid tier."""
        windows = _request_windows(tier, now) + _character_windows(tier, characters, now)
        return await self._admit(user_id, tier, windows, now, reservation)

    async def admit_more(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> VoiceReservation:
        """As `admit`, without another request."""
        windows = _character_windows(tier, characters, now)
        return await self._admit(user_id, tier, windows, now, reservation)

    async def _admit(
        self,
        user_id: UserId,
        tier: Tier,
        windows: Sequence[Window],
        now: datetime,
        reservation: UUID,
    ) -> VoiceReservation:
        place = await admit_by_tier(
            self._admissions, user_id, tier, VENDOR, windows, now=now, reservation=reservation
        )
        return VoiceReservation(place, tier, now)

    async def states(self, user_id: UserId, tier: Tier, *, now: datetime) -> Sequence[LimitState]:
        windows = _request_windows(tier, now) + _character_windows(tier, 0, now)
        return limit_states(await self._admissions.standing(str(user_id), windows))

    async def tier_told_of(self, user_id: UserId) -> str | None:
        return await self._admissions.tier_told_of(str(user_id))


def _request_windows(tier: Tier, now: datetime) -> list[Window]:
    most = speech_allowance(tier).requests_per_minute
    return [] if most is None else [minute_window(f"{VENDOR}.requests_per_minute", most, now)]


def _character_windows(tier: Tier, characters: int, now: datetime) -> list[Window]:
    most = speech_allowance(tier).characters_per_month
    name = f"{VENDOR}.characters_per_month"
    return [] if most is None else [month_window(name, most, now, characters)]
