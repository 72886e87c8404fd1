"""Money is counted in whole micro-dollars."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.money import dollars_text, rounded


@pytest.mark.parametrize(
    ("amount", "parts", "micro"),
    [
        (15_000_000, 1, 15_000_000),
        (10, 10, 1),
        (5, 10, 0),
        (15, 10, 2),
        (25, 10, 2),
        (26, 10, 3),
        (-15, 10, -2),
        (0, 10, 0),
        (123_456_789_123_456, 1, 123_456_789_123_456),
    ],
)
def test_parts_become_micro_dollars_half_to_even(amount: int, parts: int, micro: int) -> None:
    assert rounded(amount, parts) == micro


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
    assert Decimal(text) * 1_000_000 == amount
