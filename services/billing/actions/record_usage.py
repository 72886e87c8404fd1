"""A batch of usage into the ledger, each event once."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.ledger import Entry
from services.billing.domain.ports import NewUnitOfWork, RecordedBefore, UnitOfWork
from services.billing.domain.price_book import ListPrices, PriceBook
from services.billing.domain.usage_columns import UsageColumns
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class RecordUsage:
    """Rate usage and write it down, whole batches at a time.

    An event that came before changes nothing: only what was really added is noted, and counted in
    its hour once it gets its link. Raises UsageNotAcceptable for an event that can't stand in the
    ledger.
    """

    unit_of_work: NewUnitOfWork
    list_prices: ListPrices

    async def __call__(self, facts: Sequence[Fact[UsageRecorded]]) -> int:
        """Answers how many of them were new."""
        entries = [Entry.reported(fact) for fact in facts]
        models = {(entry.provider, entry.model) for entry in entries}
        async with self.unit_of_work() as work:
            book = PriceBook.of(self.list_prices, await work.prices.of(models))
            return await work.ledger.record([entry.rated(book.rate(entry)) for entry in entries])

    async def together(self, usage: UsageColumns) -> int:
        """The same for usage that can stand in the ledger as it is."""
        try:
            async with self.unit_of_work() as work:
                return await work.ledger.add_columns(await self._rated(usage, work))
        except RecordedBefore:
            # A batch that comes again, which is rare.
            async with self.unit_of_work() as work:
                return await work.ledger.record_columns(await self._rated(usage, work))

    async def _rated(self, usage: UsageColumns, work: UnitOfWork) -> UsageColumns:
        overrides = await work.prices.of(usage.models)
        return usage.rated(PriceBook.of(self.list_prices, overrides))
