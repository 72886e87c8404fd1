"""Answers followed, resumed and stopped from other replicas and devices, through SSE."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.chat.api.follower import Follower
from services.chat.domain import devices
from services.chat.wiring import wire
from shared.ids import UserId
from shared.limits.current_tiers import CurrentTiers
from shared.news.ended_sessions import EndedSessions
from shared.valkey import open_cache
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.chat_replicas import (
    Seen,
    another_replica,
    chat_process,
    events_of,
    next_events,
    text_of,
)
from tests.support.engines import running_valkey
from tests.support.suite import eventually
from tests.support.tokens import serving

SLOWLY = "[[sim:chunks=40,delay_ms=25]] one two three"
# Until somebody stops it.
ON_AND_ON = "[[sim:chunks=400,delay_ms=25]] on and on"


@pytest.fixture(scope="module")
async def elsewhere(chat: ChatSuite) -> AsyncIterator[str]:
    """Another replica's URL."""
    async with another_replica(chat.settings) as (url, _process):
        yield url


@asynccontextmanager
async def asking(user: ChatUser, content: str = SLOWLY, **parts: Any) -> AsyncIterator[Any]:
    """A question under way: the lines of its stream, which has begun to be written."""
    path = f"/chat/sessions/{user.session_id}/messages"
    body = {"content": content, "stream": True}
    async with user.client.stream("POST", path, json=body, **parts) as answer:
        assert answer.status_code == 200, await answer.aread()
        lines = answer.aiter_lines()
        first = await next_events(lines, "delta")
        yield lines, first


def at(user: ChatUser, url: str = "") -> str:
    return f"{url}/chat/sessions/{user.session_id}/stream"


def without_time(message: dict[str, Any]) -> dict[str, Any]:
    """The moment of its writing is the replica's in the event, the database's in the record."""
    return {name: value for name, value in message.items() if name != "created_at"}


async def followed(user: ChatUser, url: str = "", **parts: Any) -> list[Seen]:
    answer = await user.client.get(at(user, url), **parts)
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith(": ping\n\n")
    return events_of(answer.text)


async def test_two_devices_on_two_replicas_see_identical_bytes(
    chat: ChatSuite, elsewhere: str
) -> None:
    async with chat.user() as user, asking(user) as (lines, _):
        here, there = await asyncio.gather(
            user.client.get(at(user)), user.client.get(at(user, elsewhere))
        )
        assert here.content == there.content
        events = events_of(here.text)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        assert events[-1].name == "done"
        assert text_of(events) == events[-1].data["message"]["content"]
        rest = await next_events(lines, "done")
        assert rest[-1] == events[-1]


async def test_every_position_is_resumed_with_exactly_what_is_missing(
    chat: ChatSuite, elsewhere: str
) -> None:
    async with chat.user() as user, asking(user, "[[sim:chunks=12,delay_ms=30]] a b c"):
        # Each begins while the answer is written, by the header or by the parameter.
        resumed = await asyncio.gather(
            *(
                followed(user, elsewhere, headers={"last-event-id": str(position)})
                if position % 2
                else followed(user, elsewhere, params={"after": position})
                for position in range(18)
            )
        )
        whole = resumed[0]
        for position, events in enumerate(resumed):
            assert events == whole[position:], position
        again = await followed(user, elsewhere, params={"after": 3})
        assert again == whole[3:]


async def test_it_can_be_stopped_from_another_replica(chat: ChatSuite, elsewhere: str) -> None:
    async with chat.user() as user, asking(user, ON_AND_ON) as (lines, _):
        following = asyncio.create_task(followed(user, elsewhere))
        began = time.monotonic()
        answer = await user.client.post(f"{elsewhere}/chat/sessions/{user.session_id}/stop")
        assert answer.status_code == 200, answer.text
        assert time.monotonic() - began < 5  # of ten that it would take
        body = answer.json()
        assert body["message"]["status"] == "interrupted"
        assert body["finish_reason"] == "stopped"
        assert body["usage"]["source"] == "estimated"
        last = (await next_events(lines, "done"))[-1].data
        assert without_time(last["message"]) == without_time(body["message"])
        assert (await following)[-1].data == last
        # What was told by then, and pieces that waited for company were not.
        assert body["message"]["content"].startswith("You ")

        again = await user.client.post(f"/chat/sessions/{user.session_id}/stop")
        assert (again.status_code, again.json()["code"]) == (409, "no_running_turn")
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "stopped"


async def test_it_can_be_stopped_where_it_runs(chat: ChatSuite) -> None:
    async with chat.user() as user, asking(user, ON_AND_ON) as (lines, _):
        answer = await user.client.post(f"/chat/sessions/{user.session_id}/stop")
        assert answer.status_code == 200, answer.text
        assert (await next_events(lines, "done"))[-1].data["message"] == answer.json()["message"]


async def test_a_closed_tab_ends_nothing(chat: ChatSuite, elsewhere: str) -> None:
    async with chat.user() as user:
        async with asking(user) as (_, first):
            pass
        events = await followed(user, elsewhere, params={"after": first[-1].number})
        assert events[-1].name == "done"
        assert events[-1].data["message"]["status"] == "done"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "done"


async def test_a_plain_answer_can_be_followed_too(chat: ChatSuite, elsewhere: str) -> None:
    async with chat.user() as user:
        asked = asyncio.create_task(user.ask("[[sim:first_ms=300]] hello"))
        await eventually(lambda: chat.holds(user.id), bool)
        events = await followed(user, elsewhere)
        assert (await asked).json()["message"] == events[-1].data["message"]
        assert [event.name for event in events] == ["start", "delta", "usage", "done"]


async def test_what_the_log_has_forgotten_comes_from_the_database(
    chat: ChatSuite, elsewhere: str
) -> None:
    async with chat.user() as user:
        answer = events_of((await user.ask("one two", stream=True)).text)
        turn_id = answer[0].data["turn_id"]
        assert await followed(user, elsewhere) == answer
        async with wire(chat.settings) as wired:
            await wired.live.log._cache.delete(f"turn:{{{turn_id}}}")
        await chat.database.execute(
            "update generation set settled_at = settled_at - interval '1 minute' where id = $1",
            turn_id,
        )
        events = await followed(user, elsewhere)
        assert [e.name for e in events] == ["start", "delta", "usage", "done"]
        assert [e.number for e in events] == [1, 2, 3, 4]
        assert events[1].data["text"] == text_of(answer)
        # What the vendor did not get to see is told once.
        assert events[0].data == answer[0].data | {"messages_left_out": None}
        told, stored = dict(answer[-1].data), dict(events[-1].data)
        assert without_time(told.pop("message")) == without_time(stored.pop("message"))
        assert told == stored
        seen_some = await followed(user, elsewhere, params={"after": 2})
        assert [(e.number, e.name) for e in seen_some] == [(3, "usage"), (4, "done")]
        by_name = await followed(user, elsewhere, params={"turn_id": turn_id})
        assert by_name == events


async def test_there_is_nothing_to_follow_or_stop(chat: ChatSuite) -> None:
    async with chat.user() as user, chat.user() as stranger:
        missing = await user.client.get(at(user))
        assert (missing.status_code, missing.json()["code"]) == (404, "no_turn")
        stop = await user.client.post(f"/chat/sessions/{user.session_id}/stop")
        assert (stop.status_code, stop.json()["code"]) == (409, "no_running_turn")
        await user.ask("hello")
        for method, path in (("GET", at(user)), ("POST", at(user).replace("stream", "stop"))):
            theirs = await stranger.client.request(method, path)
            assert (theirs.status_code, theirs.json()["code"]) == (404, "session_not_found")
        other = await user.client.get(at(user), params={"turn_id": str(uuid4())})
        assert (other.status_code, other.json()["code"]) == (404, "no_turn")
        for wrong in ({"last-event-id": "x"}, {"last-event-id": "-1"}):
            assert (await user.client.get(at(user), headers=wrong)).status_code == 422


async def test_a_repeated_request_follows_the_running_answer_and_later_its_record(
    chat: ChatSuite, elsewhere: str
) -> None:
    key = {"idempotency-key": uuid4().hex}
    async with chat.user() as user, asking(user, headers=key) as (lines, first):
        path = f"{elsewhere}/chat/sessions/{user.session_id}/messages"
        body = {"content": SLOWLY, "stream": True}
        second = await user.client.post(path, json=body, headers=key)
        assert second.headers["idempotency-replayed"] == "true"
        assert '"openai.requests_per_minute";r=4;' in second.headers["ratelimit"]
        rest = await next_events(lines, "done")
        assert events_of(second.text) == first + rest
        third = await user.client.post(path, json=body, headers=key)
        assert events_of(third.text) == first + rest
        assert third.headers["ratelimit-policy"] == second.headers["ratelimit-policy"]
        other = await user.client.post(path, json=body | {"content": "else"}, headers=key)
        assert other.json()["code"] == "idempotency_key_reused"
        assert len(await chat.usage_events(user.id)) == 1


async def test_a_killed_replica_is_an_interruption_elsewhere(
    chat: ChatSuite, elsewhere: str
) -> None:
    async with (
        chat.user() as user,
        chat_process(chat.settings, CHAT_HOLD_LEASE_SECONDS="5") as doomed,
    ):
        path = f"{doomed.url}/chat/sessions/{user.session_id}/messages"
        body = {"content": "[[sim:chunks=400,delay_ms=50]] on and on", "stream": True}

        async def listen() -> None:
            async with user.client.stream("POST", path, json=body) as answer:
                async for _ in answer.aiter_lines():
                    pass

        listening = asyncio.create_task(listen())
        await eventually(lambda: chat.holds(user.id), bool)
        following = asyncio.create_task(followed(user, elsewhere))
        await asyncio.sleep(0.6)
        doomed.kill()
        with pytest.raises(httpx.HTTPError):
            await listening
        async with wire(chat.settings) as worker:
            sweep = replace(worker.actions.settle_orphans, patience=timedelta(seconds=1))

            async def outcomes() -> list[str]:
                # It may find what other tests have left, too.
                await sweep()
                return [row["outcome"] for row in await chat.holds(user.id)]

            await eventually(outcomes, lambda seen: seen == ["replica_lost"], seconds=25)
        events = await asyncio.wait_for(following, 10)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        assert events[1].name == "delta"
        last = events[-1]
        assert (last.name, last.data["problem"]["code"]) == ("interrupted", "answer_lost")
        assert last.data["problem"]["outcome"] == "replica_lost"
        # What had been written down of it is kept, and is what its followers saw.
        assert last.data["message"]["status"] == "interrupted"
        assert last.data["message"]["content"] == text_of(events) != ""


async def test_a_stalled_valkey_is_not_felt_where_the_answer_is_written(
    chat: ChatSuite, tmp_path: Path
) -> None:
    with running_valkey(tmp_path) as server:
        settings = chat.settings.model_copy(
            update={"cache_url": type(chat.settings.cache_url)(server.url)}
        )
        async with chat.user(tier="pro") as user, another_replica(settings) as (url, _):
            path = f"{url}/chat/sessions/{user.session_id}/messages"
            body = {"content": "[[sim:chunks=30,delay_ms=20]] on", "stream": True}
            arrivals: list[float] = []
            async with user.client.stream("POST", path, json=body) as answer:
                lines = answer.aiter_lines()
                await next_events(lines, "delta")
                os.kill(server.child.pid, signal.SIGSTOP)
                try:
                    async for line in lines:
                        if line.startswith("event: delta"):
                            arrivals.append(time.monotonic())
                        if line.startswith("event: done"):
                            break
                finally:
                    os.kill(server.child.pid, signal.SIGCONT)
            gaps = [b - a for a, b in pairwise(arrivals)]
            assert len(arrivals) > 20
            assert max(gaps) < 0.5


async def test_following_ends_with_the_sign_in_of_who_follows(chat: ChatSuite) -> None:
    sid = uuid4()
    async with chat.user() as user, asking(user, ON_AND_ON) as (lines, _):
        headers = chat.mint.headers(user.id, sid=str(sid))
        async with (
            httpx.AsyncClient(headers=headers, trust_env=False) as other,
            other.stream("GET", at(user, chat.url)) as following,
            open_cache(chat.settings.cache_url.get_secret_value()) as cache,
        ):
            theirs = following.aiter_lines()
            await next_events(theirs, "delta")
            await EndedSessions(cache).tell([sid])
            with pytest.raises(httpx.RemoteProtocolError):
                await asyncio.wait_for(next_events(theirs, "done"), 1)
        # It was not theirs to end.
        await next_events(lines, "delta")
        assert (await user.client.post(at(user).replace("stream", "stop"))).status_code == 200


async def test_a_user_has_a_number_of_streams(
    chat: ChatSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MOST_FOR_A_USER", 1)
    async with chat.user() as user, asking(user, ON_AND_ON) as (lines, _):
        async with user.client.stream("GET", at(user)) as first:
            theirs = first.aiter_lines()
            await next_events(theirs, "delta")
            refused = await user.client.get(at(user))
            assert refused.status_code == 429, refused.text[:500]
            assert refused.json()["code"] == "too_many_sockets"
            await next_events(theirs, "delta")
        assert (await user.client.post(at(user).replace("stream", "stop"))).status_code == 200
        await next_events(lines, "done")
        assert (await followed(user))[-1].name == "done"


class SlowClient:
    """Follows an answer and reads nothing of it until it is told to."""

    def __init__(self, user: ChatUser, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(10)
        self._socket.connect((host, int(port)))
        token = user.client.headers["authorization"]
        head = f"GET {at(user)} HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\r\n"
        self._socket.sendall(head.encode())

    async def rest(self) -> bytes:
        """Everything, until the end of the answer or of the connection."""
        return await asyncio.to_thread(self._rest)

    def _rest(self) -> bytes:
        found = b""
        while not found.endswith(b"0\r\n\r\n"):
            piece = self._socket.recv(1 << 16)
            if not piece:
                break
            found += piece
        self._socket.close()
        return found


async def test_a_client_that_does_not_read_slows_nobody_and_is_dropped(
    chat: ChatSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Follower, "ping_seconds", 0.1)
    # Four hundred kilobytes with the message at the end: more than the buffers in between take.
    content = "[[sim:chunks=200,delay_ms=2]] " + ("x" * 95 + " ") * 1980
    async with (
        chat.user(tier="enterprise") as user,
        serving(chat.process.public, send_buffer=4096) as url,
    ):
        async with asking(user, content) as (lines, _):
            patient, stuck = SlowClient(user, url), SlowClient(user, url)
            began = time.monotonic()
            done = (await next_events(lines, "done"))[-1]
            assert time.monotonic() - began < 5
        assert len(done.data["message"]["content"]) > 180_000
        # The turn is over and out of the registry; whoever reads late still gets the rest.
        assert b"event: done" in await patient.rest()
        monkeypatch.setattr(Follower, "patience_seconds", 0.3)
        await asyncio.sleep(0.7)
        cut = await stuck.rest()
        assert b"event: delta" in cut
        assert b"event: done" not in cut


async def test_whoever_reads_an_answer_hears_of_their_new_tier(
    chat: ChatSuite, elsewhere: str
) -> None:
    async with (
        chat.user() as user,
        open_cache(chat.settings.cache_url.get_secret_value()) as cache,
        asking(user) as (lines, _),
    ):
        await CurrentTiers(cache).tell({UserId(user.id): "pro"})
        async for line in lines:
            if line == "event: tier_changed":
                assert await anext(lines) == 'data: {"tier":"pro"}'
                break
        assert (await next_events(lines, "done"))[-1].name == "done"
