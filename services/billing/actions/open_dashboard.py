"""Let a browser see the dashboard: by a link, once, and then for a while."""

from __future__ import annotations

from uuid import UUID

from services.billing.domain.dashboard import (
    LINK_LASTS,
    VISIT_LASTS,
    DashboardPass,
    PassKind,
    digest_of,
    new_secret,
)
from services.billing.domain.errors import DashboardClosed, DashboardLinkOver
from services.billing.domain.ports import NewUnitOfWork
from shared.clock import Clock
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class OpenDashboard:
    """Make links, exchange one for a visit, and know a visit again."""

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def link(self, by: UserId, sign_in_id: UUID) -> str:
        """The secret of a link for whoever is signed in."""
        secret, now = new_secret(), self.clock.now()
        async with self.unit_of_work() as work:
            await work.dashboard_passes.clear(now)
            await work.dashboard_passes.add(
                DashboardPass(digest_of(secret), PassKind.LINK, by, sign_in_id, now + LINK_LASTS)
            )
        return secret

    async def enter(self, secret: str) -> str:
        """The secret of the visit that a link opens. Raises DashboardLinkOver."""
        visit, now = new_secret(), self.clock.now()
        async with self.unit_of_work() as work:
            link = await work.dashboard_passes.use_up(digest_of(secret), PassKind.LINK, now)
            if link is None:
                raise DashboardLinkOver
            until = now + VISIT_LASTS
            await work.dashboard_passes.add(
                DashboardPass(
                    digest_of(visit), PassKind.VISIT, link.user_id, link.sign_in_id, until
                )
            )
        return visit

    async def visit(self, secret: str) -> DashboardPass:
        """Whose visit it is. Raises DashboardClosed."""
        async with self.unit_of_work() as work:
            found = await work.dashboard_passes.get(
                digest_of(secret), PassKind.VISIT, self.clock.now()
            )
        if found is None:
            raise DashboardClosed
        return found
