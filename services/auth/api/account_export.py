"""Everything that the suite keeps about the caller, as one file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Self
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from services.auth.actions import Actions
from services.auth.api.accounts import UserBody
from services.auth.api.audit import AuditEntryBody, OrganisationEntryBody
from services.auth.api.dependencies import ServiceActions
from services.auth.api.invitations import InvitationBody
from services.auth.api.mfa import SecondFactorBody
from services.auth.api.organisations import OrganisationBody
from services.auth.api.personal_tokens import PersonalTokenBody
from services.auth.api.sign_ins import SignInBody
from services.auth.domain.audit import AuditEntry
from services.auth.domain.organisation import Entered, Headcount, Invitation
from services.auth.domain.personal_token import PersonalToken
from services.auth.domain.sign_in import SignIn
from services.auth.domain.user import User
from shared.http.caller import Caller, FreshlyProven
from shared.http.export import json_pieces, pages_of
from shared.http.head import is_head_alone
from shared.http.problems import problems

router = APIRouter(prefix="/auth", tags=["export"])


class KeptAccountBody(UserBody):
    """The account, with what its owner is not shown elsewhere."""

    last_signed_in_at: datetime | None
    password_changed_at: datetime

    @classmethod
    def of(cls, user: User) -> Self:
        return cls(
            **UserBody.of(user).model_dump(),
            last_signed_in_at=user.last_signed_in_at,
            password_changed_at=user.password_changed_at,
        )


class KeptOrganisationBody(OrganisationBody):
    """The organisation, and since when the caller belongs to it and sits there."""

    joined_at: datetime
    seated_at: datetime | None

    @classmethod
    def of(cls, entered: Entered, count: Headcount) -> Self:
        return cls(
            **OrganisationBody.of(entered, count).model_dump(),
            joined_at=entered.actor.joined_at,
            seated_at=entered.actor.seated_at,
        )


class KeptSignInBody(SignInBody):
    """A sign-in, which may be over, and how and for what it was begun."""

    ended_at: datetime | None
    authenticated_at: datetime
    methods: list[str]
    client_id: str | None
    scopes: list[str] | None

    @classmethod
    def of(cls, sign_in: SignIn, *, current: UUID) -> Self:
        return cls(
            **SignInBody.of(sign_in, current=current).model_dump(),
            ended_at=sign_in.ended_at,
            authenticated_at=sign_in.authenticated_at,
            methods=sorted(sign_in.methods),
            client_id=sign_in.client_id,
            scopes=None if sign_in.scopes is None else sorted(sign_in.scopes),
        )


class KeptTokenBody(PersonalTokenBody):
    """A personal token, which may be over."""

    revoked_at: datetime | None

    @classmethod
    def of(cls, token: PersonalToken) -> Self:
        return cls(**PersonalTokenBody.of(token).model_dump(), revoked_at=token.revoked_at)


class KeptInvitationBody(InvitationBody):
    """An invitation, and what became of it."""

    accepted_at: datetime | None
    withdrawn_at: datetime | None

    @classmethod
    def of(cls, invitation: Invitation) -> Self:
        return cls(
            **InvitationBody.of(invitation).model_dump(),
            accepted_at=invitation.accepted_at,
            withdrawn_at=invitation.withdrawn_at,
        )


class ActBody(OrganisationEntryBody):
    """What the caller did that concerned somebody else, or nobody alone, and from where."""

    organisation: UUID | None
    device: str | None
    address: str | None

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        where = entry.origin_for(entry.actor_id)
        return cls(
            **OrganisationEntryBody.of(entry).model_dump(),
            organisation=entry.organisation_id,
            device=where.device if where else None,
            address=where.address if where else None,
        )


@router.get(
    "/me/export",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/json": {}}, "description": "One JSON document."},
        **problems(401, _403="step_up_required", _503="export_unavailable, too_many_exports"),
    },
)
async def export(
    request: Request, actions: ServiceActions, caller: FreshlyProven
) -> StreamingResponse:
    """Download all that is kept about the caller. No key, password or token is in it."""
    if is_head_alone(request.scope):
        # Nothing is collected, and none is noted: whether all services are there is not known.
        return _file(_nothing())
    collected = await actions.export_account(caller.identity.user_id, _own_part(actions, caller))
    return _file(collected.chunks())


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


def _file(chunks: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(
        chunks,
        media_type="application/json",
        headers={
            "content-disposition": 'attachment; filename="tooltip-companion.json"',
            "cache-control": "no-store",
        },
    )


async def _own_part(actions: Actions, caller: Caller) -> AsyncIterator[bytes]:
    user_id, export_account = caller.identity.user_id, actions.export_account
    account = KeptAccountBody.of(await actions.show_account(user_id))
    organisation = await actions.show_organisation.of(user_id)

    second_factor = SecondFactorBody.of(await actions.show_second_factor(user_id))
    pending = await export_account.pending_address(user_id)

    def sign_in_body(sign_in: SignIn) -> KeptSignInBody:
        return KeptSignInBody.of(sign_in, current=caller.identity.sign_in_id)

    document = {
        "account": account.model_dump(mode="json"),
        "organisation": (
            KeptOrganisationBody.of(*organisation).model_dump(mode="json") if organisation else None
        ),
        "sessions": pages_of(export_account.sign_ins(user_id), sign_in_body),
        "personal_tokens": pages_of(export_account.personal_tokens(user_id), KeptTokenBody.of),
        "second_factor": second_factor.model_dump(mode="json"),
        "pending_email": pending.text if pending else None,
        "invitations": pages_of(export_account.invitations(user_id), KeptInvitationBody.of),
        "audit": pages_of(export_account.trail(user_id), AuditEntryBody.of),
        "acts": pages_of(export_account.acts(user_id), ActBody.of),
    }
    async for piece in json_pieces(document):
        yield piece
