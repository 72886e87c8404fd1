"""What a price would change, before it is set."""

from __future__ import annotations

from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class PriceEffect:
    """The entries of one tier that a price would hold for.

    Those that wait are rated by it as soon as it is set. Ratings that were given stand: their
    difference is what a correction would come to.
    """

    tier: str
    waiting: int
    waiting_cost: int
    still_waiting: int
    rated: int
    cost_now: int
    cost_then: int
    not_priced_then: int  # rated now, with a class that the new price lacks

    @property
    def difference(self) -> int:
        return self.cost_then - self.cost_now
