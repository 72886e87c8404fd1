"""Admission by the counters in Valkey."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from uuid import UUID

from services.voice.domain.script import VENDOR, speech_allowance
from services.voice.domain.speech import Hold
from shared.errors import LimitReached
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.limits.admission import (
    MOST,
    Admission,
    Admissions,
    Window,
    WindowState,
    minute_window,
    month_window,
)
from shared.limits.shedding import Shedding
from shared.limits.tier_admission import ValkeyReservation, admit_by_tier, limit_states
from shared.tiers import Tier


class VoiceReservation:
    """A speech's place: a request, and its characters."""

    def __init__(self, place: ValkeyReservation, now: datetime) -> None:
        self._place = place
        self._now = now

    @property
    def limits(self) -> Sequence[LimitState]:
        """The windows as they are after this reservation."""
        return self._place.limits

    async def keep(self) -> None:
        """It is still needed."""
        await self._place.keep()

    async def refund(self) -> None:
        """Give everything back: nothing was said."""
        await self._place.refund()

    async def settle(self, characters: int) -> None:
        """Count what was used, in the month in which it was reserved; also for a tier that does not
        limit it, since the user may have one that does before the month is over."""
        await self._place.settle([(_month_of_characters(MOST, self._now), characters)])


ChargedSince = Callable[[UserId, datetime], Awaitable[int]]
"""How many characters a user was charged since a moment."""

Refused = Callable[[UserId, Tier, LimitReached], Awaitable[None]]
"""Hears of each refusal."""


class ValkeyAdmission:
    """Requests a minute and characters a month, as the tier grants them.

    The month's counter only mirrors what the database knows, so that a Valkey which lost it gives
    nobody a second month.
    """

    def __init__(
        self,
        admissions: Admissions,
        charged_since: ChargedSince,
        shedding: Shedding | None = None,
        refused: Refused | None = None,
    ) -> None:
        self._admissions = admissions
        self._charged_since = charged_since
        self._shedding = shedding or Shedding()
        self._refused = refused

    async def admit(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> VoiceReservation:
        """Raises TierChanged, LimitReached, UsageBacklog, or DependencyUnavailable while Valkey is
        gone for an unpaid tier."""
        if self._shedding.tiers:
            await self._shedding.refuse(tier, lambda: self.tier_told_of(user_id))
        windows = _request_windows(tier, now) + _character_windows(tier, characters, now)
        return await self._admit(user_id, tier, windows, now, reservation)

    async def admit_more(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> VoiceReservation:
        """As `admit`, without another request."""
        windows = _character_windows(tier, characters, now)
        return await self._admit(user_id, tier, windows, now, reservation, is_request=False)

    async def admit_again(
        self, user_id: UserId, tier: Tier, *, now: datetime, reservation: UUID
    ) -> VoiceReservation:
        """Raises as `admit`, but for LimitReached: nothing is taken."""
        requests = [replace(window, amount=0, need=-MOST) for window in _request_windows(tier, now)]
        windows = requests + _character_windows(tier, 0, now)
        return await self._admit(user_id, tier, windows, now, reservation, is_request=False)

    async def _admit(
        self,
        user_id: UserId,
        tier: Tier,
        windows: Sequence[Window],
        now: datetime,
        reservation: UUID,
        *,
        is_request: bool = True,
    ) -> VoiceReservation:
        try:
            place = await admit_by_tier(
                self._admissions,
                user_id,
                tier,
                VENDOR,
                windows,
                now=now,
                reservation=reservation,
                is_request=is_request,
                spent=partial(self._charged_since, user_id, month_of(now)),
            )
        except LimitReached as failure:
            if self._refused is not None:
                await self._refused(user_id, tier, failure)
            raise
        if not windows:
            # Nothing was reserved, so there is nothing to know it by when it is settled.
            unreserved = Admission(str(reservation), (), locally=())
            place = ValkeyReservation(self._admissions, str(user_id), unreserved)
        return VoiceReservation(place, now)

    def place_of(self, hold: Hold) -> VoiceReservation:
        """Where it has its place. One that is not there is neither given back nor settled."""
        admission = Admission(str(hold.id), ())
        place = ValkeyReservation(self._admissions, str(hold.user_id), admission)
        return VoiceReservation(place, hold.created_at)

    async def tell_the_untold(self) -> None:
        """What the counters could not be told while they were away."""
        await self._admissions.renew({})

    async def states(self, user_id: UserId, tier: Tier, *, now: datetime) -> Sequence[LimitState]:
        windows = _request_windows(tier, now) + _character_windows(tier, 0, now)
        states = list(await self._admissions.standing(str(user_id), windows))
        counted = {state.window.name for state in states}
        states += [
            WindowState(window, await self._charged_since(user_id, month_of(now)))
            for window in windows
            if window.name not in counted
        ]
        return limit_states(states)

    async def tier_told_of(self, user_id: UserId) -> str | None:
        return await self._admissions.tier_told_of(str(user_id))


def _request_windows(tier: Tier, now: datetime) -> list[Window]:
    most = speech_allowance(tier).requests_per_minute
    return [] if most is None else [minute_window(f"{VENDOR}.requests_per_minute", most, now)]


def _character_windows(tier: Tier, characters: int, now: datetime) -> list[Window]:
    most = speech_allowance(tier).characters_per_month
    if most is None:
        return []
    window = _month_of_characters(most, now, characters)
    # Who asks for none may be beyond the limit already.
    return [window if characters else replace(window, need=-MOST)]


def _month_of_characters(most: int, now: datetime, characters: int = 0) -> Window:
    name = f"{VENDOR}.characters_per_month"
    return replace(month_window(name, most, now, characters), seeded=True)


def month_of(now: datetime) -> datetime:
    """Where the UTC month begins that it lies in."""
    return month_window("", 0, now).starts_at
