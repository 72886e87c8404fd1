"""The vendors' public prices behind billing's port."""

from __future__ import annotations

from datetime import datetime

from services.billing.domain.ledger import Counts, Entry, Rating
from services.billing.domain.price_book import Model, Tariff
from shared.pricing import price, rates_of

_NOTHING = Counts()


class PublicPrices:
    """Prices by `shared.pricing`; reaches no network."""

    def rate(self, entry: Entry) -> Rating | None:
        priced = price(
            entry.provider,
            entry.model,
            entry.counts,
            entry.occurred_at,
            entry.service_tier,
            characters=entry.counts.characters,
        )
        return None if priced is None else Rating(priced.cost, priced.version)

    def tariff(self, model: Model, service_tier: str | None, at: datetime) -> Tariff | None:
        return rates_of(*model, at, service_tier)

    def knows(self, model: Model, at: datetime) -> bool:
        return price(*model, _NOTHING, at) is not None
