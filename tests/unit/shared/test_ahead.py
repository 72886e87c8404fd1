"""A call that has begun while its hold is being written."""

from __future__ import annotations

import asyncio

import pytest

from shared.ahead import Ahead, Meanwhile
from shared.revocation import KeyInUse, KeyOfCall


class Begun:
    def __init__(self) -> None:
        self.left = 0

    def leave(self) -> None:
        self.left += 1


def an_ahead(withdrawals: int = 3) -> tuple[Begun, Ahead[Begun]]:
    begun = Begun()
    return begun, Ahead(begun, KeyOfCall(KeyInUse()), withdrawals)


def test_it_is_gone_on_with_where_no_key_was_withdrawn_since() -> None:
    begun, ahead = an_ahead()
    assert ahead.unless_withdrawn(3) is ahead
    assert begun.left == 0


@pytest.mark.parametrize("now", [4, 7])
def test_it_is_broken_off_where_one_was(now: int) -> None:
    begun, ahead = an_ahead()
    assert ahead.unless_withdrawn(now) is None
    assert begun.left == 1


def test_leaving_is_passed_on() -> None:
    begun, ahead = an_ahead()
    ahead.leave()
    assert begun.left == 1


async def test_work_is_done_after_what_its_owner_sends_first() -> None:
    order: list[str] = []
    loop = asyncio.get_running_loop()

    def work() -> int:
        order.append("work")
        return len(order)

    made = Meanwhile(work)
    # As the line to Valkey does: what is asked for in one turn of the loop goes out at its end.
    loop.call_soon(order.append, "sent")
    await asyncio.sleep(0)
    assert order == ["sent"]
    await asyncio.sleep(0)
    assert order == ["sent", "work"]
    assert made.result() == made.result() == 2
    assert order == ["sent", "work"]


async def test_work_that_was_not_done_by_then_is_done_when_it_is_asked_for() -> None:
    done: list[int] = []
    made = Meanwhile(lambda: done.append(1))
    made.result()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert done == [1]


async def test_what_it_failed_with_is_told_to_whoever_asks() -> None:
    made = Meanwhile(lambda: 1 // 0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            made.result()


async def test_work_that_is_needed_no_more_is_not_done() -> None:
    done: list[int] = []
    Meanwhile(lambda: done.append(1)).leave()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert done == []
