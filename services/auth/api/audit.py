"""What happened on an account, for its owner."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel

from services.auth.api.dependencies import ServiceActions
from services.auth.domain.audit import AuditEntry
from services.auth.domain.organisation import OrganisationId
from shared.http.caller import SignedIn
from shared.http.problems import problems

router = APIRouter(prefix="/auth", tags=["audit"])


class AuditEntryBody(BaseModel):
    """One act. `own` is false when somebody else, or the system, did it.

    `device` and `address` tell from where, unless another user acted or it has been forgotten.
    """

    id: UUID
    at: datetime
    action: str
    own: bool
    organisation: UUID | None
    facts: dict[str, Any]
    device: str | None
    address: str | None

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        where = entry.origin_for(entry.user_id)
        return cls(
            id=entry.id,
            at=entry.at,
            action=entry.action,
            own=entry.actor_id is not None and entry.actor_id == entry.user_id,
            organisation=entry.organisation_id,
            facts=dict(entry.facts),
            device=where.device if where else None,
            address=where.address if where else None,
        )


class AuditPage(BaseModel):
    """A page, the newest first."""

    data: list[AuditEntryBody]
    next_cursor: str | None

    @classmethod
    def of(cls, found: Sequence[AuditEntry], limit: int) -> Self:
        page = found[:limit]
        return cls(
            data=[AuditEntryBody.of(entry) for entry in page],
            next_cursor=str(page[-1].id) if len(found) > limit else None,
        )


class OrganisationEntryBody(BaseModel):
    """One act in an organisation: `user` is whom it concerned, `actor` who did it. From where
    members act is not their organisation's business."""

    id: UUID
    at: datetime
    action: str
    user: UUID | None
    actor: UUID | None
    facts: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        return cls(
            id=entry.id,
            at=entry.at,
            action=entry.action,
            user=entry.user_id,
            actor=entry.actor_id,
            facts=dict(entry.facts),
        )


class OrganisationAuditPage(BaseModel):
    """A page, the newest first."""

    data: list[OrganisationEntryBody]
    next_cursor: str | None


@router.get("/audit", response_model=AuditPage)
async def read(
    actions: ServiceActions,
    caller: SignedIn,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: UUID | None = None,
) -> AuditPage:
    """Show what happened on the caller's account."""
    found = await actions.read_audit(caller.identity.user_id, before=cursor, most=limit + 1)
    return AuditPage.of(found, limit)


@router.get(
    "/organisations/{organisation_id}/audit",
    response_model=OrganisationAuditPage,
    responses=problems(401, _403="organisation_role_required", _404="organisation_not_found"),
)
async def read_organisations(
    organisation_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: UUID | None = None,
) -> OrganisationAuditPage:
    """Show what happened in an organisation, to its owners and admins."""
    found = await actions.read_audit.organisations(
        OrganisationId(organisation_id),
        by=caller.identity.user_id,
        before=cursor,
        most=limit + 1,
    )
    page = found[:limit]
    return OrganisationAuditPage(
        data=[OrganisationEntryBody.of(entry) for entry in page],
        next_cursor=str(page[-1].id) if len(found) > limit else None,
    )
