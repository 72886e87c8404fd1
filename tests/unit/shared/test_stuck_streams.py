"""Which stream is tried when, while some of them are not taken."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from shared.messaging import stuck_streams
from shared.messaging.stuck_streams import StuckStreams
from tests.support.clocks import StoppedTime

A, B, C = "a.free", "b.free", "c.free"
ALL = {A: 1, B: 1, C: 1}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedTime:
    clock = StoppedTime()
    monkeypatch.setattr(stuck_streams, "time", clock)
    return clock


def turn(
    streams: StuckStreams, *, confirmed: Collection[str] = (), waiting: dict[str, int] = ALL
) -> tuple[list[str], bool]:
    """What a turn tries, with the first that is not confirmed as its last; whether the broker seems
    to be in trouble."""
    tried = []
    for stream in [*streams.others_of(waiting)]:
        tried.append(stream)
        if stream not in confirmed:
            return tried, not streams.note_not_confirmed(stream)
        streams.note_gone(stream)
    for stream in streams.due():
        tried.append(stream)
        if stream not in confirmed:
            return tried, not streams.note_not_confirmed(stream)
        streams.note_gone(stream)
    return tried, False


def test_while_nothing_is_confirmed_each_turn_tries_one_and_all_get_their_turn(
    clock: StoppedTime,
) -> None:
    streams = StuckStreams()
    turns = [turn(streams) for _ in range(7)]
    assert turns == [([one], True) for one in (A, B, C, A, B, C, A)]
    assert streams.is_broker_away
    assert streams.next_in == 0


def test_after_an_outage_of_whatever_length_all_go_in_the_first_turn(clock: StoppedTime) -> None:
    streams = StuckStreams()
    for _ in range(500):
        turn(streams)
        clock.now += 1
    tried, trouble = turn(streams, confirmed=ALL)
    assert (sorted(tried), trouble, streams.is_broker_away) == ([A, B, C], False, False)
    assert streams.next_in == float("inf")


def test_one_that_is_stuck_goes_after_the_others_and_ever_more_seldom(clock: StoppedTime) -> None:
    streams, pauses = StuckStreams(), []
    assert turn(streams, confirmed={B, C}) == ([A], True)
    # Now it shows that it is not the broker.
    assert turn(streams, confirmed={B, C}) == ([B, C, A], False)
    for _ in range(7):
        assert not streams.is_broker_away
        assert turn(streams, confirmed={B, C}) == ([B, C], False)
        pauses.append(streams.next_in)
        clock.now += streams.next_in
        assert turn(streams, confirmed={B, C}) == ([B, C, A], False)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def test_of_several_that_are_stuck_one_is_tried_at_a_time(clock: StoppedTime) -> None:
    streams = StuckStreams()
    turn(streams)
    turn(streams, confirmed={C})
    tried = []
    for _ in range(6):
        tried.append(turn(streams, confirmed={C})[0][1:])
        clock.now += 100
    assert tried == [[A], [B], [A], [B], [A], [B]]


def test_once_one_that_was_stuck_goes_the_others_are_tried_at_once(clock: StoppedTime) -> None:
    streams = StuckStreams()
    turn(streams)
    turn(streams, confirmed={C})
    for _ in range(6):
        turn(streams, confirmed={C})
        clock.now += 100
    assert turn(streams, confirmed=ALL) == ([C, A, B], False)


def test_a_broker_that_goes_away_beside_a_stuck_stream_is_noticed(clock: StoppedTime) -> None:
    streams = StuckStreams()
    turn(streams, confirmed={B, C})
    turn(streams, confirmed={B, C})
    assert turn(streams) == ([B], True)
    assert streams.is_broker_away
    # And back: what was stuck does not wait for its own pause.
    assert turn(streams, confirmed=ALL) == ([C, A, B], False)


def test_nothing_that_waits_for_it_says_nothing_about_the_broker(clock: StoppedTime) -> None:
    streams = StuckStreams()
    turn(streams)
    streams.others_of({})
    assert not streams.is_broker_away
    assert streams.next_in == float("inf")
    streams.others_of({A: 1})
    assert streams.is_broker_away


@pytest.mark.parametrize(
    ("has_queue", "expected"), [(True, [1, 2, 4, 8, 16, 30, 30]), (False, [1, 2, 4, 5, 5, 5, 5])]
)
def test_one_that_is_refused_is_left_alone_and_the_broker_is_there(
    clock: StoppedTime, has_queue: bool, expected: list[float]
) -> None:
    streams, pauses = StuckStreams(), []
    for _ in range(7):
        assert list(streams.others_of(ALL)) == [A, B, C]
        streams.note_refused(A, has_queue=has_queue)
        assert list(streams.others_of(ALL)) == [B, C]
        assert list(streams.due()) == []
        assert not streams.is_broker_away
        pauses.append(streams.next_in)
        clock.now += streams.next_in
    assert pauses == expected
    streams.note_gone(A)
    streams.note_refused(A, has_queue=has_queue)
    assert streams.next_in == 1
