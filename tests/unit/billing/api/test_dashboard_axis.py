"""What stands at a scale is where it stands, however small the sums are."""

from __future__ import annotations

import pytest

from services.billing.api.dashboard_charts import ticks
from services.billing.api.dashboard_page import dollars_at


@pytest.mark.parametrize(
    ("high", "expected"),
    [
        (0.102, ["$0", "$0.025", "$0.05", "$0.075", "$0.10", "$0.125"]),
        (0.0004, ["$0", "$0.0001", "$0.0002", "$0.0003", "$0.0004"]),
        (2.1, ["$0", "$0.50", "$1", "$1.50", "$2", "$2.50"]),
        (48_000.0, ["$0", "$10k", "$20k", "$30k", "$40k", "$50k"]),
    ],
)
def test_each_number_of_a_scale_of_dollars_is_its_own(high: float, expected: list[str]) -> None:
    assert [dollars_at(tick) for tick in ticks(0, high)] == expected


@pytest.mark.parametrize(
    ("dollars", "told"),
    [(0.102003, "$0.102"), (0.9996, "$1.00"), (-0.025, "−$0.025"), (1234.5, "$1,234.50")],
)
def test_a_sum_at_a_bar_is_told_with_three_digits_or_cents(dollars: float, told: str) -> None:
    assert dollars_at(dollars) == told
