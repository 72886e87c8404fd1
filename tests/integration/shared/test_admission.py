"""Admission on the real Valkey: exact under any burst, all windows or none, bounded in trouble."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import ANY
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from shared.errors import DependencyUnavailable, SessionEnded
from shared.ids import UserId
from shared.limits import admission
from shared.limits.admission import (
    Admission,
    Admissions,
    LocalLimit,
    Window,
    day_window,
    minute_window,
    month_window,
)
from shared.limits.current_tiers import CurrentTiers
from shared.tiers import NO_TIER, TIERS, TierChanged
from shared.valkey import open_cache
from tests.support.admission_burst import COST, KINDS, SPENT, TOKENS, burst_windows
from tests.support.engines import ValkeyServer, running_valkey

NOW = datetime(2030, 5, 17, 12, 30, 30, tzinfo=UTC)
# What a stalled Valkey may cost 300 requests that ask at once: one wait of 0.1 s, not one each,
# with much room for a busy machine.
BOUNDED_SECONDS = 3


@pytest.fixture
async def cache(valkey_server: ValkeyServer) -> AsyncIterator[Redis]:
    with valkey_server.fresh_database() as url:
        cache = open_cache(url)
        yield cache
        await cache.aclose()


@pytest.fixture
def admissions(cache: Redis) -> Admissions:
    return Admissions(cache)


async def admit(admissions: Admissions, *windows: Window, subject: str = "ada") -> Admission:
    return await admissions.admit(subject, windows, reservation=str(uuid4()), claimed_tier="free")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_burst_over_many_replicas_admits_exactly_the_limit(
    valkey_server: ValkeyServer, kind: str
) -> None:
    with valkey_server.fresh_database() as url:
        words = [sys.executable, "-m", "tests.support.admission_burst"]
        words += [url, "ada", kind, "100", "150"]
        replicas = [
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        for replica in replicas:
            assert replica.stdout is not None
            assert replica.stdout.readline() == "ready\n"
        outputs = await asyncio.gather(
            *(asyncio.to_thread(replica.communicate, "go\n") for replica in replicas)
        )
        assert sum(int(output) for output, _ in outputs) == 100
        *windows, streams = burst_windows(kind, 100)
        cache = open_cache(url)
        used = [state.used for state in await Admissions(cache).standing("ada", windows, streams)]
        await cache.aclose()
        assert used == [100, 100, 100 * TOKENS, SPENT + 100 * COST, 100]


async def test_a_burst_larger_than_the_pool_waits_and_is_not_refused_for_trouble(
    admissions: Admissions,
) -> None:
    window = minute_window("minute", 250, NOW)
    results = await asyncio.gather(*(admit(admissions, window) for _ in range(1000)))
    assert Counter(result.refused is None for result in results) == {True: 250, False: 750}


async def test_a_refusal_takes_from_no_window(admissions: Admissions) -> None:
    minute, day = minute_window("minute", 2, NOW), day_window("day", 50, NOW)
    for _ in range(2):
        assert (await admit(admissions, minute, day)).refused is None
    refusal = await admit(admissions, minute, day)
    assert refusal.refused is not None
    assert refusal.refused.window.name == "minute"
    assert [state.used for state in refusal.states] == [2, 2]
    assert [state.remaining for state in refusal.states] == [0, 48]


async def test_the_first_full_window_is_the_one_that_is_named(admissions: Admissions) -> None:
    minute, day = minute_window("minute", 5, NOW), day_window("day", 1, NOW)
    await admit(admissions, minute, day)
    refusal = await admit(admissions, minute, day)
    assert refusal.refused is not None
    assert refusal.refused.window.name == "day"


async def test_of_two_full_windows_the_first_is_named(admissions: Admissions) -> None:
    minute, day = minute_window("minute", 1, NOW), day_window("day", 1, NOW)
    await admit(admissions, minute, day)
    for windows in ((minute, day), (day, minute)):
        refusal = await admit(admissions, *windows)
        assert refusal.refused is not None
        assert refusal.refused.window is windows[0]


async def test_an_amount_that_does_not_fit_is_refused_whole(admissions: Admissions) -> None:
    characters = month_window("characters", 1000, NOW, amount=600)
    assert (await admit(admissions, characters)).refused is None
    assert (await admit(admissions, characters)).refused is not None
    small = month_window("characters", 1000, NOW, amount=400)
    assert (await admit(admissions, small)).refused is None


async def test_a_call_that_is_repeated_counts_once(admissions: Admissions) -> None:
    window = minute_window("minute", 3, NOW)
    answers = [
        await admissions.admit("ada", [window], reservation="77", claimed_tier="free")
        for _ in range(5)
    ]
    assert {answer.states[0].used for answer in answers} == {1}
    assert {answer.refused for answer in answers} == {None}


async def test_a_busy_loop_of_ours_is_not_taken_for_a_stalled_valkey(
    admissions: Admissions,
) -> None:
    window = minute_window("minute", 1000, NOW)
    await admit(admissions, window)

    async def be_busy() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            time.sleep(0.15)

    answers, _ = await asyncio.gather(
        asyncio.gather(*(admit(admissions, window) for _ in range(20))), be_busy()
    )
    assert {answer.refused for answer in answers} == {None}


async def test_a_refund_gives_back_once(admissions: Admissions) -> None:
    window = minute_window("minute", 1, NOW)
    first = await admit(admissions, window)
    await asyncio.gather(*(admissions.refund("ada", first) for _ in range(5)))
    assert (await admit(admissions, window)).refused is None
    assert (await admit(admissions, window)).refused is not None


async def test_a_refused_request_has_nothing_to_give_back(admissions: Admissions) -> None:
    window = minute_window("minute", 1, NOW)
    await admit(admissions, window)
    await admissions.refund("ada", await admit(admissions, window))
    assert (await admit(admissions, window)).refused is not None


async def test_a_refund_does_not_revive_a_window_that_is_over(
    admissions: Admissions, cache: Redis
) -> None:
    window = minute_window("minute", 1, NOW)
    admitted = await admit(admissions, window)
    await cache.delete(window.key("ada"))
    await admissions.refund("ada", admitted)
    assert await cache.get(window.key("ada")) is None


async def test_the_next_window_starts_empty(admissions: Admissions) -> None:
    assert (await admit(admissions, minute_window("minute", 1, NOW))).refused is None
    assert (await admit(admissions, minute_window("minute", 1, NOW))).refused is not None
    later = NOW + timedelta(minutes=1)
    assert (await admit(admissions, minute_window("minute", 1, later))).refused is None


async def test_subjects_do_not_share_a_window(admissions: Admissions) -> None:
    window = minute_window("minute", 1, NOW)
    assert (await admit(admissions, window, subject="ada")).refused is None
    assert (await admit(admissions, window, subject="grace")).refused is None


async def test_everything_kept_ends_by_itself(admissions: Admissions, cache: Redis) -> None:
    now = datetime.now(UTC)
    windows = [minute_window("minute", 5, now), day_window("day", 5, now)]
    await admit(admissions, *windows)
    lives = {key.decode(): await cache.ttl(key) for key in await cache.keys() if type(key) is bytes}
    assert len(lives) == 3
    # Longer than the window, for replicas whose clocks differ.
    assert 60 <= lives[windows[0].key("ada")] <= 120
    assert 3_600 <= lives[windows[1].key("ada")] <= 90_000
    assert 3590 < next(t for key, t in lives.items() if key.startswith("reservation:")) <= 3600


@pytest.mark.parametrize("window_of", [day_window, month_window])
async def test_a_clock_that_is_ahead_gives_nobody_a_second_day_before_it_begins(
    admissions: Admissions,
    cache: Redis,
    monkeypatch: pytest.MonkeyPatch,
    window_of: Callable[[str, int, datetime], Window],
) -> None:
    now, ahead = time.time(), 55 * 60
    window = window_of("requests", 1, datetime.fromtimestamp(now, UTC))
    monkeypatch.setattr(time, "time", lambda: now + ahead)
    await admit(admissions, window)
    assert await cache.ttl(window.key("ada")) >= window.ends_at.timestamp() - now


async def test_without_a_window_everybody_is_admitted(admissions: Admissions) -> None:
    assert await admit(admissions) == Admission(ANY, ())


async def test_a_tier_that_auth_told_of_is_asked_before_anything_is_reserved(
    cache: Redis, admissions: Admissions
) -> None:
    ada, window = UserId(uuid4()), minute_window("minute", 1, NOW)
    await CurrentTiers(cache).tell({ada: "pro"})
    with pytest.raises(TierChanged) as changed:
        await admit(admissions, window, subject=str(ada))
    assert changed.value.tier is TIERS["pro"]
    assert await admissions.tier_told_of(str(ada)) == "pro"
    assert await admissions.tier_told_of("grace") is None
    admitted = await admissions.admit(str(ada), [window], reservation="1", claimed_tier="pro")
    assert (admitted.refused, admitted.states[0].used) == (None, 1)
    # A reservation that stands is answered, whatever was told since.
    await CurrentTiers(cache).tell({ada: NO_TIER})
    again = await admissions.admit(str(ada), [window], reservation="1", claimed_tier="pro")
    assert again == admitted
    with pytest.raises(TierChanged) as gone:
        await admissions.admit(str(ada), [window], reservation="2", claimed_tier="pro")
    with pytest.raises(SessionEnded):
        _ = gone.value.tier


async def test_while_valkey_is_away_nobody_was_told_of_another_tier() -> None:
    async with open_cache("redis://127.0.0.1:1/0") as nowhere:
        assert await Admissions(nowhere).tier_told_of("ada") is None
        await CurrentTiers(nowhere).tell({UserId(uuid4()): "pro"})


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        (minute_window, NOW.replace(second=0), NOW.replace(minute=31, second=0)),
        (day_window, datetime(2030, 5, 17, tzinfo=UTC), datetime(2030, 5, 18, tzinfo=UTC)),
        (month_window, datetime(2030, 5, 1, tzinfo=UTC), datetime(2030, 6, 1, tzinfo=UTC)),
    ],
)
def test_windows_are_those_of_the_utc_clock(window: object, start: datetime, end: datetime) -> None:
    assert callable(window)
    made = window("w", 1, NOW)
    assert (made.starts_at, made.ends_at) == (start, end)


@given(now=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_every_moment_lies_in_its_windows(now: datetime) -> None:
    for made in (minute_window("w", 1, now), day_window("w", 1, now), month_window("w", 1, now)):
        assert made.starts_at <= now < made.ends_at


LIMITS = st.integers(0, 6)
STEPS = st.lists(
    st.tuples(st.sampled_from(["admit", "refund"]), st.integers(1, 3), st.integers(0, 9)),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(limits=st.tuples(LIMITS, LIMITS, LIMITS), steps=STEPS)
async def test_any_order_of_admissions_and_refunds_counts_right(
    valkey_server: ValkeyServer, limits: tuple[int, int, int], steps: list[tuple[str, int, int]]
) -> None:
    cache = open_cache(valkey_server.url)
    admissions, subject = Admissions(cache), str(uuid4())
    used = [0, 0, 0]
    held: list[tuple[Admission, int]] = []
    for kind, amount, which in steps:
        if kind == "refund":
            if held:
                admission_, taken = held.pop(which % len(held))
                await admissions.refund(subject, admission_)
                used = [n - taken for n in used]
            continue
        windows = [Window(str(i), limit, NOW, NOW, amount) for i, limit in enumerate(limits)]
        answer = await admissions.admit(
            subject, windows, reservation=str(uuid4()), claimed_tier="free"
        )
        full = [n + amount > limit for n, limit in zip(used, limits, strict=True)]
        assert (answer.refused is not None) == any(full)
        if not any(full):
            used = [n + amount for n in used]
            held.append((answer, amount))
        assert [state.used for state in answer.states] == used
    await cache.aclose()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that the test may stop."""
    with running_valkey(tmp_path) as server:
        yield server


@pytest.fixture
async def own_admissions(own_valkey: ValkeyServer) -> AsyncIterator[Admissions]:
    cache = open_cache(own_valkey.url)
    yield Admissions(cache)
    await cache.aclose()


async def test_a_stalled_valkey_is_answered_for_in_bounded_time(
    own_valkey: ValkeyServer, own_admissions: Admissions
) -> None:
    window = minute_window("minute", 100, NOW)
    await admit(own_admissions, window)
    os.kill(own_valkey.child.pid, signal.SIGSTOP)
    try:
        began = time.perf_counter()
        results = await asyncio.gather(
            *(admit(own_admissions, window) for _ in range(300)), return_exceptions=True
        )
        assert time.perf_counter() - began < BOUNDED_SECONDS
        assert {type(result) for result in results} == {DependencyUnavailable}
        # The breaker is open now: nobody waits at all, not even for the loop's next turn.
        with closing(admit(own_admissions, window)) as asking, pytest.raises(DependencyUnavailable):
            asking.send(None)
    finally:
        os.kill(own_valkey.child.pid, signal.SIGCONT)


async def test_without_valkey_only_a_fallback_limit_lets_pass(
    own_valkey: ValkeyServer, own_admissions: Admissions
) -> None:
    window = minute_window("minute", 100, NOW)
    own_valkey.child.kill()
    admitted = 0
    for number in range(10):
        try:
            answer = await own_admissions.admit(
                "ada", [window], reservation=str(number), claimed_tier="free", fallback_limit=3
            )
        except DependencyUnavailable:
            continue
        assert answer.states == ()
        assert answer.refused is None
        admitted += 1
    assert admitted == 3
    with pytest.raises(DependencyUnavailable):
        await own_admissions.admit("grace", [window], reservation="x", claimed_tier="free")
    with pytest.raises(DependencyUnavailable):
        await own_admissions.check()


async def test_a_refund_while_valkey_is_gone_is_silent(
    own_valkey: ValkeyServer, own_admissions: Admissions
) -> None:
    admitted = await admit(own_admissions, minute_window("minute", 1, NOW))
    own_valkey.child.kill()
    await own_admissions.refund("ada", admitted)
    with pytest.raises(DependencyUnavailable):
        await own_admissions.check()


async def test_admission_resumes_when_valkey_is_back_without_its_scripts(
    own_valkey: ValkeyServer, own_admissions: Admissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_OPEN_SECONDS", 0.0)
    window = minute_window("minute", 1, NOW)
    await admit(own_admissions, window)
    own_valkey.child.kill()
    with pytest.raises(DependencyUnavailable):
        await admit(own_admissions, window)
    own_valkey.child.start_again(own_valkey.engine.is_ready)
    assert (await admit(own_admissions, window)).refused is None
    assert (await admit(own_admissions, window)).refused is not None
    await own_admissions.check()


def test_the_local_limit_is_per_subject_and_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalLimit()
    monkeypatch.setattr(time, "time", lambda: 60.0)
    assert [local.take("ada", 2) for _ in range(3)] == [True, True, False]
    assert local.take("grace", 2)
    monkeypatch.setattr(time, "time", lambda: 120.0)
    assert local.take("ada", 2)
