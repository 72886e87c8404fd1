"""Turns that are heard of from afar: nothing twice, nothing left out."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain.bell import Bell
from services.chat.domain.live import HeardTurn, LiveEvent
from services.chat.domain.turn import TurnId


def a_turn(base: int = 0) -> HeardTurn:
    return HeardTurn(TurnId(uuid4()), None, base=base)


def deltas(first: int, count: int) -> list[LiveEvent]:
    return [("delta", b"%d" % number) for number in range(first, first + count)]


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 6)), max_size=12))
def test_whatever_comes_in_whatever_pieces_what_is_kept_has_no_gap(
    batches: list[tuple[int, int]],
) -> None:
    turn = a_turn()
    for first, count in batches:
        turn.hear(first, deltas(first, count))
    assert list(turn.said(0)) == deltas(1, turn.last)


def test_a_gap_tears_it_until_it_is_closed() -> None:
    turn = a_turn()
    turn.hear(1, deltas(1, 2))
    turn.hear(4, deltas(4, 1))
    turn.hear(3, deltas(3, 1))
    assert (turn.is_torn, turn.is_over, turn.last) == (True, False, 2)
    turn.close([("usage", b"{}"), ("done", b"{}")])
    assert [name for name, _ in turn.said(1)] == ["delta", "usage", "done"]
    assert turn.is_over


def test_nothing_comes_after_the_end() -> None:
    turn = a_turn()
    turn.hear(1, [*deltas(1, 1), ("interrupted", b"{}")])
    turn.hear(3, deltas(3, 1))
    turn.close([("done", b"{}")])
    assert [name for name, _ in turn.said(0)] == ["delta", "interrupted"]


def test_it_may_begin_in_the_middle() -> None:
    turn = a_turn(base=7)
    turn.close([("usage", b"{}"), ("done", b"{}")])
    assert [name for name, _ in turn.said(7)] == ["usage", "done"]
    assert [name for name, _ in turn.said(8)] == ["done"]
    assert list(turn.said(9)) == []


async def test_who_waits_is_woken_by_more_and_by_the_end() -> None:
    turn = a_turn()
    waiting = asyncio.ensure_future(turn.more(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    turn.hear(1, deltas(1, 1))
    await waiting
    ending = asyncio.ensure_future(turn.more(1))
    await asyncio.sleep(0)
    turn.close([])
    await ending


async def test_a_bell_forgets_who_went_away() -> None:
    bell, rings = Bell(), list[int]()

    def listen() -> None:
        rings.append(1)

    bell.call(listen)
    waiting = asyncio.ensure_future(bell.rung())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bell._waiters == []
    bell.ring()
    bell.forget(listen)
    bell.forget(listen)
    bell.ring()
    assert rings == [1]
