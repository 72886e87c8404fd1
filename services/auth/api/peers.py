"""What other services may ask; on the internal port only."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from services.auth.api.dependencies import ServiceActions
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import Act, OrganisationId
from shared.http.caller import OnlyFrom
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/internal", tags=["peers"])

# Those who ask who decides in an organisation.
Asker = Annotated[str, Depends(OnlyFrom("billing", "keyvault", "voice"))]


class MemberForPeers(BaseModel):
    """Somebody's place in an organisation. `may_buy`: see and change its subscription;
    `may_manage_keys`: its keys for vendors, and voices that those made; `seats_taken`: how many
    people sit there."""

    organisation_id: UUID
    user_id: UUID
    role: OrganisationRole
    is_seated: bool
    may_buy: bool
    may_manage_keys: bool
    seats_taken: int


@router.get(
    "/organisations/{organisation_id}/members/{user_id}",
    response_model=MemberForPeers,
    responses=problems(_404="member_not_found"),
)
async def look_up_member(
    organisation_id: UUID, user_id: UUID, actions: ServiceActions, _peer: Asker
) -> MemberForPeers:
    """Look up what a user is in an organisation now."""
    member = await actions.look_up_member(OrganisationId(organisation_id), UserId(user_id))
    return MemberForPeers(
        organisation_id=member.organisation_id,
        user_id=member.user_id,
        role=member.role,
        is_seated=member.is_seated,
        may_buy=member.may(Act.BUY),
        may_manage_keys=member.may(Act.MANAGE_KEYS),
        seats_taken=await actions.look_up_member.seats_taken(member.organisation_id),
    )
