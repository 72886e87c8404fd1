"""A loss can be seen."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.completeness import PIECE, Gap, Progress, Range, Stream, pieces
from tests.support.billing import EPOCH, NOON

STREAM = Stream("chat", EPOCH, "usage.recorded.free")
PATIENCE = timedelta(seconds=15)


def progress(*received: Range, dead: tuple[Range, ...] = (), announced: int = 0) -> Progress:
    return Progress(STREAM, received, dead, announced)


def test_a_stream_without_a_gap_is_complete_up_to_its_end() -> None:
    assert list(progress((1, 9), announced=9).missing()) == []
    assert progress((1, 9), announced=7).complete_up_to == 9


def test_gaps_at_the_head_in_the_middle_and_at_the_tail_are_seen() -> None:
    seen = progress((3, 4), (7, 7), announced=9)
    assert list(seen.missing()) == [(1, 2), (5, 6), (8, 9)]
    assert seen.complete_up_to == 0
    assert seen.missing_count == 6
    assert seen.highest_received == 7


def test_the_tail_shows_only_through_a_manifest() -> None:
    assert list(progress((1, 4)).missing()) == []
    assert list(progress((1, 4), announced=6).missing()) == [(5, 6)]


def test_a_stream_of_which_nothing_came_is_missing_as_a_whole() -> None:
    assert list(progress(announced=3).missing()) == [(1, 3)]
    assert progress().complete_up_to == 0


def test_a_dead_event_came_and_is_not_missing() -> None:
    seen = progress((1, 4), (6, 9), dead=((5, 5), (10, 10)), announced=10)
    assert list(seen.missing()) == []
    assert seen.complete_up_to == 10


@given(st.sets(st.integers(1, 60)), st.integers(0, 70))
def test_missing_is_exactly_what_did_not_come(numbers: set[int], announced: int) -> None:
    seen = progress(*((number, number) for number in sorted(numbers)), announced=announced)
    missing = {n for first, last in seen.missing() for n in range(first, last + 1)}
    expected = set(range(1, max([announced, *numbers]) + 1)) - numbers
    assert missing == expected
    assert seen.missing_count == len(expected)
    assert seen.complete_up_to == min(expected, default=max([announced, *numbers]) + 1) - 1


def test_a_gap_over_a_line_of_the_grid_is_cut_there() -> None:
    assert list(pieces([(PIECE, PIECE + 1)])) == [(PIECE, PIECE), (PIECE + 1, PIECE + 1)]
    assert list(pieces([(PIECE + 1, 2 * PIECE)])) == [(PIECE + 1, 2 * PIECE)]


def test_a_wide_gap_is_cut_on_a_fixed_grid() -> None:
    assert list(pieces([(1, PIECE)])) == [(1, PIECE)]
    wide = list(pieces([(5, 2 * PIECE + 1)]))
    assert wide == [(5, PIECE), (PIECE + 1, 2 * PIECE), (2 * PIECE + 1, 2 * PIECE + 1)]
    # Once the first piece has come, the others are what they were.
    assert list(pieces([(PIECE + 1, 2 * PIECE + 1)])) == wide[1:]


def test_a_gap_waits_before_it_is_asked_for_and_longer_each_time() -> None:
    gap = Gap.seen(STREAM, (5, 6), NOON, PATIENCE)
    assert not gap.is_due(NOON + PATIENCE - timedelta(seconds=1))
    assert gap.is_due(NOON + PATIENCE)
    waits = []
    for _ in range(40):
        gap = gap.requested(NOON, PATIENCE)
        waits.append(gap.next_request_at - NOON)
    assert waits[:3] == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE]
    assert waits == sorted(waits)
    assert waits[-1] == timedelta(hours=1)
