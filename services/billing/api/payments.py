"""What was charged, the payment provider's pages, and its webhook."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from services.billing.api.dependencies import Cursor, Payer, ServiceActions
from services.billing.api.subscription import ForWhom, LineBody, fields_of_line, holder_of
from services.billing.domain.charge import Charge, ChargeId
from services.billing.domain.errors import BadWebhookSignature
from shared.http.caller import SignedIn
from shared.http.errors import problem_of, problem_response
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems

router = APIRouter(prefix="/billing", tags=["subscription"])


class ChargeBody(LineBody):
    """A charge as it stands in the books, where it is never changed."""

    id: UUID
    organisation_id: UUID | None
    revision: int
    charged_at: datetime

    @classmethod
    def of_charge(cls, charge: Charge) -> ChargeBody:
        return cls(
            **fields_of_line(charge),
            id=charge.id,
            organisation_id=charge.holder if charge.is_organisation else None,
            revision=charge.revision,
            charged_at=charge.charged_at,
        )


class PortalBody(BaseModel):
    """A page of the payment provider's, for who asked and for a short time."""

    url: str


class ReceivedBody(BaseModel):
    """The event has arrived."""

    received: bool = True


@router.get(
    "/charges",
    responses=problems(
        401, _403="organisation_billing_required", _404="subscription_not_found", _422="bad_cursor"
    ),
)
async def list_charges(
    actions: ServiceActions,
    caller: SignedIn,
    organisation_id: Annotated[UUID | None, Query(description="Yours, to see its own.")] = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[ChargeBody]:
    """What was charged to you or to your organisation, the newest first."""
    after = ChargeId(read_cursor(cursor, UUID)[0]) if cursor else None
    found = await actions.list_charges(
        holder_of(caller, organisation_id),
        by=caller.identity.user_id,
        after=after,
        most=limit + 1,
    )
    page = Page.of(found, limit, lambda charge: cursor_of(charge.id))
    return page.as_bodies(ChargeBody.of_charge)


@router.post(
    "/subscription/portal",
    responses=problems(
        401,
        422,
        _403="organisation_billing_required, scope_missing",
        _404="subscription_not_found",
        _409="no_payment_portal",
        _503="dependency_unavailable, payments_unavailable",
    ),
)
async def open_portal(
    actions: ServiceActions, caller: Payer, whom: ForWhom | None = None
) -> PortalBody:
    """Where to change a card, see receipts, or cancel."""
    holder = holder_of(caller, whom.organisation_id if whom else None)
    return PortalBody(url=await actions.open_portal(holder, by=caller.identity.user_id))


@router.post(
    "/stripe/webhook",
    response_model=ReceivedBody,
    responses=problems(_400="bad_webhook_signature", _404="webhooks_not_offered"),
)
async def receive_stripe_webhook(
    request: Request, actions: ServiceActions
) -> ReceivedBody | Response:
    """Stripe's events, signed. No token: the signature over the bytes says who sent them."""
    # Two fields are none: Stripe sends one, and it must be clear which was checked.
    signatures = request.headers.getlist("stripe-signature")
    signature = signatures[0] if len(signatures) == 1 else None
    try:
        await actions.receive_payment_delivery(await request.body(), signature)
    except BadWebhookSignature as failure:
        _status, document, headers = problem_of(failure)
        return problem_response(400, {**document, "status": 400}, headers)
    return ReceivedBody()
