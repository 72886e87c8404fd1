"""Admission as a tier grants it: what chat and voice share beside their windows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from shared.errors import LimitReached
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.limits.admission import Admission, Admissions, Window, WindowState
from shared.tiers import Tier, upgrade_from


class ValkeyReservation:
    """A place in the windows of one user."""

    def __init__(self, admissions: Admissions, subject: str, admission: Admission) -> None:
        self._admissions = admissions
        self._subject = subject
        self._admission = admission

    @property
    def limits(self) -> Sequence[LimitState]:
        """The windows as they are after this reservation."""
        return _states(self._admission)

    async def refund(self) -> None:
        """Give the place back; a second call does nothing."""
        await self._admissions.refund(self._subject, self._admission)


async def admit_by_tier(
    admissions: Admissions,
    user_id: UserId,
    tier: Tier,
    vendor: str,
    windows: Sequence[Window],
    *,
    now: datetime,
    reservation: UUID,
) -> ValkeyReservation:
    """Reserve all windows or none.

    Raises TierChanged, LimitReached, or DependencyUnavailable while Valkey is gone and the tier is
    one that then waits: paid use goes on within the minute's limit of this replica, unpaid waits.
    """
    subject = str(user_id)
    allowance = tier.allowance(vendor)
    paid = tier.price_microusd_per_seat_month > 0
    admission = await admissions.admit(
        subject,
        windows,
        reservation=str(reservation),
        claimed_tier=tier.name,
        fallback_limit=allowance.requests_per_minute if allowance and paid else None,
    )
    if admission.refused is not None:
        raise _limit_reached(admission, admission.refused, tier, vendor, now)
    return ValkeyReservation(admissions, subject, admission)


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
    admission: Admission, full: WindowState, tier: Tier, vendor: str, now: datetime
) -> LimitReached:
    larger = upgrade_from(tier, vendor)
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
