"""Read the trail."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.keyvault.domain.audit import AuditEntry
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ReadAudit:
    """Show who used which of an owner's keys, when, and for which request.

    A user also sees what they did with their organisation's keys.
    """

    unit_of_work: NewUnitOfWork

    async def __call__(
        self, *, by: UserId, before: UUID | None, most: int, of: Owner | None = None
    ) -> Sequence[AuditEntry]:
        """The lines older than `before`, newest first."""
        async with self.unit_of_work() as work:
            return await work.audit.page(of or Owner.user(by), before=before, most=most)
