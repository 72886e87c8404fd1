"""Months by the calendar, and amounts divided over time with nothing lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.calendar import months_after, next_after, whole_second
from services.billing.domain.proration import rest_of, shares

moments = st.datetimes(
    datetime(2024, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC), allow_imaginary=False
).map(whole_second)
amounts = st.integers(0, 10**13)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("anchor", "boundaries"),
    [
        ("2026-01-31T10:00:00", ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("2027-12-31T23:59:59", ["2028-01-31", "2028-02-29", "2028-03-31"]),
        ("2028-02-29T00:00:00", ["2028-03-29", "2028-04-29", "2028-05-29"]),
        ("2026-11-15T12:30:00", ["2026-12-15", "2027-01-15", "2027-02-15"]),
    ],
)
def test_periods_begin_on_the_anchors_day_or_the_months_last(
    anchor: str, boundaries: list[str]
) -> None:
    begun = at(anchor)
    boundary = begun
    for month, expected in enumerate(boundaries, start=1):
        boundary = next_after(begun, boundary)
        assert boundary == months_after(begun, month)
        assert boundary.date().isoformat() == expected
        assert boundary.time() == begun.time()


@given(anchor=moments, months=st.integers(0, 200))
def test_periods_follow_each_other_and_last_a_month(anchor: datetime, months: int) -> None:
    begins = months_after(anchor, months)
    ends = next_after(anchor, begins)
    assert ends == months_after(anchor, months + 1)
    assert timedelta(days=28) <= ends - begins <= timedelta(days=31)


@given(
    amount=st.integers(-(10**13), 10**13),
    weights=st.lists(st.integers(0, 10**8), min_size=1, max_size=8).filter(any),
)
def test_shares_lose_nothing_and_are_as_near_as_whole_numbers_can_be(
    amount: int, weights: list[int]
) -> None:
    parts = shares(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(amount * weight, sum(weights))) < 1


def test_what_is_left_over_goes_to_whom_was_cut_most_and_to_the_first_of_equals() -> None:
    assert shares(10, (1, 1, 1)) == (4, 3, 3)
    assert shares(100, (1, 2, 3)) == (17, 33, 50)
    assert shares(1, (1, 1)) == (1, 0)
    assert shares(-10, (1, 1, 1)) == (-4, -3, -3)


@given(begins=moments, amount=amounts, share=st.floats(0, 1))
def test_a_credit_and_a_debit_at_one_moment_cancel_out(
    begins: datetime, amount: int, share: float
) -> None:
    ends = months_after(begins, 1)
    moment = whole_second(begins + (ends - begins) * share)
    rest = rest_of(amount, begins, moment, ends)
    exact = Fraction(amount * ((ends - moment) // timedelta(seconds=1))) / (
        (ends - begins) // timedelta(seconds=1)
    )
    assert abs(rest - exact) <= Fraction(1, 2)
    assert rest_of(amount, begins, begins, ends) == amount
    assert rest_of(amount, begins, ends, ends) == 0


@given(
    begins=moments,
    low=amounts,
    high=amounts,
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_up_and_down_again_costs_the_difference_of_the_stretch_alone(
    begins: datetime, low: int, high: int, cuts: list[float]
) -> None:
    ends = months_after(begins, 1)
    up, down = (whole_second(begins + (ends - begins) * cut) for cut in cuts)

    def change(old: int, new: int, moment: datetime) -> int:
        return rest_of(new, begins, moment, ends) - rest_of(old, begins, moment, ends)

    total = low + change(low, high, up) + change(high, low, down)
    seconds = timedelta(seconds=1)
    exact = low + Fraction((high - low) * ((down - up) // seconds), (ends - begins) // seconds)
    assert abs(total - exact) <= 2
    assert change(low, high, up) + change(high, low, up) == 0
