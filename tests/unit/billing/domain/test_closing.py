"""When a month may be closed: its end has come, and every stream has said that it is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.billing.domain.closing import (
    NOT_HEARD,
    SETTLING_TIME,
    ClosedPeriod,
    Finding,
    Month,
    Totals,
    incomplete_streams,
    silent_streams,
)
from services.billing.domain.completeness import Progress, Stream
from services.billing.domain.errors import BadMonth
from services.billing.domain.period import Period
from shared.ids import UserId

NOVEMBER = Month.named("2026-11")
BEGINS, ENDS = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
STREAM = Stream("chat", UUID(int=1), "usage.recorded.free")
NAME = "chat/usage.recorded.free"
SILENT = [Finding(NOT_HEARD, NAME, 1)]


def progress(
    seen: datetime | None, manifest: datetime | None = None, *, epoch: int = 1
) -> Progress:
    stream = replace(STREAM, epoch=UUID(int=epoch))
    return Progress(stream, ((1, 9),), last_seen_at=seen, last_manifest_at=manifest)


@pytest.mark.parametrize(
    ("name", "begins", "ends"),
    [
        ("2026-11", BEGINS, ENDS),
        ("2026-12", ENDS, datetime(2027, 1, 1, tzinfo=UTC)),
        ("2028-02", datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_month_has_all_of_its_days(name: str, begins: datetime, ends: datetime) -> None:
    assert Month.named(name) == Month(date(begins.year, begins.month, 1))
    assert Month.named(name).period == Period(begins, ends)
    assert Month.named(name).name == name


@pytest.mark.parametrize(
    "name", ["2026-13", "2026-00", "2019-12", "2200-01", "2026-1", "2026-11\n"]
)
def test_what_is_no_month_is_refused(name: str) -> None:
    with pytest.raises(BadMonth):
        Month.named(name)


def test_a_month_can_be_closed_once_what_ran_over_its_end_is_settled() -> None:
    assert NOVEMBER.can_be_closed_at(ENDS + SETTLING_TIME)
    assert not NOVEMBER.can_be_closed_at(ENDS + SETTLING_TIME - MOMENT)


def test_a_stream_has_to_be_heard_after_the_month() -> None:
    assert silent_streams([progress(ENDS, ENDS)], NOVEMBER, {}) == []
    assert silent_streams([progress(ENDS, ENDS - MOMENT)], NOVEMBER, {}) == SILENT
    assert silent_streams([progress(ENDS)], NOVEMBER, {}) == SILENT
    # Also one of which nothing has come in the month: it may only be late.
    assert silent_streams([progress(BEGINS - MOMENT)], NOVEMBER, {}) == SILENT


def test_a_numbering_that_is_over_is_asked_about_for_its_last_month_alone() -> None:
    newer = progress(ENDS, ENDS, epoch=2)
    assert silent_streams([progress(BEGINS), newer], NOVEMBER, {}) == SILENT
    assert silent_streams([progress(BEGINS - MOMENT), newer], NOVEMBER, {}) == []


def test_a_stream_that_was_given_up_is_asked_about_no_more_unless_it_speaks_again() -> None:
    seen = BEGINS - timedelta(days=3)
    assert silent_streams([progress(seen)], NOVEMBER, {NAME: seen}) == []
    assert silent_streams([progress(seen)], NOVEMBER, {NAME: seen - MOMENT}) == SILENT
    assert silent_streams([progress(seen)], NOVEMBER, {"voice/other": seen}) == SILENT
    # For the month in which it was alive it is asked about, given up or not.
    assert silent_streams([progress(BEGINS)], NOVEMBER, {NAME: ENDS}) == SILENT


def test_what_has_not_come_of_a_stream_is_counted() -> None:
    whole = Progress(STREAM, ((1, 9),), announced=9)
    torn = Progress(STREAM, ((1, 2), (5, 5)), announced=6)
    assert incomplete_streams([whole, torn]) == [Finding("events_missing", NAME, 3)]


def test_a_closed_month_is_held_against_the_digest_that_was_kept() -> None:
    closed = ClosedPeriod(NOVEMBER, ENDS, UserId(uuid4()), Totals(3, "ab", [{"b": 1, "a": 2}]))
    assert closed.is_as_kept
    kept = replace(closed, kept_digest=closed.digest)
    assert kept.is_as_kept
    # In whatever order its facts are read.
    assert replace(kept, totals=Totals(3, "ab", [{"a": 2, "b": 1}])).is_as_kept
    assert not replace(kept, totals=Totals(4, "ab", [{"b": 1, "a": 2}])).is_as_kept
    assert not replace(kept, month=Month.named("2026-10")).is_as_kept
