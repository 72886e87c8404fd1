"""How much services may use keys, and the stop of one whose use is unusual."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import structlog
from structlog.testing import LogCapture

from services.keyvault.actions import watch_uses
from services.keyvault.domain.errors import (
    KeyNotFound,
    NoSuchService,
    NotStopped,
    ServiceRateReached,
    ServiceStopped,
    UserRateReached,
)
from services.keyvault.domain.service_use import Standing, UseLimits, UseMeter
from shared.errors import DependencyUnavailable
from shared.ids import UserId
from tests.support.keyvault import NOON, Desk, a_grant, ada, an_open_desk

SECOND = timedelta(seconds=1)
PROVIDERS = {"chat": "openai", "voice": "elevenlabs"}


async def a_desk(*, users: int = 1, **limits: Any) -> tuple[Desk, list[UserId]]:
    desk = await an_open_desk(limits=UseLimits(**limits))
    people = [UserId(uuid4()) for _ in range(users)]
    for person in people:
        for provider in PROVIDERS.values():
            await desk.store_key(provider, f"sk-of-{person}", by=person, tier="free")
    return desk, people


async def use(desk: Desk, person: UserId, service: str = "chat") -> None:
    provider = PROVIDERS[service]
    grant = a_grant(person, service=service, provider=provider)
    await desk.use_key(grant, caller=person, provider=provider)


async def test_a_user_has_so_many_uses_a_minute_and_no_more() -> None:
    desk, (person,) = await a_desk(uses_per_user_minute=3)
    for _ in range(3):
        await use(desk, person)

    with pytest.raises(UserRateReached):
        await use(desk, person)

    assert len(desk.key_uses.noted) == 3
    desk.clock.forward(timedelta(minutes=1))
    await use(desk, person)


async def test_a_service_has_so_many_uses_a_second_and_no_more() -> None:
    desk, people = await a_desk(users=4, uses_per_second=3)
    for person in people[:3]:
        await use(desk, person)

    with pytest.raises(ServiceRateReached):
        await use(desk, people[3])
    await use(desk, people[3], service="voice")

    desk.clock.forward(SECOND)
    await use(desk, people[3])


def spent(meter: UseMeter, second: int, wanted: int) -> int:
    at, given = NOON + second * SECOND, 0
    for _ in range(wanted):
        try:
            meter.admit("chat", at)
        except ServiceRateReached:
            break
        given += 1
    return given


def after_news(meters: list[UseMeter], second: int) -> None:
    at = NOON + second * SECOND
    told = {meter: meter.take(at).per_second(at).get("chat", 0) for meter in meters}
    for meter in meters:
        elsewhere = sum(uses for other, uses in told.items() if other is not meter)
        meter.learn([Standing("chat", elsewhere=elsewhere, processes=len(meters))])


def test_processes_share_a_limit_from_the_first_news_of_each_other() -> None:
    meters = [UseMeter(UseLimits(uses_per_second=100), NOON) for _ in range(3)]
    assert [spent(meter, 0, 1000) for meter in meters] == [100, 100, 100]
    for second in range(1, 10):
        after_news(meters, second)
        assert sum(spent(meter, second, 1000) for meter in meters) <= 102


def test_what_one_process_leaves_another_may_use() -> None:
    busy, idle = (UseMeter(UseLimits(uses_per_second=100), NOON) for _ in range(2))
    for second in range(1, 4):
        after_news([busy, idle], second)
        assert (spent(busy, second, 1000), spent(idle, second, 10)) in {(100, 10), (90, 10)}
    after_news([busy, idle], 4)
    assert (spent(busy, 4, 1000), spent(idle, 4, 1000)) == (90, 50)


def test_no_limit_is_no_limit() -> None:
    meter = UseMeter(UseLimits(), NOON)
    after_news([meter], 0)
    assert spent(meter, 0, 10_000) == 10_000


def test_without_a_limit_nothing_is_unusual() -> None:
    assert not Standing("chat", users=10_000).is_unusual(UseLimits(users_per_window=0))
    assert Standing("chat", users=2).is_unusual(UseLimits(users_per_window=1))
    assert not Standing("chat", users=1).is_unusual(UseLimits(users_per_window=1))


async def test_a_service_that_serves_unusually_many_users_is_stopped() -> None:
    desk, people = await a_desk(users=4, users_per_window=3)
    for person in people[:3]:
        await use(desk, person)
        await use(desk, person)
    assert not any(standing.stop for standing in await desk.watch_uses())

    await use(desk, people[3])
    chat, voice = await desk.watch_uses()

    assert chat.stop is not None
    assert voice.stop is None
    assert "keys of 4 users within 10 minutes" in chat.stop.reason
    with pytest.raises(ServiceStopped):
        await use(desk, people[0])
    await use(desk, people[0], service="voice")


async def test_a_service_is_stopped_once_however_often_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A logger of its own: an application that ran before may have set the module's for good.
    lines = LogCapture()
    logger = structlog.wrap_logger(None, [lines], structlog.BoundLogger)
    monkeypatch.setattr(watch_uses, "log", logger)
    desk, people = await a_desk(users=2, users_per_window=1)
    for person in people:
        await use(desk, person)
    for _ in range(3):
        await desk.watch_uses()
    assert len(desk.store.stops) == 1
    assert [
        (line["event"], line["log_level"], line["stopped_service"]) for line in lines.entries
    ] == [("service_stopped", "error", "chat")]


async def test_users_count_although_the_database_was_away_for_a_moment() -> None:
    desk, people = await a_desk(users=2, users_per_window=1)
    await use(desk, people[0])
    desk.store.is_down = True
    with pytest.raises(DependencyUnavailable):
        await desk.watch_uses()
    desk.store.is_down = False
    await use(desk, people[1])
    assert (await desk.watch_uses())[0].stop is not None


async def test_a_refused_use_serves_nobody() -> None:
    desk, _ = await a_desk(users_per_window=1)
    for _ in range(5):
        with pytest.raises(KeyNotFound):
            await use(desk, UserId(uuid4()))
    assert (await desk.watch_uses())[0].users == 0


async def test_an_operator_stops_and_resumes_a_service() -> None:
    desk, (person,) = await a_desk()
    assert await desk.stop_service("chat", by="op", reason="drill")
    assert not await desk.stop_service("chat", by="op", reason="again")
    with pytest.raises(ServiceStopped):
        await use(desk, person)

    await desk.resume_service("chat", by="op")

    await use(desk, person)
    _, (stop,) = await desk.show_services(most=5)
    assert (stop.stopped_by, stop.reason, stop.resumed_by) == ("op", "drill", "op")


async def test_a_resumed_service_starts_counting_anew() -> None:
    desk, people = await a_desk(users=3, users_per_window=1)
    for person in people:
        await use(desk, person)
    await desk.watch_uses()
    await desk.resume_service("chat", by="op")
    assert (await desk.watch_uses())[0].stop is None


async def test_only_what_uses_keys_is_stopped_and_only_what_is_stopped_resumes() -> None:
    desk = await an_open_desk()
    with pytest.raises(NoSuchService):
        await desk.stop_service("billing", by="op", reason="x")
    with pytest.raises(NotStopped):
        await desk.resume_service("chat", by="op")


async def test_a_stopped_service_hears_nothing_of_keys() -> None:
    desk = await an_open_desk()
    await desk.stop_service("chat", by="op", reason="drill")
    with pytest.raises(ServiceStopped):
        await use(desk, ada)
