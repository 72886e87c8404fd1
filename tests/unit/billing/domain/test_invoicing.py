"""The lines of an invoice: how much of what they are about, for how much, and in which order."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest

from services.billing.domain.charge import Charge, ChargeId, ChargeKind
from services.billing.domain.closing import Month
from services.billing.domain.invoice import LineId, LineKind, Source
from services.billing.domain.invoicing import (
    Carried,
    Covered,
    CoveredCharge,
    CoveredUsage,
    Scope,
    month_after,
)
from shared.ids import UserId

ADA, GRACE = UserId(UUID(int=1)), UserId(UUID(int=2))
NOVEMBER = Month.named("2026-11")
BEGINS, ENDS = datetime(2026, 11, 5, tzinfo=UTC), datetime(2026, 12, 5, tzinfo=UTC)


def usage(**facts: Any) -> CoveredUsage:
    """Two calls of 1200 tokens in and 350 out, for 205 micro-dollars, at a fee of a tenth."""
    given: dict[str, Any] = {
        "line_id": LineId(UUID(int=10)),
        "holder": ADA,
        "kind": LineKind.USAGE,
        "tier": "pro",
        "provider": "openai",
        "model": "gpt-6-luna",
        "operation": "chat",
        "month": date(2026, 11, 1),
        "unit": None,
        "basis_points": 1_000,
        "priced_later": False,
        "requests": 2,
        "counts": {"input_tokens": 1200, "cache_read_tokens": 1000, "output_tokens": 350},
        "cost": 205,
        "source": Source(2, "ab" * 16),
    }
    return CoveredUsage(**{**given, **facts})


def fee(amount: int, number: int) -> CoveredCharge:
    charge = Charge(
        id=ChargeId(UUID(int=number)),
        holder=ADA,
        is_organisation=False,
        kind=ChargeKind.PERIOD_FEE,
        tier_name="pro",
        seats=3,
        unit_price_microusd=amount // 3,
        price_version="tiers/9000000",
        begins=BEGINS,
        ends=ENDS,
        amount_microusd=amount,
        effect_key=f"purchase/{number}",
        revision=1,
        charged_at=BEGINS,
    )
    return CoveredCharge(charge, "cd" * 16)


@pytest.mark.parametrize(
    ("month", "following"),
    [
        ("2026-11", "2026-12"),
        ("2026-12", "2027-01"),
        ("2027-01", "2027-02"),
        ("2028-02", "2028-03"),
    ],
)
def test_months_follow_each_other(month: str, following: str) -> None:
    assert month_after(Month.named(month)) == Month.named(following)


def test_a_run_begins_where_the_one_before_left_off() -> None:
    """By two clocks: when something was used, and when it was received."""
    first = Scope.following(None, NOVEMBER, datetime(2026, 12, 2, tzinfo=UTC))
    december = month_after(NOVEMBER)
    second = Scope.following(first, december, datetime(2027, 1, 3, tzinfo=UTC))
    assert second == Scope(
        month=december,
        previous_ends=datetime(2026, 12, 1, tzinfo=UTC),
        received_after=datetime(2026, 12, 2, tzinfo=UTC),
        received_until=datetime(2027, 1, 3, tzinfo=UTC),
    )


def test_the_line_of_a_charge_is_made_of_that_one_charge() -> None:
    assert fee(9_000_000, 22).line.source == Source(1, "cd" * 16)


@pytest.mark.parametrize(
    ("facts", "quantity", "unit"),
    [
        ({}, 1550, "tokens"),
        ({"counts": {"characters": 1000}}, 1000, "characters"),
        ({"counts": {"characters": 1000, "output_tokens": 7}}, 7, "tokens"),
        ({"counts": {}}, 0, "tokens"),
        ({"counts": {"units": 4}, "unit": "screenshot"}, 4, "screenshot"),
        ({"counts": {}, "unit": "screenshot"}, 0, "screenshot"),
    ],
)
def test_a_line_counts_what_was_used(facts: dict[str, Any], quantity: int, unit: str) -> None:
    line = usage(**facts).line
    assert (line.quantity, line.unit) == (quantity, unit)
    assert line.facts.get("unit") == facts.get("unit")


@pytest.mark.parametrize(
    ("cost", "basis_points", "amount"),
    [
        (205, 1_000, 21),
        (204, 1_000, 20),
        (-205, 1_000, -21),
        (205, 0, 0),
        (None, 10_000, 0),
        (205, 10_000, 205),
    ],
)
def test_the_fee_is_a_part_of_the_vendors_cost_rounded_half_up(
    cost: int | None, basis_points: int, amount: int
) -> None:
    line = usage(cost=cost, basis_points=basis_points).line
    assert (line.amount_microusd, line.vendor_cost_microusd) == (amount, cost)


def test_a_line_tells_what_it_is_made_of() -> None:
    assert usage().line.facts == {
        "month": "2026-11",
        "tier": "pro",
        "provider": "openai",
        "model": "gpt-6-luna",
        "operation": "chat",
        "requests": 2,
        "fee_basis_points": 1_000,
        "input_tokens": 1200,
        "cache_read_tokens": 1000,
        "output_tokens": 350,
    }
    later = usage(priced_later=True, counts={"input_tokens": 0}).line.facts
    assert later["priced_later"] is True
    assert "input_tokens" not in later


def test_each_holder_has_lines_in_order_numbered_from_one() -> None:
    october = date(2026, 10, 1)
    lines = Covered(
        charges=[fee(9_000_000, 22), fee(-3_000_000, 21)],
        usages=[
            usage(line_id=LineId(UUID(int=31)), kind=LineKind.LATE_USAGE, month=october),
            usage(line_id=LineId(UUID(int=33)), model="m2"),
            usage(line_id=LineId(UUID(int=34)), model="m1"),
            usage(line_id=LineId(UUID(int=32)), holder=GRACE),
        ],
        carried=[Carried(ADA, -7, Source(2, "ef" * 16))],
    ).lines_of(NOVEMBER)
    assert [(line.position, line.kind.value, line.quantity) for line in lines[ADA]] == [
        (1, "fee", 3),
        (2, "fee", 3),
        (3, "usage", 1550),
        (4, "usage", 1550),
        (5, "late_usage", 1550),
        (6, "rounding", 2),
    ]
    assert [line.id.int for line in lines[ADA]][:5] == [21, 22, 34, 33, 31]
    assert sum(line.amount_microusd for line in lines[ADA]) == 6_000_000 + 3 * 21 - 7
    assert [(line.position, line.id.int) for line in lines[GRACE]] == [(1, 32)]
