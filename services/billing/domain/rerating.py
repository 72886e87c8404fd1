"""Rating anew what was rated by another price: by a correction, since a rating stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.billing.domain.correction import Corrected, Correction, Deltas, Occasion
from services.billing.domain.ledger import Counts
from services.billing.domain.price_book import PriceOverride
from shared.ids import EventId, UserId

_MOST_COST = 2**63


@dataclass(frozen=True, slots=True)
class Rerating:
    """A price that somebody wants to hold for what was rated already; goes on `after` an entry."""

    price: PriceOverride
    asked_by: UserId
    asked_at: datetime
    after: EventId
    corrected: int = 0

    @property
    def reason(self) -> str:
        return f"rated anew by {self.price.version}"

    def correction_of(self, corrected: Corrected, occasion: Occasion) -> Correction | None:
        """What makes the entry cost what it does by the new price; None where nothing differs,
        where it was voided, and where the price lacks a class that was used."""
        if corrected.is_voided or corrected.entry.rating is None:
            return None
        standing = corrected.standing
        rating = self.price.rate(_counts(standing, corrected.entry.counts.units))
        if rating is None or rating.cost == standing.cost_microusd or rating.cost >= _MOST_COST:
            return None
        return corrected.adjusted(
            Deltas(cost_microusd=rating.cost - standing.cost_microusd), occasion
        )


def _counts(standing: Deltas, units: int) -> Counts:
    return Counts(
        standing.input_tokens,
        standing.cache_read_tokens,
        standing.cache_write_tokens,
        standing.output_tokens,
        standing.output_reasoning_tokens,
        standing.characters,
        units,
    )
