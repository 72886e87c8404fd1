"""A hundred hearers at `WS /voice/realtime` at once: each is heard to its end and charged once, and
nothing of them stays."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from tests.support.voice_service import Person, Surroundings, Voice, running_voice
from tests.support.voice_sockets import VoiceSocket, at_realtime

USERS, SOCKETS_EACH = 10, 10
TEXT = "[[sim:chunks=5,delay_ms=20]] One of a hundred."


async def opened(stack: AsyncExitStack, voice: Voice, people: list[Person]) -> list[VoiceSocket]:
    tokens = [person.headers["authorization"].removeprefix("Bearer ") for person in people]
    return list(
        await asyncio.gather(
            *(
                stack.enter_async_context(at_realtime(voice.url, token))
                for token in tokens
                for _ in range(SOCKETS_EACH)
            )
        )
    )


async def tasks_of_an_idle_replica(voice: Voice) -> set[asyncio.Task[Any]]:
    """Once its lines to Valkey are open, which stay."""
    person = voice.person("enterprise")
    token = person.headers["authorization"].removeprefix("Bearer ")
    async with at_realtime(voice.url, token) as device:
        await spoken(device, leaves=False)
    await voice.until_settled(person)
    await asyncio.sleep(0.3)
    return asyncio.all_tasks()


async def spoken(device: VoiceSocket, *, leaves: bool) -> str:
    await device.utter(TEXT, format="pcm_16000", audio="binary")
    if leaves:
        while not isinstance(await device.next(), tuple):
            pass
        await device.connection.close()
        return "left"
    await device.until("done")
    return "heard" if device.audio() else "silent"


async def test_a_hundred_speak_at_once_and_nothing_of_them_stays(
    surroundings: Surroundings,
) -> None:
    async with running_voice(surroundings) as voice:
        people = [voice.person("enterprise") for _ in range(USERS)]
        before = await tasks_of_an_idle_replica(voice)
        async with AsyncExitStack() as stack:
            devices = await opened(stack, voice, people)
            ends = await asyncio.gather(
                *(spoken(device, leaves=n % 10 == 0) for n, device in enumerate(devices))
            )
        assert sorted(set(ends)) == ["heard", "left"]
        assert ends.count("heard") == USERS * (SOCKETS_EACH - 1)
        for person in people:
            usage = await voice.usage(person)
            assert sorted(line["outcome"] for line in usage) == ["client_gone"] + ["done"] * 9
            assert {line["characters"] for line in usage} == {(len(TEXT) + 2) // 2}, (
                "the quick model"
            )
            assert len({line["id"] for line in usage}) == SOCKETS_EACH
        async with asyncio.timeout(5):
            while left := asyncio.all_tasks() - before:
                await asyncio.wait(left)
