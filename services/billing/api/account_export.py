"""What auth collects for a user who asks for all their data; on the internal port only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from services.billing.api.billing_details import DetailsBody
from services.billing.api.corrections import DeltasBody, deltas_body
from services.billing.api.dependencies import ServiceActions
from services.billing.api.invoice_body import CreditNoteBody, InvoiceBody
from services.billing.api.payments import ChargeBody
from services.billing.api.record_body import RecordBody
from services.billing.api.staff_looks import LookBody
from services.billing.api.subscription import SubscriptionBody
from services.billing.api.webhooks import WebhookBody
from services.billing.domain.correction import Correction
from services.billing.domain.outside_usage import HeldEvent
from services.billing.domain.payment import Payment
from shared.http.caller import OnlyFrom
from shared.http.dollars import DollarsBeside
from shared.http.export import json_answer, pages_of
from shared.http.problems import problems
from shared.ids import UserId
from shared.money import dollars_text

router = APIRouter(prefix="/internal", tags=["export"])


class PaymentRecordBody(DollarsBeside):
    """What was asked for, paid or given back, and what the billing team says of it."""

    id: UUID
    kind: str
    state: str
    provider: str
    amount_microusd: int
    tier: str | None
    seats: int | None
    reference: str | None
    note: str | None
    created_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, payment: Payment) -> PaymentRecordBody:
        return cls(
            id=payment.id,
            kind=payment.kind.value,
            state=payment.state.value,
            provider=payment.provider,
            amount_microusd=payment.amount_microusd,
            tier=payment.tier_name,
            seats=payment.seats,
            reference=payment.reference,
            note=payment.note,
            created_at=payment.created_at,
            settled_at=payment.settled_at,
        )


class UsageCorrectionBody(BaseModel):
    """What was said of a call later, as signed numbers that are added to its own."""

    id: UUID
    event_id: UUID
    kind: str
    requests: int
    deltas: DeltasBody
    reason: str
    made_at: datetime

    @classmethod
    def of(cls, correction: Correction) -> UsageCorrectionBody:
        return cls(
            id=correction.id,
            event_id=correction.event_id,
            kind=correction.kind,
            requests=correction.requests,
            deltas=deltas_body(correction.deltas),
            reason=correction.reason,
            made_at=correction.made_at,
        )


class HeldUsageBody(BaseModel):
    """What a service outside told that could not be counted as it was, why, and as what it was
    told."""

    source: str
    id: str
    code: str
    occurred_at: datetime
    held_at: datetime
    event: dict[str, Any]

    @classmethod
    def of(cls, held: HeldEvent) -> HeldUsageBody:
        return cls(
            source=held.source,
            id=held.external_id,
            code=held.code,
            occurred_at=held.occurred_at,
            held_at=held.held_at,
            event=dict(held.body),
        )


@router.get(
    "/users/{user_id}/export", response_class=StreamingResponse, responses=problems(401, 403)
)
async def export(
    user_id: UUID, actions: ServiceActions, _auth: Annotated[str, Depends(OnlyFrom("auth"))]
) -> StreamingResponse:
    """All that is kept of a user: their subscription, its changes, whom invoices are made out to,
    their charges, payments, invoices and credit notes, when the billing team looked, webhooks and
    alerts, every paid call, what was corrected of it, and what services outside told that could not
    be counted. `archived_requests` calls lie in the
    operator's archive."""
    user, export_user = UserId(user_id), actions.export_user
    present = SubscriptionBody.of(await export_user.subscription(user))
    changes = [SubscriptionBody.of(change) for change in await export_user.changes(user)]
    details = await export_user.details(user)
    alerts = list(await export_user.spend_alerts(user))
    return await json_answer(
        {
            "subscription": present.model_dump(mode="json"),
            "subscription_changes": [change.model_dump(mode="json") for change in changes],
            "billing_details": DetailsBody.of(details).model_dump() if details else None,
            "charges": pages_of(export_user.charges(user), ChargeBody.of_charge),
            "payments": pages_of(export_user.payments(user), PaymentRecordBody.of),
            "invoices": pages_of(export_user.invoices(user), lambda pair: InvoiceBody.of(*pair)),
            "credit_notes": pages_of(export_user.credit_notes(user), CreditNoteBody.of),
            "webhooks": [
                WebhookBody.of(endpoint).model_dump(mode="json")
                for endpoint in await export_user.webhooks(user)
            ],
            "staff_looks": pages_of(export_user.staff_looks(user), LookBody.of),
            "spend_alerts_microusd": alerts,
            "spend_alerts_usd": [dollars_text(alert) for alert in alerts],
            "archived_requests": await export_user.archived(user),
            "usage_records": pages_of(export_user.records(user), RecordBody.of),
            "usage_corrections": pages_of(export_user.corrections(user), UsageCorrectionBody.of),
            "held_usage": pages_of(export_user.held(user), HeldUsageBody.of),
        }
    )
