"""What the billing team's analytics need."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Protocol

from services.billing.domain.analytics import (
    Active,
    Churn,
    Conversion,
    Days,
    Facet,
    Grain,
    Months,
    Retention,
    Revenue,
    TierUsage,
    TotalUsage,
)
from services.billing.domain.dashboard import DashboardPass, PassKind
from shared.ids import UserId


class Activity(Protocol):
    """Rollups of who was active when and of all usage together, made from the ledger's chains."""

    async def take_turn(self) -> bool:
        """False while somebody else is at it; the turn ends with the work."""
        ...

    async def take_up(self) -> int:
        """Count the next records that have their link; answers how many, 0 at the end."""
        ...

    async def note_registered(self, users: Sequence[tuple[UserId, date]]) -> None: ...


class Analytics(Protocol):
    """Figures over subscriptions, charges and rollups; by month and tier where nothing is said."""

    async def revenue(self, months: Months) -> Sequence[Revenue]: ...
    async def churn(self, months: Months) -> Sequence[Churn]: ...
    async def active(
        self, days: Days, grain: Grain, *, by_tier: bool, by_service: bool
    ) -> Sequence[Active]: ...
    async def conversion(self, months: Months, within: timedelta) -> Sequence[Conversion]: ...
    async def retention(self, months: Months) -> Sequence[Retention]: ...
    async def usage(self, days: Days, facets: Sequence[Facet]) -> Sequence[TotalUsage]: ...
    async def usage_by_tier(self, months: Months) -> Sequence[TierUsage]: ...


class DashboardPasses(Protocol):
    """Links and visits."""

    async def add(self, new: DashboardPass) -> None: ...
    async def get(self, digest: bytes, kind: PassKind, now: datetime) -> DashboardPass | None: ...
    async def use_up(self, digest: bytes, kind: PassKind, now: datetime) -> DashboardPass | None:
        """Taken away: whoever gets it is the only one."""
        ...

    async def clear(self, now: datetime) -> None:
        """Drop what is over."""
        ...

    async def forget(self, user_id: UserId) -> None: ...
