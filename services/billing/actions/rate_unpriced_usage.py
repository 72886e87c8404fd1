"""Prices that appear later rate what waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import field
from datetime import datetime, timedelta

from services.billing.actions._pace import WITHIN, Rhythm
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import ListPrices, Model, PriceBook, PriceOverride
from shared.clock import Clock
from shared.values import dataclass

PAGE = 500


@dataclass(frozen=True, slots=True)
class RateUnpricedUsage:
    """Rate entries of unknown price by the prices there are now; the others go on waiting.

    A page in a transaction of its own, of each model in its turn, so that none keeps the others
    waiting: the next run goes on where this one stops.
    """

    unit_of_work: NewUnitOfWork
    list_prices: ListPrices
    clock: Clock
    rhythm: Rhythm = field(default_factory=Rhythm)

    async def __call__(self, *, within: timedelta = WITHIN) -> int:
        """Goes on for some time while there is something left; answers how many entries got their
        rating."""
        rated, pace = 0, self.rhythm.begin(within)
        waiting = deque(await self._waiting_models())
        while waiting:
            model = waiting.popleft()
            found, priced = await self._rate_page(model)
            rated += priced
            if found == PAGE:
                waiting.append(model)
            if not await pace.goes_on():
                break
        return rated

    async def _waiting_models(self) -> list[Model]:
        async with self.unit_of_work() as work:
            models = [model for model, _ in await work.unpriced.models(of_sandbox=True)]
            overridden = {(o.provider, o.model) for o in await work.prices.of(models)}
        now = self.clock.now()
        return [m for m in models if m in overridden or self.list_prices.knows(m, now)]

    async def _rate_page(self, model: Model) -> tuple[int, int]:
        """How many entries were looked at, and how many of them now have a rating."""
        async with self.unit_of_work() as work:
            overrides = await work.prices.of([model])
            since = self._earliest(model, overrides)
            waiting = await work.unpriced.page(model, since=since, most=PAGE)
            book = PriceBook.of(self.list_prices, overrides)
            rated = [entry.rated(book.rate(entry)) for entry in waiting]
            priced = [entry for entry in rated if entry.rating is not None]
            await work.unpriced.rate(priced)
        return len(waiting), len(priced)

    def _earliest(self, model: Model, overrides: Sequence[PriceOverride]) -> datetime | None:
        """Since when there may be a price; None for always."""
        if not overrides or self.list_prices.knows(model, self.clock.now()):
            return None
        return min(override.effective_from for override in overrides)
