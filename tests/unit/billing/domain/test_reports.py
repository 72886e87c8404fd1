"""Periods, groups, sums and limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.billing.domain.errors import BadGrouping, BadPeriod
from services.billing.domain.limits import LimitStanding, alert_rules
from services.billing.domain.period import LONGEST_REPORT, Period
from services.billing.domain.usage_report import (
    Dimension,
    Group,
    Sums,
    UsageReport,
    dimensions_named,
)
from tests.support.billing import NOON

MONTH = datetime(2026, 11, 1, tzinfo=UTC)


def test_a_report_covers_this_month_until_now_unless_told_otherwise() -> None:
    period = Period.for_report(None, None, now=NOON + timedelta(minutes=20))
    assert period == Period(MONTH, NOON + timedelta(hours=1))


def test_a_report_that_ends_earlier_begins_with_the_month_it_ends_in() -> None:
    december = datetime(2025, 12, 1, tzinfo=UTC)
    period = Period.for_report(None, december, now=NOON)
    assert period == Period(datetime(2025, 11, 1, tzinfo=UTC), december)


def test_a_report_covers_the_whole_hours_that_hold_what_was_asked_for() -> None:
    minute = timedelta(minutes=1)
    period = Period.for_report(NOON + minute, NOON + 2 * minute, now=NOON)
    assert period == Period(NOON, NOON + timedelta(hours=1))
    exact = Period.for_report(NOON, NOON + timedelta(hours=2), now=NOON)
    assert exact == Period(NOON, NOON + timedelta(hours=2))


def test_a_period_does_not_end_before_it_begins() -> None:
    with pytest.raises(BadPeriod):
        Period.for_report(NOON, NOON - timedelta(seconds=1), now=NOON)
    with pytest.raises(BadPeriod):
        Period.between(NOON, NOON - timedelta(seconds=1))


def test_a_period_without_a_bound_is_open_there_and_may_be_empty() -> None:
    assert Period.between(NOON, NOON) == Period(NOON, NOON)
    everything = Period.between(None, None)
    assert everything.begins < Period.between(NOON, None).begins == NOON
    assert NOON == Period.between(None, NOON).ends < everything.ends


def test_the_first_instant_of_a_month_is_in_it() -> None:
    period = Period.for_report(None, MONTH + timedelta(microseconds=1), now=NOON)
    assert period == Period(MONTH, MONTH + timedelta(hours=1))


def test_a_report_is_not_longer_than_three_years() -> None:
    assert Period.for_report(NOON - LONGEST_REPORT, NOON, now=NOON)
    with pytest.raises(BadPeriod):
        Period.for_report(NOON - LONGEST_REPORT - timedelta(hours=1), NOON, now=NOON)


def test_dimensions_are_read_from_a_list() -> None:
    assert dimensions_named("day, model", Dimension) == (Dimension.DAY, Dimension.MODEL)
    assert dimensions_named("", Dimension) == ()


@pytest.mark.parametrize("text", ["hour", "day,day", "day,", ",", "day;model", "DAY", "\x00"])
def test_anything_else_is_no_grouping(text: str) -> None:
    with pytest.raises(BadGrouping):
        dimensions_named(text, Dimension)


def test_the_cost_is_unknown_only_where_nothing_has_a_price() -> None:
    assert Sums().cost == 0
    assert Sums(requests=2, unpriced_requests=1, known_cost=5).cost == 5
    assert Sums(requests=2, unpriced_requests=2).cost is None


def test_totals_add_up_what_the_groups_say() -> None:
    groups = [
        Group(((Dimension.MODEL, "a"),), Sums(requests=1, input_tokens=10, known_cost=7)),
        Group(((Dimension.MODEL, "b"),), Sums(requests=2, unpriced_requests=2, characters=2**70)),
    ]
    totals = UsageReport.of(Period(MONTH, NOON), groups).totals
    assert totals == Sums(
        requests=3, unpriced_requests=2, input_tokens=10, characters=2**70, known_cost=7
    )
    assert totals.cost == 7


def test_a_smaller_tier_than_what_was_used_leaves_nothing_and_not_less() -> None:
    assert LimitStanding("openai.requests_per_day", "openai", 50, 53, NOON).remaining == 0
    assert LimitStanding("openai.requests_per_day", "openai", 50, 40, NOON, 4).remaining == 6
    assert LimitStanding("monthly_spend", None, None, 53, NOON).remaining is None


def test_only_windows_that_last_are_worth_a_word_before_they_are_full() -> None:
    day, month = (NOON, NOON), (MONTH, MONTH)
    rules = alert_rules(day, month)
    assert {(rule.tier, rule.name, rule.limit) for rule in rules if rule.tier == "free"} == {
        ("free", "openai.requests_per_day", 50),
        ("free", "elevenlabs.characters_per_month", 10_000),
    }
    assert {rule.starts_at for rule in rules if rule.counted == "characters"} == {MONTH}
    assert not [rule for rule in rules if rule.tier == "enterprise"]
