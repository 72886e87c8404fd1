"""Identifiers: time-ordered, strictly increasing, and never the same twice."""

from __future__ import annotations

import itertools
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

import pytest

from shared import ids
from shared.ids import first_id_at, uuid7, uuid7_after, uuid7_of


def test_a_hundred_thousand_ids_strictly_increase() -> None:
    made = [uuid7() for _ in range(100_000)]
    assert all(earlier < later for earlier, later in itertools.pairwise(made))


def test_ids_of_many_threads_are_distinct_and_increase_within_each() -> None:
    made: list[list[UUID]] = [[] for _ in range(8)]
    start = threading.Barrier(8)

    def make(into: list[UUID]) -> None:
        start.wait()
        into.extend(uuid7() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(sorted(into) == into for into in made)
    # The ordering part alone is never given twice, so the order of all ids is the order of making.
    ordering = {id_.int >> 64 for into in made for id_ in into}
    assert len(ordering) == 40_000


def test_an_id_is_a_uuid_of_version_7() -> None:
    for _ in range(100):
        id_ = uuid7()
        assert id_.version == 7
        assert id_.variant == "specified in RFC 4122"
        assert UUID(str(id_)) == id_


@pytest.mark.parametrize("ahead", [timedelta(seconds=-5), timedelta(), timedelta(hours=1)])
@pytest.mark.parametrize("fraction", [0, 0x7FF, 0xFFF])
def test_an_id_comes_after_another_one_whatever_the_clock_says(
    ahead: timedelta, fraction: int
) -> None:
    other = UUID(int=first_id_at(datetime.now(UTC) + ahead).int | fraction << 64 | ((1 << 62) - 1))
    line = [other]
    for _ in range(5_000):
        line.append(uuid7_after(line[-1]))
    assert all(earlier < later for earlier, later in itertools.pairwise(line))
    assert {(id_.version, id_.variant) for id_ in line} == {(7, RFC_4122)}
    # However many there are, they hardly go on from one that is ahead.
    assert line[-1].int >> 80 <= max(uuid7(), other).int + (2 << 80) >> 80
    # Ours go on by our own clock.
    assert uuid7() < first_id_at(datetime.now(UTC) + timedelta(seconds=1))
    assert uuid7_after(None) < first_id_at(datetime.now(UTC) + timedelta(seconds=1))


def test_an_id_of_a_moment_and_a_seed_is_always_the_same() -> None:
    made = uuid7_of(1_764_000_000_123, b"seed")
    assert made == uuid7_of(1_764_000_000_123, b"seed")
    assert (made.version, made.variant, made.int >> 80) == (7, RFC_4122, 1_764_000_000_123)
    assert len({made, uuid7_of(1_764_000_000_124, b"seed"), uuid7_of(1_764_000_000_123, b"")}) == 3


def test_an_id_lies_at_the_moment_when_it_was_made() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    made = uuid7()
    assert first_id_at(before) <= made <= first_id_at(datetime.now(UTC) + timedelta(seconds=1))


def test_ids_go_on_while_the_clock_stands_still_or_steps_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead = time.time_ns() + 60_000_000_000
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(time, "time_ns", lambda: ahead)
    standing = [uuid7() for _ in range(5_000)]
    monkeypatch.setattr(time, "time_ns", lambda: ahead - 30_000_000_000)
    back = [uuid7() for _ in range(5_000)]
    assert sorted(standing + back) == standing + back
