"""Admission by the counters in Valkey."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.voice.domain.script import VENDOR, speech_allowance
from shared.errors import LimitReached
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.limits.admission import (
    Admission,
    Admissions,
    Window,
    WindowState,
    minute_window,
    month_window,
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
        return _states(self._admission)

    async def refund(self) -> None:
        await self._admissions.refund(self._subject, self._admission)


class ValkeyAdmission:
    """Requests a minute and characters a month, as the tier grants them."""

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions

    async def admit(
        self, user_id: UserId, tier: Tier, characters: int, *, now: datetime, reservation: UUID
    ) -> ValkeyReservation:
        """Raises LimitReached, or DependencyUnavailable while Valkey is gone and the tier is one
        that then waits."""
        subject = str(user_id)
        allowance = speech_allowance(tier)
        admission = await self._admissions.admit(
            subject,
            _windows(tier, characters, now),
            reservation=str(reservation),
            # Paid use goes on within the minute's limit while Valkey is gone; unpaid use waits.
            fallback_limit=allowance.requests_per_minute if tier.rank > 0 else None,
        )
        if admission.refused is not None:
            raise _limit_reached(admission, admission.refused, tier, now)
        return ValkeyReservation(self._admissions, subject, admission)


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


def _states(admission: Admission) -> list[LimitState]:
    return [
        LimitState(
            name=state.window.name,
            limit=state.window.limit,
            used=state.used,
            window=state.window.ends_at - state.window.starts_at,
            resets_at=state.window.ends_at,
        )
        for state in admission.states
    ]


def _limit_reached(
    admission: Admission, full: WindowState, tier: Tier, now: datetime
) -> LimitReached:
    larger = upgrade_from(tier, VENDOR)
    return LimitReached(
        "The limit of your tier is reached.",
        retry_after=full.window.ends_at - now,
        limits=_states(admission),
        limit=full.window.limit,
        used=full.used,
        scope=full.window.name,
        resets_at=full.window.ends_at,
        upgrade_tier=larger.name if larger else None,
    )
