"""Rating anew what was rated by another price: by a correction, since a rating stands."""

from __future__ import annotations

from datetime import datetime

from services.billing.domain.correction import Corrected, Correction, Deltas, Occasion
from services.billing.domain.ledger import Counts
from services.billing.domain.price_book import PriceOverride
from shared.ids import EventId, UserId
from shared.values import dataclass

_MOST_COST = 2**63
RATED_ANEW = "rated anew by "
_ME = "billing"


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
        return RATED_ANEW + self.price.version

    def correction_of(self, corrected: Corrected, occasion: Occasion) -> Correction | None:
        """What makes the entry cost what it does by the new price, with what was given or taken
        beside the ratings; None where nothing differs, where it was voided, and where the price
        lacks a class that was used."""
        if corrected.is_voided or corrected.entry.rating is None:
            return None
        standing = corrected.standing
        rating = self.price.rate(_counts(standing, corrected.entry.counts.units))
        if rating is None:
            return None
        cost = max(0, rating.cost + _given(corrected))
        if cost == standing.cost_microusd or cost >= _MOST_COST:
            return None
        return corrected.adjusted(Deltas(cost_microusd=cost - standing.cost_microusd), occasion)


@dataclass(frozen=True, slots=True)
class ReratingProgress:
    """How far a price that was set for what was rated already has been applied: `corrected` entries
    had another cost, `left` are not looked at yet."""

    price: PriceOverride
    asked_by: UserId
    asked_at: datetime
    corrected: int
    left: int


def _given(corrected: Corrected) -> int:
    """What corrections of the cost alone come to: no price takes them back. One of the counts has
    the cost of these counts."""
    return sum(
        one.deltas.cost_microusd
        for one in corrected.corrections
        if not any(one.deltas.values[:-1])
        and not (one.source == _ME and one.reason.startswith(RATED_ANEW))
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
