"""While a hold is written the vendor's call waits without its body: on a real database, whose table
of holds is locked for so long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from services.chat.wiring import wire
from shared.ids import UserId
from shared.news.revocations import ValkeyRevocations
from shared.revocation import Revocation
from shared.valkey import open_cache, open_listener
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.integration.chat.test_socket import public_state
from tests.support.chat_replicas import chat_process
from tests.support.waiting import eventually, until, until_locked_out


@asynccontextmanager
async def held_up(chat: ChatSuite) -> AsyncIterator[None]:
    """Holds are waited for inside the block, as everything that would write one."""
    async with chat.database.connection() as connection, connection.transaction():
        await connection.execute("lock table generation in share mode")
        yield


async def warmed(chat: ChatSuite, user: ChatUser) -> tuple[int, int]:
    """With a connection to the egress that is free. Answers how many calls of this user were let
    through by then, and how many the vendor has served."""
    assert (await user.ask("hello")).status_code == 200
    return asked(chat, user), len(chat.simulator.served())


def asked(chat: ChatSuite, user: ChatUser) -> int:
    return sum(call.grant.user_id == user.id for call in chat.egress.calls)


async def test_the_key_is_asked_for_while_the_hold_is_written_and_nothing_is_served(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user:
        calls, served = await warmed(chat, user)
        async with held_up(chat):
            answer = asyncio.create_task(user.ask("what is a tooltip?"))
            await until(lambda: asked(chat, user) == calls + 1)
            await asyncio.sleep(0.1)
            assert len(chat.simulator.served()) == served
        assert (await answer).json()["message"]["content"] == "You said: what is a tooltip?"
        assert asked(chat, user) == calls + 1
        assert len(chat.simulator.served()) == served + 1
        assert len(await chat.usage_events(user.id)) == 2


async def test_a_client_that_goes_before_the_hold_stands_is_answered_in_its_session(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user:
        calls, served = await warmed(chat, user)
        async with held_up(chat):
            with pytest.raises(httpx.TimeoutException):
                await user.client.post(
                    f"/chat/sessions/{user.session_id}/messages",
                    json={"content": "gone"},
                    timeout=0.5,
                )
            assert asked(chat, user) == calls + 1
            assert len(chat.simulator.served()) == served
        await eventually(
            lambda: chat.holds(user.id),
            lambda rows: [row["outcome"] for row in rows] == ["done", "done"],
        )
        assert asked(chat, user) == calls + 1
        assert len(chat.simulator.served()) == served + 1
        assert len(await chat.usage_events(user.id)) == 2


async def test_a_database_that_stalls_costs_nothing_and_its_key_may_come_again(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user:
        calls, served = await warmed(chat, user)
        async with held_up(chat):
            answer = await user.ask("patience", headers={"idempotency-key": "once"})
            assert answer.status_code == 503, answer.text
            assert asked(chat, user) == calls + 1
        await eventually(
            lambda: chat.holds(user.id),
            lambda rows: all(row["state"] == "settled" for row in rows),
        )
        assert len(chat.simulator.served()) == served
        assert len(await chat.usage_events(user.id)) == 1
        # Until the hold that may have been written is taken back.
        again = await eventually(
            lambda: user.ask("patience", headers={"idempotency-key": "once"}),
            lambda answer: answer.status_code != 409,
        )
        assert again.json()["message"]["content"] == "You said: patience"
        assert len(chat.simulator.served()) == served + 1
        assert len(await chat.usage_events(user.id)) == 2


async def test_of_two_with_one_key_at_once_one_is_served(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        _, served = await warmed(chat, user)
        key = {"headers": {"idempotency-key": "twice"}}
        async with held_up(chat):
            both = [asyncio.create_task(user.ask("one of us", **key)) for _ in range(2)]
            await until_locked_out(chat.database, 2)
        statuses = sorted([answer.status_code for answer in await asyncio.gather(*both)])
        assert statuses == [200, 409]
        assert len(chat.simulator.served()) == served + 1
        assert len(await chat.usage_events(user.id)) == 2


async def test_keyvaults_no_leaves_nothing_behind(chat: ChatSuite) -> None:
    async with chat.user() as user:
        _, served = await warmed(chat, user)
        del chat.egress.keys[user.id, "openai"]
        async with held_up(chat):
            answer = asyncio.create_task(user.ask("without a key"))
            await until_locked_out(chat.database)
        assert (await answer).status_code == 409
        assert (await answer).json()["code"] == "no_usable_key"
        assert len(chat.simulator.served()) == served
        assert [row["outcome"] for row in await chat.holds(user.id)] == ["done", "refused"]
        assert len(await chat.usage_events(user.id)) == 1


async def test_a_key_that_is_withdrawn_while_the_hold_is_written_serves_nothing_more(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user:
        calls, served = await warmed(chat, user)
        async with held_up(chat):
            answer = asyncio.create_task(user.ask("with which key?"))
            await until(lambda: asked(chat, user) == calls + 1)
            del chat.egress.keys[user.id, "openai"]
            await withdrawn(chat, user)
        assert (await answer).json()["code"] == "no_usable_key"
        assert asked(chat, user) == calls + 1
        assert len(chat.simulator.served()) == served
        assert [row["outcome"] for row in await chat.holds(user.id)] == ["done", "refused"]
        assert len(await chat.usage_events(user.id)) == 1


async def withdrawn(chat: ChatSuite, user: ChatUser) -> None:
    """And the replica has heard of it."""
    running = public_state(chat).actions.take_turn.run.running
    url, before = chat.settings.cache_url.get_secret_value(), running.withdrawals
    async with open_cache(url) as cache, aclosing(open_listener(url)) as listener:
        gone = Revocation(UserId(user.id), "openai", datetime.now(UTC))
        await ValkeyRevocations("chat", cache, listener).announce([gone])
    await until(lambda: running.withdrawals > before)


async def test_a_replica_that_is_killed_between_head_and_hold_had_nothing_served(
    chat: ChatSuite,
) -> None:
    async with (
        chat.user() as user,
        chat_process(chat.settings, CHAT_HOLD_LEASE_SECONDS="5") as doomed,
    ):
        path = f"{doomed.url}/chat/sessions/{user.session_id}/messages"
        assert (await user.client.post(path, json={"content": "hello"})).status_code == 200
        calls, served = asked(chat, user), len(chat.simulator.served())
        async with held_up(chat):
            lost = asyncio.create_task(user.client.post(path, json={"content": "lost"}))
            await until(lambda: asked(chat, user) == calls + 1)
            doomed.kill()
            with pytest.raises(httpx.HTTPError):
                await lost
        async with wire(chat.settings) as worker:
            sweep = replace(worker.actions.settle_orphans, patience=timedelta(seconds=1))

            async def outcomes() -> list[str]:
                # The server may have written the hold all the same, for whom nobody renews it.
                await sweep()
                return [row["outcome"] for row in await chat.holds(user.id)]

            found = await eventually(outcomes, lambda seen: None not in seen, seconds=25)
        assert found in (["done"], ["done", "replica_lost"])
        assert len(chat.simulator.served()) == served
        # As ever, an estimate for a call that was never made.
        assert len(await chat.usage_events(user.id)) == len(found)
        assert (await user.ask("and now?")).status_code == 200
