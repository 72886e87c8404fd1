"""Forgetting what is over, and summing up how everyone is."""

import asyncio
from datetime import timedelta

from services.auth.actions.check_health import CheckHealth
from services.auth.actions.forget_expired import ForgetExpired
from services.auth.domain.attempts import Failures
from services.auth.domain.ports import ServiceState
from tests.support.auth import NOON, Memory, StoppedClock, a_sign_in, a_user

DAY = timedelta(days=1)


async def test_only_what_is_long_over_is_forgotten() -> None:
    user = a_user()
    live, lately, long_ago, expired = (
        a_sign_in(user),
        a_sign_in(user, ended_at=NOON - DAY),
        a_sign_in(user, ended_at=NOON - 31 * DAY),
        a_sign_in(user, expires_at=NOON - 31 * DAY),
    )
    memory = Memory(
        failures={"over": Failures(3, NOON - DAY), "running": Failures(3, NOON + DAY)}
    ).keep(user, live, lately, long_ago, expired)
    await ForgetExpired(memory.work, StoppedClock())()
    assert set(memory.devices) == {live.id, lately.id}
    assert set(memory.failures) == {"running"}
    assert set(memory.accounts) == {user.id}


async def test_it_goes_on_until_all_is_forgotten() -> None:
    user = a_user()
    old = [a_sign_in(user, ended_at=NOON - 31 * DAY) for _ in range(10_001)]
    memory = Memory().keep(*old)
    await ForgetExpired(memory.work, StoppedClock())()
    assert memory.devices == {}


async def test_all_services_are_asked_at_once() -> None:
    together = asyncio.Barrier(3)

    def probe(state: ServiceState):  # type: ignore[no-untyped-def]
        async def ask() -> ServiceState:
            await together.wait()
            return state

        return ask

    states = {
        "auth": ServiceState.OK,
        "chat": ServiceState.NOT_READY,
        "voice": ServiceState.UNREACHABLE,
    }
    check = CheckHealth({name: probe(state) for name, state in states.items()}, StoppedClock())
    assert await asyncio.wait_for(check(), 5) == states


async def test_however_many_ask_the_services_are_asked_once_a_second() -> None:
    asked, clock = list[int](), StoppedClock()

    async def probe() -> ServiceState:
        asked.append(1)
        await asyncio.sleep(0)
        return ServiceState.OK if len(asked) < 2 else ServiceState.NOT_READY

    check = CheckHealth({"chat": probe}, clock)
    answers = await asyncio.gather(*(check() for _ in range(50)))
    assert answers == [{"chat": ServiceState.OK}] * 50
    clock.forward(timedelta(milliseconds=999))
    await check()
    assert len(asked) == 1
    clock.forward(timedelta(milliseconds=1))
    assert await check() == {"chat": ServiceState.NOT_READY}
    assert len(asked) == 2


async def test_whoever_leaves_while_the_services_are_asked_keeps_nobody_waiting() -> None:
    gone = asyncio.Event()

    async def probe() -> ServiceState:
        if not gone.is_set():
            await asyncio.Event().wait()
        return ServiceState.OK

    check = CheckHealth({"chat": probe}, StoppedClock())
    leaving, staying = asyncio.create_task(check()), asyncio.create_task(check())
    await asyncio.sleep(0)
    gone.set()
    leaving.cancel()
    assert await asyncio.wait_for(staying, 5) == {"chat": ServiceState.OK}
    assert leaving.cancelled()
