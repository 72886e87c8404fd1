"""Show what happened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.auth.actions._enter_organisation import look_into
from services.auth.domain.audit import AuditEntry
from services.auth.domain.organisation import Act, OrganisationId
from services.auth.domain.ports import NewUnitOfWork
from shared.ids import UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ReadAudit:
    """What happened on an account, for its owner; in an organisation, for who runs it; or anywhere,
    for the console."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self, user_id: UserId, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        """The newest first, from the one after `before` on."""
        async with self.unit_of_work() as work:
            return await work.audit.of_user(user_id, before=before, most=most)

    async def acts(
        self, user_id: UserId, *, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        """What a user did that concerns others, or nobody alone, likewise."""
        async with self.unit_of_work() as work:
            return await work.audit.by_user(user_id, before=before, most=most)

    async def organisations(
        self, organisation_id: OrganisationId, *, by: UserId, before: UUID | None, most: int
    ) -> Sequence[AuditEntry]:
        """The same of an organisation. Raises OrganisationNotFound or OrganisationRoleRequired."""
        async with self.unit_of_work() as work:
            entered = await look_into(work, organisation_id, by)
            entered.actor.require(Act.SEE_AUDIT)
            return await work.audit.of_organisation(organisation_id, before=before, most=most)

    async def everybodys(self, *, since: datetime | None, most: int) -> Sequence[AuditEntry]:
        """The newest first. No route leads here."""
        async with self.unit_of_work() as work:
            return await work.audit.of_everybody(since=since, most=most)
