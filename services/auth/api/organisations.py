"""Organisations, their members and seats, and invitations into them."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from services.auth.actions.change_member import MemberChange
from services.auth.api.dependencies import ServiceActions
from services.auth.api.origin import FromWhere
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import (
    LONGEST_ORGANISATION_NAME,
    Entered,
    Headcount,
    Invitation,
    InvitationId,
    InvitationToken,
    Member,
    OrganisationId,
)
from services.auth.domain.user import LONGEST_EMAIL
from shared.http.caller import FreshlyProven, SignedIn, StillSignedIn, freshly_proven
from shared.http.pages import Page, cursor_of, moment_in_cursor, read_cursor
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/auth", tags=["organisations"])

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=200, description="The last page's `next_cursor`.")]
_WRITE = "organisation_role_required"
_OWNERS = f"{_WRITE}, step_up_required"


class OrganisationNameBody(BaseModel):
    """The name of an organisation."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=LONGEST_ORGANISATION_NAME)


class OrganisationBody(BaseModel):
    """An organisation as one of its members sees it; `role` and `seated` are the caller's."""

    id: UUID
    name: str
    tier: str
    seats: int
    seats_taken: int
    seats_from_next_period: int | None = Field(
        description="How many it is to have from the next period on, where that was chosen. Nobody"
        " is seated beyond it."
    )
    members: int
    role: OrganisationRole
    seated: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, entered: Entered, count: Headcount) -> Self:
        organisation, actor = entered.organisation, entered.actor
        return cls(
            id=organisation.id,
            name=organisation.name.text,
            tier=organisation.tier,
            seats=organisation.seats,
            seats_taken=count.seated,
            seats_from_next_period=organisation.next_seats,
            members=count.members,
            role=actor.role,
            seated=actor.is_seated,
            created_at=organisation.created_at,
            updated_at=organisation.updated_at,
        )


class MemberBody(BaseModel):
    """A member as those see them who run the organisation."""

    user_id: UUID
    username: str
    email: str
    role: OrganisationRole
    seated: bool
    joined_at: datetime

    @classmethod
    def of(cls, member: Member) -> Self:
        return cls(
            user_id=member.user_id,
            username=member.username.text,
            email=member.email.text,
            role=member.role,
            seated=member.is_seated,
            joined_at=member.joined_at,
        )


class MemberChangeBody(BaseModel):
    """What may be changed on a member; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    role: OrganisationRole | None = None
    seated: bool | None = Field(None, strict=True)


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
    "/organisations",
    status_code=201,
    response_model=OrganisationBody,
    responses=problems(401, _409="in_an_organisation", _422="invalid_organisation_name, …"),
)
async def create(
    body: OrganisationNameBody, actions: ServiceActions, caller: StillSignedIn, origin: FromWhere
) -> OrganisationBody:
    """Found an organisation, which you then own."""
    entered = await actions.create_organisation(
        body.name, by=caller.identity.user_id, origin=origin
    )
    return OrganisationBody.of(entered, Headcount(members=1, owners=1, seated=1))


@router.get("/organisations", response_model=Page[OrganisationBody], responses=problems(401))
async def list_own(actions: ServiceActions, caller: SignedIn) -> Page[OrganisationBody]:
    """List the organisations that you belong to: one at most."""
    found = await actions.show_organisation.of(caller.identity.user_id)
    return Page(data=[] if found is None else [OrganisationBody.of(*found)])


@router.get(
    "/organisations/{organisation_id}",
    response_model=OrganisationBody,
    responses=problems(401, _404="organisation_not_found"),
)
async def show(
    organisation_id: UUID, actions: ServiceActions, caller: SignedIn
) -> OrganisationBody:
    """Show your organisation."""
    return await _shown(OrganisationId(organisation_id), actions, caller.identity.user_id)


@router.patch(
    "/organisations/{organisation_id}",
    response_model=OrganisationBody,
    responses=problems(401, _403=_WRITE, _404="organisation_not_found"),
)
async def rename(
    organisation_id: UUID,
    body: OrganisationNameBody,
    actions: ServiceActions,
    caller: StillSignedIn,
    origin: FromWhere,
) -> OrganisationBody:
    """Give the organisation another name."""
    id_, user_id = OrganisationId(organisation_id), caller.identity.user_id
    await actions.rename_organisation(id_, body.name, by=user_id, origin=origin)
    return await _shown(id_, actions, user_id)


@router.delete(
    "/organisations/{organisation_id}",
    status_code=204,
    responses=problems(401, _403=_OWNERS, _404="organisation_not_found"),
)
async def delete(
    organisation_id: UUID, actions: ServiceActions, caller: FreshlyProven, origin: FromWhere
) -> None:
    """Dissolve the organisation; its members' accounts stay.

    Its owners, admins and billing members still read its invoices and charges, until their accounts
    are deleted.
    """
    await actions.delete_organisation(
        OrganisationId(organisation_id), by=caller.identity.user_id, origin=origin
    )


@router.get(
    "/organisations/{organisation_id}/members",
    response_model=Page[MemberBody],
    responses=problems(401, _403=_WRITE, _404="organisation_not_found"),
)
async def list_members(
    organisation_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[MemberBody]:
    """List the members, by when they joined."""
    after = read_cursor(cursor, moment_in_cursor, UUID) if cursor else None
    found = await actions.list_members(
        OrganisationId(organisation_id),
        by=caller.identity.user_id,
        after=(after[0], UserId(after[1])) if after else None,
        most=limit + 1,
    )
    return Page.of(
        [MemberBody.of(member) for member in found],
        limit,
        lambda last: cursor_of(last.joined_at.isoformat(), last.user_id),
    )


@router.patch(
    "/organisations/{organisation_id}/members/{user_id}",
    response_model=MemberBody,
    responses=problems(
        401,
        _403=_OWNERS,
        _404="organisation_not_found, member_not_found",
        _409="last_owner, no_seat_left",
    ),
)
async def change_member(
    organisation_id: UUID,
    user_id: UUID,
    body: MemberChangeBody,
    actions: ServiceActions,
    caller: StillSignedIn,
    origin: FromWhere,
) -> MemberBody:
    """Give a member another role, or give or take their seat."""
    member = await actions.change_member(
        OrganisationId(organisation_id),
        UserId(user_id),
        MemberChange(role=body.role, seated=body.seated),
        by=caller.identity.user_id,
        origin=origin,
        proof=partial(freshly_proven, caller),
    )
    return MemberBody.of(member)


@router.delete(
    "/organisations/{organisation_id}/members/{user_id}",
    status_code=204,
    responses=problems(
        401, _403=_OWNERS, _404="organisation_not_found, member_not_found", _409="last_owner"
    ),
)
async def remove_member(
    organisation_id: UUID,
    user_id: UUID,
    actions: ServiceActions,
    caller: StillSignedIn,
    origin: FromWhere,
) -> None:
    """Remove a member; with your own id: leave."""
    await actions.remove_member(
        OrganisationId(organisation_id),
        UserId(user_id),
        by=caller.identity.user_id,
        origin=origin,
        proof=partial(freshly_proven, caller),
    )


@router.post(
    "/organisations/{organisation_id}/invitations",
    status_code=201,
    response_model=InvitationBody,
    responses=problems(
        401,
        _403=f"{_OWNERS}, email_not_verified",
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
    responses=problems(401, _403=_WRITE, _404="organisation_not_found"),
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
    responses=problems(401, _403=_WRITE, _404="organisation_not_found, invitation_not_found"),
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


async def _shown(
    organisation_id: OrganisationId, actions: ServiceActions, user_id: UserId
) -> OrganisationBody:
    return OrganisationBody.of(*await actions.show_organisation(organisation_id, by=user_id))
