"""Two users at once, a thousand times: nobody's call ever goes out with the other's key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from uuid import UUID

from tests.integration.keyvault.harness import Keyvault, Surroundings, a_user, running

CALLS = 1_000
_AT_ONCE = 16
NO_LIMITS = {"uses_per_second": 0, "uses_per_user_minute": 0}


async def test_each_call_carries_its_own_users_key(around: Surroundings) -> None:
    ada, grace = a_user(), a_user()
    async with running(around, **NO_LIMITS) as keyvault:
        for user in (ada, grace):
            assert (await keyvault.put(user, key_of(user))).status_code == 202
        order = [ada, grace] * (CALLS // 2)
        random.Random(4).shuffle(order)
        carried = await asyncio.gather(*calls(keyvault, order))
    assert carried == [f"Bearer {key_of(user)}" for user in order]


async def test_nobody_is_given_the_others_key_by_naming_them(around: Surroundings) -> None:
    """One's grant with the other's token, in the midst of calls that are in order."""
    ada, grace = a_user(), a_user()
    async with running(around, **NO_LIMITS) as keyvault:
        for user in (ada, grace):
            await keyvault.put(user, key_of(user))
        fair = calls(keyvault, [ada, grace] * 10)
        crossed = await asyncio.gather(
            *(
                keyvault.egress(user, token_of=other)
                for user, other in ((ada, grace), (grace, ada)) * 10
            )
        )
        await asyncio.gather(*fair)
    assert [answer.status_code for answer in crossed] == [403] * 20


def key_of(user: UUID) -> str:
    return f"key-of-{user}"


def calls(keyvault: Keyvault, order: Sequence[UUID]) -> list[asyncio.Task[str]]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(user: UUID) -> str:
        async with gate:
            answer = await keyvault.egress(user)
            assert answer.status_code == 200, answer.text
            return str(answer.headers["authorization"])

    return [asyncio.create_task(one(user)) for user in order]
