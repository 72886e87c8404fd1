"""Organisations, their members and seats. `invitations.py` has the ways into them."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from services.auth.actions.change_member import MemberChange
from services.auth.api.dependencies import ServiceActions
from services.auth.api.origin import FromWhere
from services.auth.domain.membership import OrganisationRole
from services.auth.domain.organisation import (
    LONGEST_ORGANISATION_NAME,
    Entered,
    Headcount,
    Member,
    OrganisationId,
)
from shared.http.caller import FreshlyProven, SignedIn, StillSignedIn, freshly_proven
from shared.http.pages import Page, cursor_of, moment_in_cursor, read_cursor
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/auth", tags=["organisations"])

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=200, description="The last page's `next_cursor`.")]
ROLE_REQUIRED = "organisation_role_required"
ROLE_AND_PROOF = f"{ROLE_REQUIRED}, step_up_required"


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
    responses=problems(401, _403=ROLE_REQUIRED, _404="organisation_not_found"),
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
    responses=problems(401, _403=ROLE_AND_PROOF, _404="organisation_not_found"),
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
    responses=problems(401, _403=ROLE_REQUIRED, _404="organisation_not_found"),
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
        _403=ROLE_AND_PROOF,
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
        401, _403=ROLE_AND_PROOF, _404="organisation_not_found, member_not_found", _409="last_owner"
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


async def _shown(
    organisation_id: OrganisationId, actions: ServiceActions, user_id: UserId
) -> OrganisationBody:
    return OrganisationBody.of(*await actions.show_organisation(organisation_id, by=user_id))
