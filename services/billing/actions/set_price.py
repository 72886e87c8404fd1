"""The operator's own price of a model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.billing.domain.errors import PriceExists
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import Model, PriceId, PriceOverride, UnitPrices
from shared.clock import Clock
from shared.ids import UserId, uuid7
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class SetPrice:
    """Add a price that holds from a moment on, past or future.

    It rates what was used since then, whether it comes or waits for a price; a rating that was
    given stays, and with `rerate` gets a correction that makes the difference. Without
    `effective_from` that moment is now, and what waits goes on waiting. Raises PriceNotAcceptable
    or PriceExists.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self,
        model: Model,
        prices: UnitPrices,
        *,
        effective_from: datetime | None,
        by: UserId,
        rerate: bool = False,
    ) -> PriceOverride:
        now = self.clock.now()
        price = PriceOverride.set(
            PriceId(uuid7()), model, prices, effective_from=effective_from or now, by=by, at=now
        )
        async with self.unit_of_work() as work:
            if not await work.prices.add(price):
                raise PriceExists(*model, price.effective_from)
            if rerate:
                await work.effects.ask_rerating(price)
        return price


@dataclass(frozen=True, slots=True)
class ListPriceOverrides:
    """The operator's own prices, the one that was set last first."""

    unit_of_work: NewUnitOfWork

    async def __call__(
        self, provider: str | None, model: str | None, *, before: PriceId | None, most: int
    ) -> Sequence[PriceOverride]:
        """Of a vendor, of a model, or all."""
        async with self.unit_of_work() as work:
            return await work.prices.listed(provider, model, before=before, most=most)
