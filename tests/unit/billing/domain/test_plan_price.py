"""What a seat costs at a moment, and which prices and fees an operator may set."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from services.billing.domain.errors import DefaultPlanIsFree, UnknownTier, UsageFeeNotForSeats
from services.billing.domain.plan_price import PlanPrice, PlanPrices, UnitPrice
from services.billing.domain.price_preview import PriceEffect
from services.billing.domain.usage_fee import UsageFee
from shared.ids import UserId
from tests.support.billing import NOON

STAFF = UserId(uuid4())
DAY, MOMENT = timedelta(days=1), timedelta(microseconds=1)


def price(tier: str, microusd: int, days: int = 0) -> PlanPrice:
    return PlanPrice.set(tier, microusd, effective_from=NOON + days * DAY, by=STAFF, at=NOON - DAY)


def test_a_price_holds_from_its_moment_until_the_next_one_of_its_tier() -> None:
    first, second = price("pro", 10_000_000), price("pro", 12_000_000, days=2)
    other = price("enterprise", 20_000_000, days=1)
    prices = PlanPrices.of([first, second, other])
    assert prices.at("pro", NOON - MOMENT) == UnitPrice(9_000_000, "tiers/9000000")
    assert prices.at("pro", NOON) == first.unit
    assert prices.at("pro", NOON + 2 * DAY - MOMENT) == first.unit
    assert prices.at("pro", NOON + 2 * DAY) == second.unit
    assert prices.at("enterprise", NOON) == UnitPrice(15_000_000, "tiers/15000000")
    assert prices.at("enterprise", NOON + 9 * DAY) == other.unit


def test_a_price_says_what_it_is_and_who_set_it() -> None:
    set_ = price("pro", 10_000_000)
    assert set_ == PlanPrice("pro", NOON, 10_000_000, STAFF, NOON - DAY)
    assert set_.unit == UnitPrice(10_000_000, f"plan/pro/{NOON.isoformat()}")


def test_the_default_plan_is_free_and_others_have_to_exist() -> None:
    assert price("free", 0).unit.microusd == 0
    assert price("pro", 0).unit.microusd == 0
    with pytest.raises(DefaultPlanIsFree):
        price("free", 1)
    with pytest.raises(UnknownTier):
        price("gold", 1)


def fee(tier: str, basis_points: int) -> UsageFee:
    return UsageFee.set(tier, basis_points, effective_from=NOON, by=STAFF, at=NOON - DAY)


def test_a_fee_on_usage_is_for_tiers_without_seats() -> None:
    assert fee("pro", 1_000) == UsageFee("pro", NOON, 1_000, STAFF, NOON - DAY)
    assert fee("enterprise", 0).basis_points == 0
    with pytest.raises(UsageFeeNotForSeats):
        fee("enterprise", 1)
    with pytest.raises(UnknownTier):
        fee("gold", 1_000)


def test_a_preview_tells_what_a_price_would_add() -> None:
    effect = PriceEffect("pro", 0, 0, 0, rated=3, cost_now=500, cost_then=740, not_priced_then=0)
    assert effect.difference == 240
