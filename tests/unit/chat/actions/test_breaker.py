"""A breaker rests what fails, for its own user alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.chat.domain.breaker import Breakers
from shared.ids import UserId
from shared.vendors.failures import (
    NoUsableKey,
    VendorFailed,
    VendorOverloaded,
    VendorRateLimited,
)
from tests.support.chat import MemoryTime, ada, grace

ADA, GRACE, ELSEWHERE = ("openai", ada), ("openai", grace), ("gemini", ada)
TROUBLE = VendorOverloaded("In trouble.", provider="openai")


def breakers(time: MemoryTime, *, most: int = 10_000) -> Breakers:
    return Breakers(monotonic=time.monotonic, most=most)


def fail(all_: Breakers, key: tuple[str, UserId], times: int = 5) -> None:
    for _ in range(times):
        all_.failed(key, TROUBLE, is_probe=False)


async def test_it_opens_after_five_failures_in_a_row() -> None:
    all_ = breakers(MemoryTime())
    fail(all_, ADA, 4)
    assert all_.enter(ADA) is False
    fail(all_, ADA, 1)
    with pytest.raises(VendorOverloaded) as refused:
        all_.enter(ADA)
    assert refused.value.retry_after == timedelta(seconds=10)
    assert refused.value.again is False


async def test_an_answer_in_between_begins_the_count_anew() -> None:
    all_ = breakers(MemoryTime())
    fail(all_, ADA, 4)
    all_.worked(ADA)
    fail(all_, ADA, 4)
    assert all_.enter(ADA) is False


async def test_failures_that_lie_too_far_apart_open_nothing() -> None:
    time = MemoryTime()
    all_ = breakers(time)
    for _ in range(20):
        fail(all_, ADA, 1)
        time.now += 8
    assert all_.enter(ADA) is False


async def test_one_users_trouble_is_nobody_elses_and_nowhere_elses() -> None:
    all_ = breakers(MemoryTime())
    fail(all_, ADA)
    assert all_.enter(GRACE) is False
    assert all_.enter(ELSEWHERE) is False


async def test_what_is_wrong_with_a_key_is_no_trouble_of_the_provider() -> None:
    all_ = breakers(MemoryTime())
    for _ in range(20):
        all_.failed(ADA, NoUsableKey("Bad."), is_probe=False)
        all_.failed(ADA, VendorRateLimited("Slow.", provider="openai"), is_probe=False)
    assert all_.enter(ADA) is False
    assert len(all_) == 0


async def test_a_cut_connection_counts() -> None:
    all_ = breakers(MemoryTime())
    for _ in range(5):
        all_.failed(ADA, VendorFailed("openai", billed=False), is_probe=False)
    with pytest.raises(VendorOverloaded):
        all_.enter(ADA)


async def test_after_its_rest_one_probe_goes_and_the_others_wait_for_it() -> None:
    time = MemoryTime()
    all_ = breakers(time)
    fail(all_, ADA)
    time.now += 10
    assert all_.enter(ADA) is True
    with pytest.raises(VendorOverloaded):
        all_.enter(ADA)
    all_.worked(ADA)
    assert all_.enter(ADA) is False


async def test_a_probe_that_fails_opens_it_again() -> None:
    time = MemoryTime()
    all_ = breakers(time)
    fail(all_, ADA)
    time.now += 10
    assert all_.enter(ADA) is True
    all_.failed(ADA, TROUBLE, is_probe=True)
    with pytest.raises(VendorOverloaded) as refused:
        all_.enter(ADA)
    assert refused.value.retry_after == timedelta(seconds=10)


async def test_a_probe_that_is_given_up_leaves_its_place_to_the_next() -> None:
    time = MemoryTime()
    all_ = breakers(time)
    fail(all_, ADA)
    time.now += 10
    assert all_.enter(ADA) is True
    all_.probe_left(ADA)
    assert all_.enter(ADA) is True
    all_.failed(ADA, NoUsableKey("Gone."), is_probe=True)
    assert all_.enter(ADA) is True


async def test_a_probe_of_which_nothing_is_heard_does_not_keep_the_others_out_for_ever() -> None:
    time = MemoryTime()
    all_ = breakers(time)
    fail(all_, ADA)
    time.now += 10
    assert all_.enter(ADA) is True
    time.now += 10
    assert all_.enter(ADA) is True


async def test_its_memory_is_bounded() -> None:
    all_ = breakers(MemoryTime(), most=100)
    for number in range(1_000):
        all_.failed((str(number), ada), TROUBLE, is_probe=False)
    assert len(all_) == 100


async def test_a_probe_that_was_overtaken_opens_nothing() -> None:
    all_ = breakers(MemoryTime())
    fail(all_, ADA, 1)
    all_.probe_left(ADA)
    assert all_.enter(ADA) is False


async def test_what_failed_last_is_remembered_longest() -> None:
    all_ = breakers(MemoryTime(), most=2)
    fail(all_, ADA, 4)
    fail(all_, GRACE, 4)
    fail(all_, ADA, 1)
    fail(all_, ELSEWHERE, 1)
    assert len(all_) == 2
    with pytest.raises(VendorOverloaded):
        all_.enter(ADA)
    fail(all_, GRACE, 1)
    assert all_.enter(GRACE) is False


async def test_what_was_asked_before_it_opened_ends_no_rest() -> None:
    all_ = breakers(MemoryTime())
    fail(all_, ADA)
    all_.failed(ADA, NoUsableKey("Gone."), is_probe=False)
    with pytest.raises(VendorOverloaded):
        all_.enter(ADA)


async def test_a_probe_is_given_up_after_somebody_else_was_answered() -> None:
    time = MemoryTime()
    all_ = breakers(time)
    fail(all_, ADA)
    time.now += 10
    assert all_.enter(ADA) is True
    all_.worked(ADA)
    all_.probe_left(ADA)
    assert all_.enter(ADA) is False
