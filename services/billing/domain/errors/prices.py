"""Prices of usage and of plans."""

from __future__ import annotations

from datetime import datetime

from shared.errors import Conflict, Invalid


class PriceNotAcceptable(Invalid):
    """A price that prices nothing."""

    code = "price_not_acceptable"

    def __init__(self) -> None:
        super().__init__("Give at least one price.")


class PriceExists(Conflict):
    """Prices are never changed: a correction is a new one, with a later time of effect."""

    code = "price_exists"

    def __init__(self, provider: str, model: str, effective_from: datetime) -> None:
        super().__init__(
            "This model already has a price from that moment on.",
            provider=provider,
            model=model,
            effective_from=effective_from,
        )


class PlanPriceExists(Conflict):
    """Prices are never changed: a correction is a new one, with a later time of effect."""

    code = "plan_price_exists"

    def __init__(self, tier: str, effective_from: datetime) -> None:
        super().__init__(
            "This tier already has a price from that moment on.",
            tier=tier,
            effective_from=effective_from,
        )


class DefaultPlanIsFree(Invalid):
    """Everybody has it who never chose: nobody would be asked for the price."""

    code = "default_plan_is_free"

    def __init__(self, tier_name: str) -> None:
        super().__init__("The tier that everybody begins with costs nothing.", tier=tier_name)


class EffectiveFromPast(Invalid):
    """What is over was charged by the terms of its time."""

    code = "effective_from_past"

    def __init__(self, effective_from: datetime) -> None:
        super().__init__(
            "`effective_from` lies in the past. Leave it out for what holds from now on.",
            effective_from=effective_from,
        )


class UsageFeeExists(Conflict):
    """Fees are never changed: a correction is a new one, with a later time of effect."""

    code = "usage_fee_exists"

    def __init__(self, tier: str, effective_from: datetime) -> None:
        super().__init__(
            "This tier already has a fee from that moment on.",
            tier=tier,
            effective_from=effective_from,
        )


class UsageFeeNotForSeats(Invalid):
    """Who sits on somebody else's seat would be sent the invoice for its usage."""

    code = "usage_fee_not_for_seats"

    def __init__(self, tier_name: str) -> None:
        super().__init__("A tier that is sold by the seat has no fee for usage.", tier=tier_name)
