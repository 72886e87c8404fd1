"""Spans of time that figures are asked for, and shares."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from services.billing.domain.analytics import (
    Churn,
    Days,
    Margin,
    Months,
    Revenue,
    TierUsage,
    margins,
    share,
    together,
)
from services.billing.domain.errors import BadPeriod

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MAY = date(2026, 5, 1)


def at(month: int, day: int = 1, year: int = 2026) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


def test_without_bounds_it_is_the_last_half_year_up_to_now() -> None:
    months = Months.within(None, None, now=NOW)
    assert (months.first, months.last) == (date(2026, 6, 1), date(2026, 11, 1))
    assert months.spans[0] == (at(6), at(7))
    assert months.spans[-1] == (at(11), NOW)


def test_months_hold_both_bounds_and_end_before_the_last() -> None:
    months = Months.within(at(1, 15), at(3), now=NOW)
    assert list(months) == [date(2026, 1, 1), date(2026, 2, 1)]
    over_new_year = Months.within(at(12, 31, 2025), at(1, 2), now=NOW)
    assert list(over_new_year) == [date(2025, 12, 1), date(2026, 1, 1)]
    assert list(Months.within(at(11), at(1, 1, 2031), now=NOW)) == [date(2026, 11, 1)]


@pytest.mark.parametrize(
    ("begins", "ends"),
    [(at(3), at(2)), (at(3), at(3)), (at(12), None), (at(1, 1, 2023), None)],
)
def test_months_that_cannot_be_are_refused(begins: datetime, ends: datetime | None) -> None:
    with pytest.raises(BadPeriod):
        Months.within(begins, ends, now=NOW)


def test_days_include_the_last_one_asked_for() -> None:
    days = Days.within(at(3, 4), at(3, 6), now=NOW, usual=timedelta(days=29))
    assert (days.first, days.last) == (date(2026, 3, 4), date(2026, 3, 5))
    with pytest.raises(BadPeriod):
        Days.within(at(1, 1, 2020), None, now=NOW, usual=timedelta(days=29))


def test_the_days_of_past_months_end_with_their_last() -> None:
    past = Days.of(Months.within(at(9), at(11), now=NOW))
    assert (past.first, past.last) == (date(2026, 9, 1), date(2026, 10, 31))
    going_on = Days.of(Months.within(at(9), None, now=NOW))
    assert going_on.last == NOW.date()


def test_of_nothing_there_is_no_share() -> None:
    assert share(3, 0) == 0.0
    assert Churn(MAY, "pro").logo_churn == Churn(MAY, "pro").revenue_churn == 0.0
    assert Margin(MAY, "free", cost_microusd=5).share == 0.0


def test_the_margin_joins_what_was_earned_with_what_was_asked() -> None:
    found = margins(
        [Revenue(MAY, "pro", recognised_microusd=900)],
        [TierUsage(MAY, "free", 30, 7), TierUsage(MAY, "pro", 5, 0)],
        per_request=10,
    )
    assert [(one.tier, one.revenue_microusd, one.margin_microusd) for one in found] == [
        ("free", 7, -293),
        ("pro", 900, 850),
    ]
    assert together(found) == [Margin(MAY, "all", 900, 7, 35, 350)]
