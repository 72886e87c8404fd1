"""Invitations into organisations."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from services.auth.api.dependencies import ServiceActions
from services.auth.api.organisations import ROLE_AND_PROOF, ROLE_REQUIRED, Cursor, Limit
from services.auth.api.origin import FromWhere
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import (
    Invitation,
    InvitationId,
    InvitationToken,
    OrganisationId,
)
from services.auth.domain.user import LONGEST_EMAIL
from shared.http.caller import SignedIn, StillSignedIn, freshly_proven
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems

router = APIRouter(prefix="/auth", tags=["organisations"])


class InvitationRequest(BaseModel):
    """Whom to invite, and as what."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=LONGEST_EMAIL)
    role: OrganisationRole = OrganisationRole.MEMBER


class InvitationBody(BaseModel):
    """An invitation as those see it who may invite. Its token is in the mail alone."""

    id: UUID
    email: str
    role: OrganisationRole
    invited_by: UUID
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, invitation: Invitation) -> Self:
        return cls(
            id=invitation.id,
            email=invitation.email.text,
            role=invitation.role,
            invited_by=invitation.invited_by,
            created_at=invitation.created_at,
            expires_at=invitation.expires_at,
        )


class Joined(BaseModel):
    """What the caller is now. The next access token says it too."""

    organisation: UUID
    role: OrganisationRole
    seated: bool


@router.post(
    "/organisations/{organisation_id}/invitations",
    status_code=201,
    response_model=InvitationBody,
    responses=problems(
        401,
        _403=f"{ROLE_AND_PROOF}, email_not_verified",
        _404="organisation_not_found",
        _409="already_a_member, too_many_open_invitations",
        _429="invited_too_often, invited_too_many",
    ),
)
async def invite(
    organisation_id: UUID,
    body: InvitationRequest,
    actions: ServiceActions,
    caller: StillSignedIn,
    origin: FromWhere,
) -> InvitationBody:
    """Invite somebody by mail. An earlier invitation to the same address ends."""
    invitation = await actions.invite_member(
        OrganisationId(organisation_id),
        body.email,
        body.role,
        by=caller.identity.user_id,
        origin=origin,
        proof=partial(freshly_proven, caller),
    )
    return InvitationBody.of(invitation)


@router.get(
    "/organisations/{organisation_id}/invitations",
    response_model=Page[InvitationBody],
    responses=problems(401, _403=ROLE_REQUIRED, _404="organisation_not_found"),
)
async def list_invitations(
    organisation_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[InvitationBody]:
    """List the open invitations, the newest first."""
    before = read_cursor(cursor, UUID) if cursor else None
    found = await actions.list_invitations(
        OrganisationId(organisation_id),
        by=caller.identity.user_id,
        before=InvitationId(before[0]) if before else None,
        most=limit + 1,
    )
    bodies = [InvitationBody.of(invitation) for invitation in found]
    return Page.of(bodies, limit, lambda last: cursor_of(last.id))


@router.delete(
    "/organisations/{organisation_id}/invitations/{invitation_id}",
    status_code=204,
    responses=problems(
        401, _403=ROLE_REQUIRED, _404="organisation_not_found, invitation_not_found"
    ),
)
async def withdraw_invitation(
    organisation_id: UUID,
    invitation_id: UUID,
    actions: ServiceActions,
    caller: StillSignedIn,
    origin: FromWhere,
) -> None:
    """Take an invitation back."""
    await actions.withdraw_invitation(
        OrganisationId(organisation_id),
        InvitationId(invitation_id),
        by=caller.identity.user_id,
        origin=origin,
    )


@router.post(
    "/invitations/{token}/accept",
    response_model=Joined,
    responses=problems(
        401,
        _403="invitation_for_another_address, email_not_verified",
        _404="invitation_not_found",
        _409="in_an_organisation, no_seat_left",
    ),
)
async def accept(
    token: Annotated[str, Path(max_length=200)],
    actions: ServiceActions,
    caller: StillSignedIn,
    origin: FromWhere,
) -> Joined:
    """Join by the invitation that was mailed to you. Take a new token afterwards."""
    entered = await actions.accept_invitation(
        InvitationToken(token), by=caller.identity.user_id, origin=origin
    )
    member = entered.actor
    return Joined(organisation=member.organisation_id, role=member.role, seated=member.is_seated)
