"""A Valkey that has no room left: it says so and drops nothing, and nobody uses more than is
theirs, nor is charged twice or never."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from shared.errors import DependencyUnavailable, SessionEnded
from shared.limits import admission
from shared.limits.admission import (
    Admission,
    Admissions,
    Window,
    day_window,
    minute_window,
    month_window,
    streams_at_once,
)
from shared.news.ended_sessions import EndedSessions
from shared.valkey import open_cache
from tests.support.engines import ValkeyServer, running_valkey

NOW = datetime(2030, 5, 17, 12, 30, 30, tzinfo=UTC)
MINUTE = minute_window("minute", 10, NOW)
MONTH = month_window("characters", 1000, NOW, amount=100)
AT_ONCE = streams_at_once(3, NOW)


@pytest.fixture(scope="module")
def small_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """As the suite starts one, to its policy when it is full."""
    with running_valkey(tmp_path_factory.mktemp("small")) as server:
        yield server


@pytest.fixture
async def cache(small_valkey: ValkeyServer) -> AsyncIterator[Redis]:
    cache = open_cache(small_valkey.url)
    await cache.flushall()
    yield cache
    await cache.config_set("maxmemory", "1gb")
    await cache.aclose()


@pytest.fixture
def admissions(cache: Redis, monkeypatch: pytest.MonkeyPatch) -> Admissions:
    # So that each call asks, whatever the one before has heard.
    monkeypatch.setattr(admission, "_OPEN_SECONDS", 0.0)
    return Admissions(cache)


async def fill(cache: Redis) -> set[bytes]:
    """Until it takes nothing more. What it holds then."""
    most = (await cache.info("memory"))["used_memory"] + (1 << 20)
    await cache.config_set("maxmemory", most)
    with pytest.raises(OutOfMemoryError):
        for _ in range(200):  # three times its room
            await cache.set(f"ballast:{uuid4()}", b"x" * 16_384)
    # Connections' buffers count, too, and shrink: it stays full without them.
    await cache.config_set("maxmemory", most - (1 << 18))
    return await names(cache)


async def names(cache: Redis) -> set[bytes]:
    return {name async for name in cache.scan_iter(count=1000)}


async def make_room(cache: Redis) -> None:
    await cache.config_set("maxmemory", "1gb")


async def admit(
    admissions: Admissions,
    *windows: Window,
    streams: Window | None = None,
    fallback_limit: int | None = None,
) -> Admission:
    return await admissions.admit(
        "ada",
        windows or (MINUTE, MONTH),
        reservation=str(uuid4()),
        claimed_tier="free",
        streams=streams,
        fallback_limit=fallback_limit,
    )


async def used(admissions: Admissions) -> list[int]:
    return [state.used for state in await admissions.standing("ada", (MINUTE, MONTH))]


async def test_it_drops_nothing_and_can_still_be_read(cache: Redis, admissions: Admissions) -> None:
    await admit(admissions)
    held = await fill(cache)
    with pytest.raises(OutOfMemoryError):
        await cache.set("one", b"x")
    assert await names(cache) == held
    assert await used(admissions) == [1, 100]


async def test_who_has_no_local_limit_is_refused_and_nothing_of_it_is_counted(
    cache: Redis, admissions: Admissions
) -> None:
    await admit(admissions)
    held = await fill(cache)
    for windows in ((MINUTE, MONTH), (MINUTE, day_window("day", 5, NOW))):
        with pytest.raises(DependencyUnavailable):
            await admit(admissions, *windows)
    assert await used(admissions) == [1, 100]
    assert await names(cache) == held


async def test_who_pays_goes_on_within_a_local_limit(cache: Redis, admissions: Admissions) -> None:
    await fill(cache)
    for _ in range(2):
        assert (await admit(admissions, fallback_limit=2)).locally is not None
    with pytest.raises(DependencyUnavailable):
        await admit(admissions, fallback_limit=2)


async def test_streams_are_counted_or_refused_but_never_let_in_for_nothing(
    cache: Redis, admissions: Admissions
) -> None:
    await admit(admissions, streams=AT_ONCE)
    await fill(cache)
    admitted = 0
    for _ in range(5):
        with suppress(DependencyUnavailable):
            admitted += (await admit(admissions, streams=AT_ONCE)).refused is None
    assert await used(admissions) == [1 + admitted, 100 * (1 + admitted)]
    assert admitted <= 2


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("characters", [30, 700])
async def test_what_was_used_is_settled_once_now_or_when_there_is_room(
    cache: Redis, admissions: Admissions, characters: int, is_stream: bool
) -> None:
    running = await admit(admissions, streams=AT_ONCE if is_stream else None)
    await fill(cache)
    for _ in range(2):
        await admissions.settle("ada", running.reservation, [(MONTH, characters)])
    await make_room(cache)
    await admissions.renew({})
    assert await used(admissions) == [1, characters]


async def test_a_reservation_is_given_back_once_or_stays_used(
    cache: Redis, admissions: Admissions
) -> None:
    first, second = await admit(admissions), await admit(admissions)
    await fill(cache)
    for _ in range(2):
        await admissions.refund("ada", first)
    assert await used(admissions) in ([1, 100], [2, 200])
    await make_room(cache)
    await admissions.refund("ada", second)
    await admissions.refund("ada", first)
    assert await used(admissions) == [0, 0]


async def test_an_ended_session_stays_ended_and_the_news_of_one_is_told_again(
    cache: Redis,
) -> None:
    sessions, before, meanwhile = EndedSessions(cache), uuid4(), uuid4()
    await sessions.repeat([before])
    await fill(cache)
    await sessions.tell([meanwhile])
    with pytest.raises(DependencyUnavailable):
        await sessions.repeat([before, meanwhile])
    with pytest.raises(SessionEnded):
        await sessions.check(before)
    await make_room(cache)
    await sessions.repeat([before, meanwhile])
    with pytest.raises(SessionEnded):
        await sessions.check(meanwhile)
