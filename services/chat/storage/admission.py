"""Admission by the counters in Valkey."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from shared.errors import LimitReached
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.limits.admission import (
    Admission,
    Admissions,
    Window,
    WindowState,
    day_window,
    minute_window,
)
from shared.tiers import Tier, upgrade_from


class ValkeyReservation:
    """A place in the windows of one user."""

    def __init__(self, admissions: Admissions, subject: str, admission: Admission) -> None:
        self._admissions = admissions
        self._subject = subject
        self._admission = admission

    @property
    def limits(self) -> Sequence[LimitState]:
        return [_state(state) for state in self._admission.states]

    async def refund(self) -> None:
        await self._admissions.refund(self._subject, self._admission)


class ValkeyAdmission:
    """Requests a minute and a day, as the tier grants them at this provider."""

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions

    async def admit(
        self, user_id: UserId, tier: Tier, provider: str, *, now: datetime, reservation: UUID
    ) -> ValkeyReservation:
        """Raises LimitReached, or DependencyUnavailable while Valkey is gone and the tier is one
        that then waits."""
        subject = str(user_id)
        admission = await self._admissions.admit(
            subject,
            _windows(tier, provider, now),
            reservation=str(reservation),
            fallback_limit=_fallback(tier, provider),
        )
        if admission.refused is not None:
            raise _limit_reached(admission.refused, tier, provider, now)
        return ValkeyReservation(self._admissions, subject, admission)


def _windows(tier: Tier, provider: str, now: datetime) -> list[Window]:
    allowance = tier.allowance(provider)
    windows = []
    if allowance and allowance.requests_per_minute is not None:
        windows.append(
            minute_window(f"{provider}.requests_per_minute", allowance.requests_per_minute, now)
        )
    if allowance and allowance.requests_per_day is not None:
        windows.append(day_window(f"{provider}.requests_per_day", allowance.requests_per_day, now))
    return windows


def _fallback(tier: Tier, provider: str) -> int | None:
    """Paid use goes on within the minute's limit while Valkey is gone; unpaid use waits."""
    allowance = tier.allowance(provider)
    if tier.price_microusd_per_seat_month == 0 or allowance is None:
        return None
    return allowance.requests_per_minute


def _state(state: WindowState) -> LimitState:
    window = state.window
    return LimitState(
        name=window.name,
        limit=window.limit,
        used=state.used,
        window=window.ends_at - window.starts_at,
        resets_at=window.ends_at,
    )


def _limit_reached(state: WindowState, tier: Tier, provider: str, now: datetime) -> LimitReached:
    larger = upgrade_from(tier, provider)
    return LimitReached(
        "The limit of your tier is reached.",
        retry_after=state.window.ends_at - now,
        limit=state.window.limit,
        used=state.used,
        scope=state.window.name,
        resets_at=state.window.ends_at,
        upgrade_tier=larger.name if larger else None,
    )
