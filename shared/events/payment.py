"""`payment.*`: what is to be paid for a subscription. Published by billing."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from shared.events.base import Event


class PaymentDue(Event):
    """A new period has begun, and somebody has to pay for it by hand: told once for each sum.

    `holder_id` is an organisation's where `is_organisation`. `amount_microusd` is before tax.
    `holds_until`: when the tier ends without the payment.
    """

    type = "payment.due"

    holder_id: UUID
    is_organisation: bool
    tier_name: str
    amount_microusd: int = Field(ge=1)
    holds_until: datetime | None = None


class PaymentOverdue(Event):
    """What was due has not come, or could not be collected; the tier holds for a while."""

    type = "payment.overdue"

    holder_id: UUID
    is_organisation: bool
    tier_name: str
    amount_microusd: int = Field(ge=0)
    holds_until: datetime | None = None
