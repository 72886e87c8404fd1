"""Amounts as people read them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.amounts import cents_read, count_read, dollars_read, percent_read


@pytest.mark.parametrize(
    ("microusd", "read"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (205, "0.000205"),
        (45_000_000, "45.00"),
        (1_234_567_891_234, "1,234,567.891234"),
        (-3_200, "\u22120.0032"),
        (-1_500_000, "\u22121.50"),
    ],
)
def test_no_part_of_a_cent_is_lost(microusd: int, read: str) -> None:
    assert dollars_read(microusd) == read


def test_nothing_has_no_sign() -> None:
    assert (cents_read(0), count_read(0)) == ("0.00", "0")


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_what_is_read_is_the_amount(amount: int) -> None:
    def number(text: str) -> Decimal:
        return Decimal(text.replace(",", "").replace("\u2212", "-"))

    assert number(dollars_read(amount)).scaleb(6) == amount
    assert number(cents_read(amount)).scaleb(2) == amount
    assert number(count_read(amount)) == amount


@pytest.mark.parametrize(
    ("basis_points", "read"),
    [(0, "0 %"), (1_900, "19 %"), (810, "8.1 %"), (2_550, "25.5 %"), (5, "0.05 %")],
)
def test_rates(basis_points: int, read: str) -> None:
    assert percent_read(basis_points) == read
