"""Money is counted in whole micro-dollars."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import dollars_text, micro_dollars


@pytest.mark.parametrize(
    ("dollars", "micro"),
    [
        ("15", 15_000_000),
        ("0.000001", 1),
        ("0.0000005", 0),
        ("0.0000015", 2),
        ("0.0000025", 2),
        ("-0.0000015", -2),
        ("0", 0),
        ("123456789.123456", 123_456_789_123_456),
    ],
)
def test_dollars_become_micro_dollars_half_to_even(dollars: str, micro: int) -> None:
    assert micro_dollars(Decimal(dollars)) == micro


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.000000"), (1, "0.000001"), (15_000_000, "15.000000"), (-1, "-0.000001"), (None, None)],
)
def test_amounts_are_told_as_decimal_dollars(amount: int | None, text: str | None) -> None:
    assert dollars_text(amount) == text


@given(st.integers(-(10**18), 10**18))
def test_what_is_told_is_what_is_counted(amount: int) -> None:
    text = dollars_text(amount)
    assert text is not None
    assert micro_dollars(Decimal(text)) == amount
