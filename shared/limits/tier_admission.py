"""Admission as a tier grants it: what chat and voice share beside their windows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from shared.errors import LimitReached
from shared.ids import UserId
from shared.limit_state import LimitState
from shared.limits.admission import STREAMS, Admission, Admissions, Spent, Window, WindowState
from shared.limits.full_windows import FullWindows
from shared.tiers import Tier, next_tier

SPENDING = "monthly_spend"

_SPENT = "The limit that you set for this month's spending is reached."
_TOO_DEAR = (
    "What this may cost at most does not fit into what is left of the limit that you set for this "
    "month's spending."
)
_BUSY = "As many answers as your tier allows at once are being given already."
_REACHED = "The limit of your tier is reached."


class ValkeyReservation:
    """A place in the windows of one user."""

    def __init__(self, admissions: Admissions, subject: str, admission: Admission) -> None:
        self._admissions = admissions
        self._subject = subject
        self._admission = admission

    @property
    def limits(self) -> Sequence[LimitState]:
        """The windows as they are after this reservation."""
        return limit_states(self._admission.states)

    @property
    def windows(self) -> Sequence[Window]:
        """Those in which it is a place."""
        return self._admission.windows

    async def keep(self) -> None:
        """It is still needed; to be said within each hour."""
        if self._admission.windows:
            await self._admissions.keep(self._subject, self._admission.reservation)

    async def refund(self) -> None:
        """Give the place back; a second call does nothing."""
        await self._admissions.refund(self._subject, self._admission)

    async def settle(self, used: Sequence[tuple[Window, int]]) -> None:
        """Put what was used in the place of what was reserved; see `Admissions.settle`."""
        admission = self._admission
        await self._admissions.settle(
            self._subject,
            admission.reservation,
            used,
            locally=admission.locally is not None,
        )

    async def charge(self, used: Sequence[tuple[Window, int]]) -> None:
        """Count more in windows than it was settled with, where they are counted at all. Only the
        first call does anything."""
        more = f"{self._admission.reservation}:more"
        await self._admissions.settle(self._subject, more, used, locally=True)


async def admit_by_tier(
    admissions: Admissions,
    user_id: UserId,
    tier: Tier,
    vendor: str,
    windows: Sequence[Window],
    *,
    now: datetime,
    reservation: UUID,
    streams: Window | None = None,
    spent: Spent | None = None,
    full: FullWindows | None = None,
    is_request: bool = True,
) -> ValkeyReservation:
    """Reserve all windows or none. `full`: where refusals are remembered, if at all. `is_request`:
    False for more of a request that was admitted.

    Raises TierChanged, LimitReached, or DependencyUnavailable while Valkey is gone and the tier is
    one that then waits: paid use goes on within the minute's limit of this replica, unpaid waits.
    """
    subject = str(user_id)
    allowance = tier.allowance(vendor)
    if full is not None:
        refuse_if_full(full, user_id, tier, vendor, now)
    admission = await admissions.admit(
        subject,
        windows,
        reservation=str(reservation),
        claimed_tier=tier.told_as,
        streams=streams,
        spent=spent,
        fallback_limit=allowance.requests_per_minute if allowance and tier.is_paid else None,
        is_request=is_request,
    )
    if admission.refused is not None:
        if full is not None:
            full.remember(subject, vendor, tier.name, admission)
        raise _limit_reached(admission, admission.refused, tier, vendor, now)
    return ValkeyReservation(admissions, subject, admission)


def refuse_if_full(
    full: FullWindows, user_id: UserId, tier: Tier, vendor: str, now: datetime
) -> None:
    """Raises LimitReached for whom it is known that they would be refused."""
    known = full.known(str(user_id), vendor, tier.name, now)
    if known is not None and known.refused is not None:
        raise _limit_reached(known, known.refused, tier, vendor, now)


def limit_states(states: Sequence[WindowState]) -> list[LimitState]:
    """As their user is told about them."""
    return [
        LimitState(
            name=state.window.name,
            limit=state.window.limit,
            used=state.used - state.reserved,
            reserved=state.reserved,
            window=_span(state.window),
            resets_at=state.window.ends_at,
        )
        for state in states
    ]


def _span(window: Window) -> timedelta:
    return timedelta() if window.name == STREAMS else window.ends_at - window.starts_at


def _limit_reached(
    admission: Admission, full: WindowState, tier: Tier, vendor: str, now: datetime
) -> LimitReached:
    scope = full.window.name
    # What users set themselves no larger tier lifts.
    larger = None if scope == SPENDING else next_tier(tier, lambda t: t.allows(vendor))
    spent = _SPENT if full.used >= full.window.limit else _TOO_DEAR
    return LimitReached(
        {SPENDING: spent, STREAMS: _BUSY}.get(scope, _REACHED),
        retry_after=full.window.ends_at - now,
        limits=limit_states(admission.states),
        limit=full.window.limit,
        used=full.used,
        scope=scope,
        resets_at=full.window.ends_at,
        upgrade_tier=larger,
    )
