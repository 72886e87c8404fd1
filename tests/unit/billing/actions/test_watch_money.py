"""Up to when the ledger is complete, and what has come of each stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.billing.actions.watch_money import Arrived
from services.billing.domain.completeness import Gap, Progress, Range, Stream

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
OLD, NEW = UUID(int=1), UUID(int=2)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def progress(
    *received: Range,
    announced: int = 0,
    tier: str = "pro",
    epoch: UUID = NEW,
    seen: float = 5,
    told: float | None = 5,
    dead: tuple[Range, ...] = (),
) -> Progress:
    return Progress(
        Stream("chat", epoch, f"usage.recorded.{tier}"),
        received,
        dead,
        announced,
        last_seen_at=ago(seen),
        last_manifest_at=None if told is None else ago(told),
    )


def gap(seen: float, *, tier: str = "pro", epoch: UUID = NEW) -> Gap:
    stream = Stream("chat", epoch, f"usage.recorded.{tier}")
    return Gap(stream, 3, 4, seen_at=ago(seen), next_request_at=NOW)


def arrived(*of: Progress, gaps: tuple[Gap, ...] = ()) -> Arrived:
    return Arrived(of, gaps, NOW)


def test_what_has_come_is_counted_with_the_dead_and_each_once() -> None:
    state = arrived(progress((1, 2), (5, 6), announced=9, dead=((6, 7),)))
    assert state.received == {("chat", "usage.recorded.pro"): 5}


def test_after_a_restore_the_newest_numbering_counts() -> None:
    state = arrived(progress((1, 900), epoch=OLD, seen=500), progress((1, 3), epoch=NEW))
    assert state.received == {("chat", "usage.recorded.pro"): 3}


def test_the_ledger_lags_by_the_word_that_is_oldest() -> None:
    state = arrived(progress((1, 2), told=3), progress((1, 2), tier="free", told=80))
    lags = {tier: lag.total_seconds() for tier, lag in state.lag.items()}
    assert lags == {"free": 80, "pro": 3, "enterprise": 0}


def test_a_gap_makes_it_as_old_as_it_is_open_even_one_of_an_earlier_numbering() -> None:
    state = arrived(progress((1, 2), (5, 6), told=3), gaps=(gap(200), gap(700, epoch=OLD)))
    assert state.lag["pro"] == timedelta(seconds=700)
    assert state.oldest_gap == {"chat": timedelta(seconds=700)}


def test_a_closed_gap_leaves_nothing() -> None:
    assert arrived(progress((1, 2))).oldest_gap == {"chat": timedelta(0)}


def test_who_tells_no_ends_says_nothing_of_what_is_missing() -> None:
    assert arrived(progress((1, 2), told=None)).lag["pro"] == timedelta(0)
