"""Admission by the counters in Valkey."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from uuid import UUID

from services.chat.domain.ports import AdmissionRequest
from services.chat.domain.turn import Hold
from shared.errors import DependencyUnavailable
from shared.ids import UserId, uuid7
from shared.limit_state import LimitState
from shared.limits.admission import (
    MOST,
    Admission,
    Admissions,
    Window,
    WindowState,
    minute_window,
    spend_window,
    streams_at_once,
)
from shared.limits.full_windows import FullWindows
from shared.limits.local import LocalLimit
from shared.limits.shedding import Shedding
from shared.limits.tier_admission import (
    SPENDING,
    ValkeyReservation,
    admit_by_tier,
    limit_states,
    refuse_if_full,
)
from shared.limits.tier_windows import token_window, vendor_windows
from shared.tiers import COMPATIBLE, Tier, tier_named

FREE_CALLS = "free_calls_per_minute"
# Lists of models and counted tokens, of all vendors together: more than any program needs.
_FREE_CALLS_A_MINUTE = 120


class ChatReservation:
    """A turn's place: a request, its tokens, its money, and one of the streams at once."""

    def __init__(self, place: ValkeyReservation, provider: str, now: datetime) -> None:
        self._place = place
        self._provider = provider
        self._now = now

    @property
    def limits(self) -> Sequence[LimitState]:
        """The windows as they are after this reservation."""
        return self._place.limits

    async def refund(self, *, cost_microusd: int | None = None) -> None:
        """Give everything back: nothing reached the user. But what it cost stays counted."""
        if not cost_microusd:
            await self._place.refund()
            return
        nothing = [(window, 0) for window in self._place.windows if window.name != SPENDING]
        await self._place.settle([*nothing, self._spent(cost_microusd)])

    async def settle(self, *, tokens: int, cost_microusd: int | None) -> None:
        """Count what was used, in the windows in which it was reserved, and make room for another
        stream. An unknown cost leaves what was reserved as the best that is known."""
        used = [(token_window(self._provider, 0, self._now), tokens)]
        if cost_microusd is not None:
            used.append(self._spent(cost_microusd))
        await self._place.settle(used)

    async def owes(self, *, cost_microusd: int) -> None:
        """Count what was charged beyond what it was given back with."""
        await self._place.charge([self._spent(cost_microusd)])

    def _spent(self, cost_microusd: int) -> tuple[Window, int]:
        # Also without a cap: the counter stays right for when there is one again.
        return spend_window(SPENDING, 0, self._now, cost_microusd), cost_microusd


class ValkeyAdmission:
    """What the tier grants at the provider, streams over all providers, and the user's own cap."""

    def __init__(self, admissions: Admissions, shedding: Shedding | None = None) -> None:
        self._admissions = admissions
        self._shedding = shedding or Shedding()
        self._full = FullWindows()
        self._free_calls = LocalLimit()

    def refuse_if_full(self, user_id: UserId, tier: Tier, provider: str, now: datetime) -> None:
        """Raises LimitReached where it is known beforehand that `admit` would."""
        refuse_if_full(self._full, user_id, tier, provider, now)

    def tier_changed(self, user_id: UserId) -> None:
        """What was refused may now be granted."""
        self._full.forget(str(user_id))

    async def admit(
        self, request: AdmissionRequest, *, spent: Callable[[], Awaitable[int]]
    ) -> ChatReservation:
        """Raises TierChanged, LimitReached, UsageBacklog, or DependencyUnavailable while Valkey is
        gone for an unpaid tier."""
        tier, provider, now = request.tier, request.provider, request.now
        if self._shedding.tiers and request.is_new:
            await self._shedding.refuse(tier, lambda: self.tier_told_of(request.user_id))
        allowance = tier.allowance(provider)
        windows = (
            list(vendor_windows(allowance, provider, now, tokens=request.tokens))
            if allowance
            else []
        )
        # A call that is known to cost nothing is not stopped by a cap on money.
        if request.cap_microusd is not None and request.cost_microusd != 0:
            windows.append(_spending(request.cap_microusd, now, request.cost_microusd))
        place = await admit_by_tier(
            self._admissions,
            request.user_id,
            tier,
            provider,
            windows,
            now=now,
            reservation=request.reservation,
            streams=streams_at_once(tier.concurrent_streams, now),
            spent=spent,
            full=self._full,
        )
        return ChatReservation(place, provider, now)

    def places_of(self, hold: Hold) -> Sequence[ChatReservation]:
        """Where it may have its place. One that is not there is neither given back nor settled."""
        return [self._place(id_, hold) for id_ in (hold.id, hold.place_at(hold.provider))]

    def _place(self, reservation: UUID, hold: Hold) -> ChatReservation:
        now, allowance = hold.created_at, tier_named(hold.tier).allowance(hold.provider)
        windows = list(vendor_windows(allowance, hold.provider, now)) if allowance else []
        known = [WindowState(window, 0) for window in (*windows, _spending(0, now, None))]
        admission = Admission(str(reservation), tuple(known))
        place = ValkeyReservation(self._admissions, str(hold.user_id), admission)
        return ChatReservation(place, hold.provider, now)

    async def renew(self, reservations: Collection[tuple[UserId, UUID]]) -> None:
        """Keep the places of running turns, to be called well within their lease."""
        by_user: dict[str, list[str]] = {}
        for user_id, reservation in reservations:
            by_user.setdefault(str(user_id), []).append(str(reservation))
        await self._admissions.renew(by_user)

    async def tell_the_untold(self) -> None:
        """What the counters could not be told while they were away."""
        await self._admissions.renew({})

    async def states(
        self,
        user_id: UserId,
        tier: Tier,
        *,
        now: datetime,
        cap_microusd: int | None,
        provider: str | None = None,
    ) -> Sequence[LimitState]:
        """Every window of the user, or those of one provider; the money one only once it is
        counted, which begins with the first turn under a cap. Raises DependencyUnavailable."""
        windows = [
            window
            for name in ((*tier.allowances, COMPATIBLE) if provider is None else (provider,))
            if (allowance := tier.allowance(name)) and allowance.tokens_per_minute is not None
            for window in vendor_windows(allowance, name, now)
        ]
        if cap_microusd is not None:
            windows.append(_spending(cap_microusd, now, 0))
        streams = streams_at_once(tier.concurrent_streams, now)
        states = await self._admissions.standing(str(user_id), windows, streams)
        # Few installations have a server of their own; its windows are told to those who use it.
        return limit_states(
            [
                state
                for state in states
                if state.used or provider is not None or not _is_compatible(state.window)
            ]
        )

    async def count_free_call(self, user_id: UserId, tier: Tier, *, now: datetime) -> None:
        """Raises TierChanged, LimitReached, or DependencyUnavailable while Valkey is gone for an
        unpaid tier."""
        try:
            await admit_by_tier(
                self._admissions,
                user_id,
                tier,
                "",  # no vendor's, and no larger tier has more of them
                [minute_window(FREE_CALLS, _FREE_CALLS_A_MINUTE, now)],
                now=now,
                reservation=uuid7(),
            )
        except DependencyUnavailable:
            # Counted apart: lists of models must not use up what this replica grants for turns.
            may_go_on = tier.is_paid and self._free_calls.take(str(user_id), _FREE_CALLS_A_MINUTE)
            if not may_go_on:
                raise

    async def tier_told_of(self, user_id: UserId) -> str | None:
        return await self._admissions.tier_told_of(str(user_id))


def _is_compatible(window: Window) -> bool:
    return window.name.startswith(f"{COMPATIBLE}.")


def _spending(cap: int, now: datetime, cost: int | None) -> Window:
    return spend_window(SPENDING, min(cap, MOST), now, None if cost is None else min(cost, MOST))
