"""Voice's worker, and the replicas that hear from it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from deploy.companion.ports import free_port
from services.voice.storage import speeches
from services.voice.tasks import listen
from services.voice.wiring import Wired, renewal_pause, wire
from shared.errors import DependencyUnavailable
from shared.events import Fact
from shared.events.key import KeyRevoked
from shared.ids import UserId
from shared.messaging import batch as batches
from shared.messaging.consumer import Consumer
from shared.news.revocations import ValkeyRevocations
from shared.revocation import Revocation
from shared.valkey import open_cache, open_listener
from tests.support.voice import a_hold
from tests.support.voice_service import Person, Surroundings, Voice, running_voice

RACHEL = "21m00Tcm4TlvDq8ikWAM"
LONG = "A long story. [[sim:chunks=400,delay_ms=20]]"


@asynccontextmanager
async def worker(surroundings: Surroundings) -> AsyncIterator[tuple[Wired, Consumer]]:
    """What a worker child holds."""
    async with wire(surroundings.settings()) as wired:
        yield wired, Consumer(listen, wired.actions, wired.database)


def revoked(user_id: UUID, *, provider: str = "elevenlabs", at: datetime | None = None) -> object:
    """A message that says so, as it comes from the broker."""
    event = KeyRevoked(user_id=user_id, key_id=uuid4(), provider=provider, key_version=1)
    fact = Fact(event=event, subject=user_id, tier="pro", time=at or datetime.now(UTC))
    epoch = uuid4()
    return batches.to_wire("keyvault", epoch, [fact.sent_as(epoch, 1).to_wire()])


async def test_the_worker_has_a_queue_per_tier_and_the_sweeper() -> None:
    queues = {queue.name for queue in listen.queues("redis://127.0.0.1/0")}
    assert {"voice.keys.free", "voice.keys.pro", "voice.keys.enterprise"} <= queues
    assert {"voice.replay.free", "voice.jobs"} <= queues
    assert "voice.jobs.settle_orphans" in listen.jobs


async def test_a_process_withdraws_what_was_left_by_one_task(surroundings: Surroundings) -> None:
    async with worker(surroundings) as (wired, _):
        assert wired.actions.speak.withdraw is wired.actions.speak_live.withdraw


async def test_a_process_that_leaves_takes_back_what_it_left_before(
    voice: Voice, surroundings: Surroundings
) -> None:
    hold = a_hold(created_at=datetime.now(UTC))
    async with worker(surroundings) as (wired, _):
        assert await speeches.SqlSpeeches(wired.database).hold(hold)
        wired.actions.speak.withdraw(hold, DependencyUnavailable("database"))
    [row] = await voice.database.fetch("select outcome from speech where id = $1", hold.id)
    assert row["outcome"] == "refused"


async def test_leases_are_renewed_before_the_sweeper_loses_patience(
    surroundings: Surroundings,
) -> None:
    async with worker(surroundings) as (wired, _):
        patience = wired.actions.settle_orphans.patience
    # Two seconds for a connection: a try that failed, a pause, and one that may take as long.
    one_try = 2 + speeches.PATIENCE_SECONDS
    pause = renewal_pause(surroundings.settings(VOICE_HOLD_LEASE_SECONDS=600))
    assert one_try + pause + one_try < patience.total_seconds()
    assert renewal_pause(surroundings.settings(VOICE_HOLD_LEASE_SECONDS=1)) < 0.5


async def test_a_revoked_key_ends_its_running_speeches_in_every_replica(
    voice: Voice, surroundings: Surroundings
) -> None:
    ada, grace = voice.person(), voice.person()

    async def hear(person: Person, client: httpx.AsyncClient) -> bytes:
        answer = await client.post(
            "/voice/speech", json={"text": LONG, "voice_id": RACHEL}, headers=person.headers
        )
        return answer.content

    async with running_voice(surroundings) as other, worker(surroundings) as (_, consumer):
        hers = [asyncio.create_task(hear(ada, each.client)) for each in (voice, other)]
        others = asyncio.create_task(hear(grace, voice.client))
        await voice.until(lambda rows: len(rows) == 2, ada)
        async with asyncio.timeout(5):
            while [served["chunks"] > 1 for served in ada.served()] != [True, True]:
                await asyncio.sleep(0.02)
        await consumer.receive("key.revoked", revoked(ada.id, provider="openai"))
        long_ago = datetime.now(UTC) - timedelta(minutes=1)
        await consumer.receive("key.revoked", revoked(ada.id, at=long_ago))
        assert not any(task.done() for task in hers)
        await consumer.receive("key.revoked", revoked(ada.id))
        for task in hers:
            with pytest.raises(httpx.RemoteProtocolError):
                await asyncio.wait_for(task, 5)
        assert [u["outcome"] for u in await voice.usage(ada)] == ["stopped", "stopped"]
        assert not others.done()
        others.cancel()
        await asyncio.gather(others, return_exceptions=True)
    await voice.until_settled(grace)


async def test_news_that_valkey_can_not_carry_are_let_go() -> None:
    revocation = Revocation(UserId(uuid4()), "elevenlabs", datetime.now(UTC))
    gone = "redis://127.0.0.1:1/0"
    async with open_cache(gone) as cache, open_listener(gone) as listener:
        revocations = ValkeyRevocations("voice", cache, listener)
        await asyncio.wait_for(revocations.announce([revocation]), 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(revocations.heard()), 0.2)


async def test_news_are_heard_past_what_can_not_be_read(surroundings: Surroundings) -> None:
    revocation = Revocation(UserId(uuid4()), "elevenlabs", datetime.now(UTC))
    url = surroundings.cache_url
    async with open_cache(url) as cache, open_listener(url) as listener:
        revocations = ValkeyRevocations("voice", cache, listener)
        heard = asyncio.ensure_future(anext(revocations.heard()))
        async with asyncio.timeout(5):
            while not heard.done():
                for noise in (b"", b"{", b"[]", b'{"user_id": 7}'):
                    await cache.publish("voice.revocations", noise)
                await revocations.announce([revocation])
                await asyncio.sleep(0.01)
        assert heard.result() == revocation


async def test_the_speeches_of_a_killed_replica_are_settled_once(
    voice: Voice, surroundings: Surroundings
) -> None:
    person, port = voice.person(), free_port()
    ports = ["--port", str(port), "--internal-port", str(free_port(avoid={port}))]
    process = subprocess.Popen(
        [sys.executable, "-m", "shared.http.serve", "services.voice.app", *ports],
        env={
            **surroundings.environment(VOICE_HOLD_LEASE_SECONDS=1),
            "PATH": os.environ["PATH"],
        },
        stdout=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await _until_it_answers(url)
        async with worker(surroundings) as (wired, _):
            sweep = replace(wired.actions.settle_orphans, patience=timedelta(seconds=1))
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                request = client.build_request(
                    "POST",
                    "/voice/speech",
                    json={"text": LONG, "voice_id": RACHEL},
                    headers=person.headers,
                )
                answer = await client.send(request, stream=True)
                pieces = answer.aiter_raw()
                await anext(pieces)
                # The lease of a second is renewed for as long as the replica lives.
                await voice.until(_is_renewed, person)
                assert await sweep() == 0
                process.send_signal(signal.SIGKILL)
                with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                    async for _ in pieces:
                        pass
                await answer.aclose()
            async with asyncio.timeout(5):
                while not await sweep():
                    await asyncio.sleep(0.1)
            assert await sweep() == 0
    finally:
        process.kill()
        process.wait()
    (usage,) = await voice.usage(person)
    assert (usage["outcome"], usage["source"]) == ("replica_lost", "counted")
    assert (usage["characters"], usage["sandbox"]) == (len(LONG), True)


def _is_renewed(speeches: list[Any]) -> bool:
    (speech,) = speeches
    lease: timedelta = speech["lease_expires_at"] - speech["created_at"]
    return lease > timedelta(seconds=1.5)


async def _until_it_answers(url: str) -> None:
    async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                await client.get(f"{url}/openapi.json")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_replica_settles_what_it_carries_before_it_stops(
    voice: Voice, surroundings: Surroundings
) -> None:
    person = voice.person()
    async with running_voice(surroundings) as stopping:
        listener = asyncio.create_task(stopping.say(person, LONG))
        await voice.until(lambda rows: len(rows) == 1, person)
        async with asyncio.timeout(5):
            while not any(served["chunks"] for served in person.served()):
                await asyncio.sleep(0.02)
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
    (usage,) = await voice.usage(person)
    assert usage["outcome"] in {"client_gone", "stopped"}


async def test_client_and_sweeper_at_the_same_moment_settle_once(
    voice: Voice, surroundings: Surroundings
) -> None:
    people = [voice.person() for _ in range(8)]
    async with worker(surroundings) as (wired, _):

        async def hear(person: Person) -> None:
            async with voice.client.stream(
                "POST",
                "/voice/speech",
                json={"text": LONG, "voice_id": RACHEL},
                headers=person.headers,
            ) as answer:
                await anext(answer.aiter_raw())
                await voice.database.execute(
                    "update speech set lease_expires_at = now() - interval '1 second'"
                    " where user_id = $1",
                    person.id,
                )

        sweeper = replace(wired.actions.settle_orphans, patience=timedelta(0))

        async def sweep() -> None:
            for _ in range(30):
                await sweeper()

        await asyncio.gather(*(hear(person) for person in people), sweep(), sweep())
    usage = [await voice.usage(person) for person in people]
    assert [len(each) for each in usage] == [1] * len(people)
