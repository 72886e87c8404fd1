"""See what a price would change before it is set."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import Model, PriceId, PriceOverride, UnitPrices
from services.billing.domain.price_preview import PriceEffect
from shared.clock import Clock
from shared.ids import UserId, uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class PreviewPrice:
    """The same price and the same ledger give the same answer; nothing is written.

    Raises PriceNotAcceptable.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, model: Model, prices: UnitPrices, *, effective_from: datetime | None, by: UserId
    ) -> Sequence[PriceEffect]:
        now = self.clock.now()
        price = PriceOverride.set(
            PriceId(uuid7()), model, prices, effective_from=effective_from or now, by=by, at=now
        )
        async with self.unit_of_work() as work:
            return await work.effects.of(price)
