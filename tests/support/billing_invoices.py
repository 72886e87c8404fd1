"""A holder's month for invoices: charges, usage, corrections, and months that are closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.billing.actions import Actions
from services.billing.domain.charge import Charge, ChargeId, ChargeKind
from services.billing.domain.closing import Month
from services.billing.domain.correction import Deltas
from services.billing.domain.invoice import Invoice
from services.billing.domain.invoicing import Run
from services.billing.domain.ledger import Rating
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.usage_fee import UsageFee
from shared.db.database import Database
from shared.ids import EventId, UserId, uuid7
from shared.money import MicroDollars
from tests.support.billing import a_usage, id_made_at

STAFF = UserId(UUID("0198c0de-0000-7000-8000-0000000000ff"))
REASON = "Made up for a test, with nothing behind it."
A_WHILE = timedelta(minutes=5)


def a_charge(holder: UUID, amount: int, *, at: datetime, **facts: Any) -> Charge:
    """A charge of a plan's period that begins at that moment."""
    return Charge(
        **{
            "id": ChargeId(uuid7()),
            "holder": UserId(holder),
            "is_organisation": False,
            "kind": ChargeKind.PERIOD_FEE if amount >= 0 else ChargeKind.PRORATION_CREDIT,
            "tier_name": "pro",
            "seats": 1,
            "unit_price_microusd": abs(amount),
            "price_version": "tiers/1",
            "begins": at,
            "ends": at + timedelta(days=30),
            "amount_microusd": amount,
            "effect_key": f"test/{uuid4()}",
            "revision": 1,
            "charged_at": at,
            **facts,
        }
    )


@dataclass
class Books:
    """Billing with its ledger, as its invoices see it."""

    actions: Actions
    work: NewUnitOfWork

    async def charge(self, *charges: Charge) -> None:
        async with self.work() as work:
            await work.charges.add(charges)

    async def use(self, user: UUID, *, at: datetime, **facts: Any) -> EventId:
        usage = a_usage(user=user, at=at, id_=facts.pop("id_", None) or id_made_at(at), **facts)
        assert await self.actions.record_usage([usage]) == 1
        return usage.id

    async def price(self, event_id: EventId, cost: int) -> None:
        """What had no price has one now."""
        async with self.work() as work:
            entry = await work.ledger.get(event_id)
            assert entry is not None
            await work.unpriced.rate([entry.rated(Rating(MicroDollars(cost), "test/1"))])

    async def adjust(self, event_id: EventId, cost: int) -> None:
        deltas = Deltas(cost_microusd=cost)
        await self.actions.correct_usage(event_id, deltas, reason=REASON, by=STAFF)

    async def void(self, event_id: EventId) -> None:
        await self.actions.correct_usage(event_id, None, reason=REASON, by=STAFF)

    async def fee(self, tier: str, basis_points: int, *, since: datetime) -> None:
        async with self.work() as work:
            await work.usage_fees.add(UsageFee(tier, since, basis_points, STAFF, since))

    async def close(self, month: Month) -> None:
        await self.actions.close_period(month, by=STAFF, reason=REASON)

    async def run(self, month: Month) -> Run:
        return await self.actions.make_invoices(month, by=STAFF, within=A_WHILE)

    async def close_and_run(self, month: Month) -> Run:
        await self.close(month)
        return await self.run(month)

    async def invoices_of(self, holder: UUID) -> Sequence[Invoice]:
        """The oldest first."""
        async with self.work() as work:
            heads = await work.invoices.heads(holder=UserId(holder), most=1000)
            found = [await work.invoices.get(head.id) for head in reversed(heads)]
        return [invoice for invoice in found if invoice is not None]

    async def invoice_of(self, holder: UUID) -> Invoice:
        [invoice] = await self.invoices_of(holder)
        return invoice


async def settle(actions: Actions, database: Database) -> None:
    """All that there is stands on an invoice, and in the analytics."""
    await actions.derive_activity()
    await database.execute(
        "insert into invoice_item (source_id, aspect, line_id, holder_id, unpriced)"
        " select event_id, 'usage', gen_random_uuid(), user_id, cost_microusd is null"
        " from ledger_entry where not sandbox"
        " union all select id, 'correction', gen_random_uuid(), user_id, false"
        " from ledger_correction where not sandbox on conflict do nothing"
    )
