"""Why a call costs what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.correction import Corrected
from services.billing.domain.errors import UsageRecordNotFound
from services.billing.domain.invoice_ports import InvoicedAs
from services.billing.domain.ledger import Entry
from services.billing.domain.ports import NewUnitOfWork
from shared.ids import EventId, UserId
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class ExplainUsage:
    """One entry with all there is to know about it. `by` None: the billing team, which sees all.

    Raises UsageRecordNotFound, also for an entry of somebody else.
    """

    unit_of_work: NewUnitOfWork

    async def __call__(self, event_id: EventId, *, by: UserId | None) -> Entry:
        async with self.unit_of_work() as work:
            entry = await work.ledger.get(event_id)
        if entry is None or by not in (None, entry.user_id):
            raise UsageRecordNotFound(event_id)
        return entry

    async def with_corrections(self, event_id: EventId, *, by: UserId | None) -> Corrected:
        """The same with all that was said about it later."""
        entry = await self(event_id, by=by)
        async with self.unit_of_work() as work:
            return Corrected(entry, await work.corrections.of(event_id))

    async def invoiced_as(self, corrected: Corrected) -> Sequence[InvoicedAs]:
        """Where it and its corrections stand on invoices; nowhere before its month is invoiced."""
        ids = [corrected.entry.event_id, *(one.id for one in corrected.corrections)]
        async with self.unit_of_work() as work:
            return await work.invoices.invoiced_as(ids)
