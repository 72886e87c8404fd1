"""Everything that the suite keeps about the caller, as one file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self
from uuid import UUID

from fastapi import APIRouter
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
from shared.http.caller import Caller, FreshlyProven
from shared.http.export import json_pieces, pages_of
from shared.http.problems import problems

router = APIRouter(prefix="/auth", tags=["export"])


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
async def export(actions: ServiceActions, caller: FreshlyProven) -> StreamingResponse:
    """Download all that is kept about the caller. No key, password or token is in it."""
    collected = await actions.export_account(caller.identity.user_id, _own_part(actions, caller))
    return StreamingResponse(
        collected.chunks(),
        media_type="application/json",
        headers={
            "content-disposition": 'attachment; filename="tooltip-companion.json"',
            "cache-control": "no-store",
        },
    )


async def _own_part(actions: Actions, caller: Caller) -> AsyncIterator[bytes]:
    user_id, export_account = caller.identity.user_id, actions.export_account
    account = UserBody.of(await actions.show_account(user_id))
    organisation = await actions.show_organisation.of(user_id)

    second_factor = SecondFactorBody.of(await actions.show_second_factor(user_id))
    pending = await export_account.pending_address(user_id)

    def sign_in_body(sign_in: Any) -> SignInBody:
        return SignInBody.of(sign_in, current=caller.identity.sign_in_id)

    document = {
        "account": account.model_dump(mode="json"),
        "organisation": (
            OrganisationBody.of(*organisation).model_dump(mode="json") if organisation else None
        ),
        "sessions": pages_of(export_account.sign_ins(user_id), sign_in_body),
        "personal_tokens": pages_of(export_account.personal_tokens(user_id), PersonalTokenBody.of),
        "second_factor": second_factor.model_dump(mode="json"),
        "pending_email": pending.text if pending else None,
        "invitations": pages_of(export_account.invitations(user_id), InvitationBody.of),
        "audit": pages_of(export_account.trail(user_id), AuditEntryBody.of),
        "acts": pages_of(export_account.acts(user_id), ActBody.of),
    }
    async for piece in json_pieces(document):
        yield piece
