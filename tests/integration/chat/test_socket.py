"""`WS /chat/ws`: devices, rooms, and what closes a socket."""

from __future__ import annotations

import asyncio
import json
import socket as tcp
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from services.chat.actions.follow_turn import FollowTurn
from services.chat.api import device
from services.chat.domain import devices
from services.chat.domain.live import LiveTurn
from shared.http import socket_door
from shared.limits.current_tiers import CurrentTiers
from shared.news.ended_sessions import EndedSessions
from shared.valkey import open_cache
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.chat_replicas import another_replica, chat_process, events_of, next_events
from tests.support.devices import SocketDevice, a_device
from tests.support.engines import running_valkey
from tests.support.suite import eventually
from tests.support.tokens import serving

SLOWLY = "[[sim:chunks=20,delay_ms=25]] one two three"


@pytest.fixture(scope="module")
async def elsewhere(chat: ChatSuite) -> AsyncIterator[str]:
    """Another replica's URL."""
    async with another_replica(chat.settings) as (url, _process):
        yield url


def token_of(user: ChatUser) -> str:
    return user.client.headers["authorization"].removeprefix("Bearer ")


def new_token(chat: ChatSuite, user: ChatUser, **claims: Any) -> str:
    return chat.mint.token(user.id, tier=user.tier, **claims)


async def test_what_one_device_asks_every_device_hears(chat: ChatSuite, elsewhere: str) -> None:
    async with (
        chat.user() as user,
        a_device(chat.url, token_of(user)) as asking,
        a_device(chat.url, token_of(user)) as beside,
        a_device(elsewhere, headers={"authorization": f"Bearer {token_of(user)}"}) as far,
    ):
        assert (await beside.join(user.session_id))["data"] == {"turn_id": None}
        await far.join(user.session_id)
        await asking.say("send", session_id=user.session_id, content=SLOWLY, ref="q1")
        sent = await asking.until("sent")
        assert (sent["ref"], sent["data"]) == ("q1", {"replayed": False})
        turn_id = sent["turn_id"]
        last = [await d.until("done", turn_id=turn_id) for d in (asking, beside, far)]
        assert last[0] == last[1] == last[2]
        heard = asking.turn(turn_id)
        assert [number for number, _, _ in heard] == list(range(1, len(heard) + 1))
        assert heard == beside.turn(turn_id) == far.turn(turn_id)
        assert heard[0][1] == "start"
        # A stream of server-sent events tells the same.
        answer = await user.client.get(f"/chat/sessions/{user.session_id}/stream")
        assert [tuple(event) for event in events_of(answer.text)] == heard


async def test_a_turn_that_began_by_http_is_heard_too(chat: ChatSuite, elsewhere: str) -> None:
    async with (
        chat.user() as user,
        a_device(chat.url, token_of(user)) as near,
        a_device(elsewhere, token_of(user)) as far,
    ):
        await near.join(user.session_id)
        await far.join(user.session_id)
        answer = await user.ask(SLOWLY)
        for one in (near, far):
            done = await one.until("done")
            assert done["data"]["message"] == answer.json()["message"]


async def test_what_ends_while_a_device_rejoins_is_not_told_twice(
    chat: ChatSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard_to_its_end, follow = asyncio.Event(), FollowTurn.__call__

    async def slowly(self: FollowTurn, *what: Any, **which: Any) -> LiveTurn:
        found = await follow(self, *what, **which)
        await heard_to_its_end.wait()
        return found

    async with chat.user() as user, a_device(chat.url, token_of(user)) as one:
        await one.say("send", session_id=user.session_id, content="one")
        first = (await one.until("done"))["turn_id"]
        monkeypatch.setattr(FollowTurn, "__call__", slowly)
        await one.say("send", session_id=user.session_id, content=SLOWLY)
        second = (await one.until("delta"))["turn_id"]
        await one.say("join", session_id=user.session_id, turn_id=first, after=2)
        await one.until("done", turn_id=second)
        once = one.turn(second)
        heard_to_its_end.set()
        await one.until("done", turn_id=first)
        await one.say("ping")
        await one.until("pong")
        assert one.turn(second) == once


async def test_joining_late_resumes_and_leaving_ends_it(chat: ChatSuite, elsewhere: str) -> None:
    async with (
        chat.user() as user,
        a_device(chat.url, token_of(user)) as asking,
        a_device(elsewhere, token_of(user)) as far,
    ):
        await asking.say("send", session_id=user.session_id, content=SLOWLY)
        turn_id = (await asking.until("sent"))["turn_id"]
        await asking.until("delta", id=5)
        joined = await far.join(user.session_id, after=2, turn_id=turn_id)
        assert joined["data"] == {"turn_id": turn_id}
        await far.until("delta", id=8)
        assert [number for number, _, _ in far.turn(turn_id)] == [3, 4, 5, 6, 7, 8]
        await far.say("leave", session_id=user.session_id, ref=1)
        assert (await far.until("left"))["ref"] == 1
        await asking.until("done")
        await far.say("ping", ref=2)
        seen = len(far.turn(turn_id))
        assert (await far.next())["event"] == "pong"
        assert len(far.turn(turn_id)) == seen
        # Later, the whole of it.
        await far.join(user.session_id, after=0)
        await far.until("done", turn_id=turn_id)
        assert far.turn(turn_id)[seen:] == asking.turn(turn_id)


@pytest.mark.parametrize("elsewhere_too", [False, True], ids=["here", "elsewhere"])
async def test_who_rejoins_with_an_ended_answer_hears_the_running_one_whole(
    chat: ChatSuite, elsewhere: str, elsewhere_too: bool
) -> None:
    async with (
        chat.user() as user,
        a_device(chat.url, token_of(user)) as asking,
        a_device(elsewhere if elsewhere_too else chat.url, token_of(user)) as back,
    ):
        await asking.say("send", session_id=user.session_id, content="one")
        first = (await asking.until("done"))["turn_id"]
        seen = asking.turn(first)
        await asking.say("send", session_id=user.session_id, content=SLOWLY, ref=2)
        second = (await asking.until("sent", ref=2))["turn_id"]
        await asking.until("delta", turn_id=second)
        joined = await back.join(user.session_id, turn_id=first, after=2)
        assert joined["data"] == {"turn_id": first}
        await back.until("done", turn_id=first)
        await back.until("done", turn_id=second)
        await asking.until("done", turn_id=second)
        assert back.turn(first) == seen[2:]
        assert back.turn(second) == asking.turn(second)


async def test_stop_from_another_device(chat: ChatSuite, elsewhere: str) -> None:
    async with (
        chat.user() as user,
        a_device(chat.url, token_of(user)) as asking,
        a_device(elsewhere, token_of(user)) as far,
    ):
        content = "[[sim:chunks=400,delay_ms=25]] on and on"
        await asking.say("send", session_id=user.session_id, content=content)
        await asking.until("delta")
        await far.say("stop", session_id=user.session_id, ref="s")
        stopped = await far.until("stopped")
        assert (stopped["ref"], stopped["data"]["finish_reason"]) == ("s", "stopped")
        done = await asking.until("done")
        assert done["data"]["message"]["id"] == stopped["data"]["message"]["id"]
        await far.say("stop", session_id=user.session_id)
        assert (await far.until("error"))["data"]["code"] == "no_running_turn"


async def test_a_room_hears_what_is_emitted_and_nobody_else(
    chat: ChatSuite, elsewhere: str
) -> None:
    async with (
        chat.user() as user,
        chat.user() as stranger,
        a_device(chat.url, token_of(user)) as near,
        a_device(elsewhere, token_of(user)) as far,
        a_device(elsewhere, token_of(user)) as outside,
        a_device(elsewhere, token_of(stranger)) as other,
    ):
        await near.join(user.session_id)
        await far.join(user.session_id)
        await other.say("join", session_id=user.session_id)
        assert (await other.until("error"))["data"]["code"] == "session_not_found"
        emitted = {"event": "typing", "data": {"since": 1}}
        await near.say("emit", session_id=user.session_id, **emitted)
        for one in (near, far):
            assert (await one.until("emitted", session_id=user.session_id))["data"] == emitted
        for one in (outside, other):
            await one.say("emit", session_id=user.session_id, event="typing", ref=7)
            refused = await one.until("error")
            assert (refused["ref"], refused["data"]["code"]) == (7, "not_joined")
            assert not any(event["event"] == "emitted" for event in one.heard)
        await near.say("emit", session_id=user.session_id, event="big", data="x" * 20_000)
        assert (await near.until("error"))["data"]["code"] == "too_large"


async def test_what_nests_too_deeply_to_be_told_is_refused_and_the_socket_stays(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user, a_device(chat.url, token_of(user)) as one:
        await one.join(user.session_id)
        word = '{"op":"emit","ref":7,"session_id":"%s","event":"x","data":%s}'
        await one.connection.send(word % (user.session_id, "[" * 1_000 + "]" * 1_000))
        refused = await one.until("error", ref=7)
        assert refused["data"]["code"] == "unreadable_message"
        assert [wrong["field"] for wrong in refused["data"]["errors"]] == ["data"]
        await one.say("emit", session_id=user.session_id, event="x", data=[[[1]]])
        await one.until("emitted")


async def test_the_same_question_again_is_answered_once(chat: ChatSuite) -> None:
    async with (
        chat.user() as user,
        a_device(chat.url, token_of(user)) as first,
        a_device(chat.url, token_of(user)) as second,
    ):
        word = {
            "session_id": user.session_id,
            "content": SLOWLY,
            "idempotency_key": uuid4().hex,
        }
        await first.say("send", **word)
        turn_id = (await first.until("sent"))["turn_id"]
        await second.say("send", **word)
        sent = await second.until("sent")
        assert (sent["turn_id"], sent["data"]) == (turn_id, {"replayed": True})
        await asyncio.gather(first.until("done"), second.until("done"))
        assert first.turn(turn_id) == second.turn(turn_id)
        assert len(await chat.usage_events(user.id)) == 1


@pytest.mark.parametrize("form", ["bearer.{}", "bearer, {}"])
async def test_the_token_comes_as_a_subprotocol(chat: ChatSuite, form: str) -> None:
    async with chat.user() as user:
        offered = ["companion.v1", *form.format(token_of(user)).split(", ")]
        async with a_device(chat.url, token_of(user), protocols=offered) as one:
            assert one.connection.subprotocol == "companion.v1"
            assert one.heard[0]["data"]["user_id"] == str(user.id)


async def test_or_in_the_first_message(chat: ChatSuite) -> None:
    async with chat.user() as user, a_device(chat.url) as one:
        await one.say("auth", token=token_of(user), ref="hello")
        first = await one.next()
        assert (first["event"], first["ref"]) == ("authenticated", "hello")
        assert first["data"]["tier"] == "free"


async def test_a_bad_token_is_refused_before_the_socket_opens(chat: ChatSuite) -> None:
    async with chat.user() as user:
        no_chat = new_token(chat, user, scope="voice")
        for token, status, code in (
            ("x.y.z", 401, "unauthenticated"),
            (new_token(chat, user, lifetime_seconds=-60), 401, "unauthenticated"),
            (no_chat, 403, "scope_missing"),
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with a_device(chat.url, token):
                    pass
            answer = refused.value.response
            assert (answer.status_code, json.loads(answer.body)["code"]) == (status, code)
            assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "first",
    [
        '{"op":"ping"}',
        "no json",
        '{"op":"auth","token":"x.y.z"}',
        b"\x00",
        '{"op":"auth"}',
    ],
)
async def test_whoever_shows_none_is_sent_away(chat: ChatSuite, first: str | bytes) -> None:
    async with a_device(chat.url) as one:
        await one.connection.send(first)
        assert await one.closed() == (4401, "unauthenticated")
        assert one.heard == []


async def test_whoever_says_nothing_is_sent_away(
    chat: ChatSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_door, "FIRST_WORD_SECONDS", 0.1)
    async with a_device(chat.url) as one:
        assert await one.closed() == (4401, "unauthenticated")


async def test_a_token_without_the_scope_is_told_so(chat: ChatSuite) -> None:
    async with chat.user() as user, a_device(chat.url) as one:
        await one.say("auth", token=new_token(chat, user, scope="voice"))
        assert await one.closed() == (4403, "scope_missing")


async def test_a_token_in_the_url_opens_nothing(chat: ChatSuite) -> None:
    async with chat.user() as user:
        url = chat.url.replace("http", "ws", 1)
        query = f"?access_token={token_of(user)}&token={token_of(user)}"
        async with connect(f"{url}/chat/ws{query}", proxy=None) as connection:
            one = SocketDevice(connection)
            await one.say("ping")
            assert await one.closed() == (4401, "unauthenticated")


async def test_a_token_that_expires_closes_the_socket_unless_renewed(chat: ChatSuite) -> None:
    async with chat.user() as user:
        short = new_token(chat, user, lifetime_seconds=3)
        async with a_device(chat.url, short) as renewing, a_device(chat.url, short) as idle:
            ends = (await renewing.until("token_expiring"))["data"]["expires_at"]
            assert ends.endswith("Z")
            assert datetime.fromisoformat(ends).timestamp() > time.time() - 1
            await renewing.say("auth", token=token_of(user), ref="again")
            renewed = await renewing.until("authenticated")
            assert renewed["ref"] == "again"
            ends = renewed["data"]["expires_at"]
            assert datetime.fromisoformat(ends).timestamp() > time.time() + 600
            assert await idle.closed() == (4401, "token_expired")
            assert any(event["event"] == "token_expiring" for event in idle.heard)
            await renewing.say("ping")
            await renewing.until("pong")
            # What it asks from now on, it asks with the new token.
            await renewing.say("send", session_id=user.session_id, content="hello")
            await renewing.until("done")


async def test_a_socket_stays_with_its_user(chat: ChatSuite) -> None:
    async with (
        chat.user() as user,
        chat.user() as other,
        a_device(chat.url, token_of(user)) as one,
    ):
        await one.say("auth", token=token_of(other))
        assert (await one.until("error"))["data"]["code"] == "other_user"
        await one.say("auth", token="x.y.z")
        assert (await one.until("error"))["data"]["code"] == "unauthenticated"
        await one.say("join", session_id=user.session_id)
        await one.until("joined")


async def test_an_ended_session_closes_its_sockets_at_once(chat: ChatSuite) -> None:
    sid, other = uuid4(), uuid4()
    async with (
        chat.user() as user,
        a_device(chat.url, new_token(chat, user, sid=str(sid))) as ended,
        a_device(chat.url, new_token(chat, user, sid=str(other))) as going_on,
        open_cache(chat.settings.cache_url.get_secret_value()) as cache,
    ):
        began = time.monotonic()
        await EndedSessions(cache).tell([sid])
        assert await ended.closed() == (4401, "session_ended")
        assert time.monotonic() - began < 5  # well within one on a quiet machine
        await going_on.say("ping")
        await going_on.until("pong")
        # It does not open again, either.
        with pytest.raises(InvalidStatus) as refused:
            async with a_device(chat.url, new_token(chat, user, sid=str(sid))):
                pass
        assert json.loads(refused.value.response.body)["code"] == "session_ended"


async def test_a_token_ends_with_its_session_for_all_that_it_is_good_for(
    chat: ChatSuite, elsewhere: str
) -> None:
    sid = uuid4()
    async with (
        chat.user(tier="pro", sid=str(sid)) as user,
        open_cache(chat.settings.cache_url.get_secret_value()) as cache,
        httpx.AsyncClient(headers=user.client.headers, trust_env=False) as client,
    ):
        body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "hi"}]}

        async def answers(url: str) -> list[int]:
            messages = f"{url}/chat/sessions/{user.session_id}/messages"
            found = [
                await client.get(messages),
                await client.post(messages, json={"content": "hi"}),
                await client.post(f"{url}/v1/chat/completions", json=body),
                await client.post(f"{url}/openai/v1/chat/completions", json=body),
                await client.get(f"{url}/chat/limits"),
            ]
            return [answer.status_code for answer in found]

        for url in (chat.url, elsewhere):
            assert await answers(url) == [200] * 5
        asked = len(await chat.holds(user.id))
        began = time.monotonic()
        await EndedSessions(cache).tell([sid])

        for url in (chat.url, elsewhere):
            refused = await eventually(
                lambda url=url: client.get(f"{url}/chat/limits"),  # type: ignore[misc]
                lambda answer: answer.status_code != 200,
            )
            assert (refused.status_code, refused.json()["code"]) == (401, "session_ended")
            assert time.monotonic() - began < 5  # well within one on a quiet machine
            assert await answers(url) == [401] * 5
        assert len(await chat.holds(user.id)) == asked
        # Whoever starts later never heard of it, and looks it up.
        async with another_replica(chat.settings) as (url, _process):
            assert await answers(url) == [401] * 5


async def test_sockets_are_among_what_is_looked_up(chat: ChatSuite) -> None:
    """The news of an ended session may be missed; then it is looked up by these."""
    sid = uuid4()
    async with chat.user() as user:
        async with a_device(chat.url, new_token(chat, user, sid=str(sid))):
            actions = public_state(chat).actions
            assert sid in actions.devices.sign_ins()
        await eventually(lambda: _sign_ins(chat), lambda ids: sid not in ids)


async def _sign_ins(chat: ChatSuite) -> set[UUID]:
    found: set[UUID] = public_state(chat).actions.devices.sign_ins()
    return found


def public_state(chat: ChatSuite) -> Any:
    """The application's state, behind the door and the hot routes."""
    app: Any = chat.process.public
    return app._app._app.state


async def test_a_tier_that_changes_is_told(chat: ChatSuite) -> None:
    async with (
        chat.user() as user,
        chat.user() as other,
        a_device(chat.url, token_of(user)) as one,
        a_device(chat.url, token_of(other)) as bystander,
        open_cache(chat.settings.cache_url.get_secret_value()) as cache,
    ):
        await CurrentTiers(cache).tell({user.id: "pro"})  # type: ignore[dict-item]
        assert (await one.until("tier_changed"))["data"] == {"tier": "pro"}
        # The next question is answered by it, and says that the token is behind.
        await one.say("send", session_id=user.session_id, content="hello")
        assert (await one.until("sent"))["data"] == {"replayed": False, "tier": "pro"}
        await bystander.say("ping")
        assert (await bystander.next())["event"] == "pong"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("no json", None),
        ("[]", "op"),
        ('{"op":"dance"}', "op"),
        ('{"op":"join"}', "session_id"),
        ('{"op":"join","session_id":"x"}', "session_id"),
        (f'{{"op":"send","session_id":"{UUID(int=1)}","content":[]}}', "content"),
        ('{"op":"ping","sk-0123456789012345678901234567890123":1}', "(unknown field)"),
        (f'{{"op":"emit","session_id":"{UUID(int=1)}","event":"no spaces"}}', "event"),
    ],
)
async def test_what_is_not_understood_is_an_event_and_the_socket_stays(
    chat: ChatSuite, message: str, field: str | None
) -> None:
    async with chat.user() as user, a_device(chat.url, token_of(user)) as one:
        await one.connection.send(message)
        error = await one.next()
        assert (error["event"], error["data"]["code"]) == ("error", "unreadable_message")
        assert [e["field"] for e in error["data"]["errors"]] == ([field] if field else [])
        await one.say("ping", ref=1)
        assert (await one.next())["event"] == "pong"


async def test_a_question_that_asks_nothing_is_told_so(chat: ChatSuite) -> None:
    async with chat.user() as user, a_device(chat.url, token_of(user)) as one:
        await one.say("send", session_id=user.session_id, content=" ")
        error = await one.next()
        assert (error["event"], error["data"]["code"]) == ("error", "question_empty")


async def test_ten_of_them_in_a_row_are_enough(chat: ChatSuite) -> None:
    async with chat.user() as user, a_device(chat.url, token_of(user)) as one:
        for _ in range(9):
            await one.connection.send("?")
        await one.say("ping")
        for _ in range(10):
            await one.connection.send("?")
        assert await one.closed() == (1008, "not_understood")
        assert len([e for e in one.heard if e["event"] == "error"]) == 19


async def test_too_many_words_a_second(chat: ChatSuite) -> None:
    async with chat.user() as user, a_device(chat.url, token_of(user)) as one:
        for _ in range(60):
            await one.say("ping")
        assert await one.closed() == (1008, "not_understood")
        codes = {e["data"].get("code") for e in one.heard if e["event"] == "error"}
        assert codes == {"too_many_messages"}
        assert len([e for e in one.heard if e["event"] == "pong"]) >= 40


async def test_a_frame_may_have_a_mebibyte(chat: ChatSuite) -> None:
    async with chat.user() as user, a_device(chat.url, token_of(user)) as one:
        await one.connection.send("x" * ((1 << 20) + 1))
        assert (await one.closed())[0] == 1009


async def test_a_user_has_a_number_of_sockets(
    chat: ChatSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MOST_FOR_A_USER", 2)
    async with chat.user() as user, chat.user() as other:
        async with (
            a_device(chat.url, token_of(user)),
            a_device(chat.url, token_of(user)),
            a_device(chat.url, token_of(other)),
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with a_device(chat.url, token_of(user)):
                    pass
            assert refused.value.response.status_code == 429
            async with a_device(chat.url) as late:
                await late.say("auth", token=token_of(user))
                assert await late.closed() == (4429, "too_many_sockets")

        async def opens() -> bool:
            try:
                async with a_device(chat.url, token_of(user)):
                    return True
            except InvalidStatus:
                return False

        assert await eventually(opens, bool)


async def test_a_device_that_does_not_read_is_dropped_and_slows_nobody(
    chat: ChatSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_PATIENCE_SECONDS", 0.5)
    content = "[[sim:chunks=200,delay_ms=2]] " + ("x" * 95 + " ") * 1980
    async with (
        chat.user(tier="enterprise") as user,
        serving(chat.process.public, send_buffer=4096) as url,
        a_device(chat.url, token_of(user)) as asking,
    ):
        stuck = tcp.socket()
        stuck.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, 4096)
        host, port = url.removeprefix("http://").split(":")
        stuck.connect((host, int(port)))
        reader, writer = await asyncio.open_connection(sock=stuck, limit=256)
        request = (
            "GET /chat/ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Authorization: Bearer {token_of(user)}\r\n\r\n"
        )
        writer.write(request.encode())
        assert b"101" in await reader.readline()
        word = json.dumps({"op": "join", "session_id": user.session_id}).encode()
        # A masked frame with a mask of zeros.
        writer.write(bytes([0x81, 0x80 | len(word), 0, 0, 0, 0]) + word)
        await eventually(lambda: _members(chat, user), lambda count: count == 1)
        began = time.monotonic()
        await asking.say("send", session_id=user.session_id, content=content)
        await asking.until("done")
        assert time.monotonic() - began < 6
        await eventually(lambda: _members(chat, user), lambda count: count == 1)
        assert len(_open(chat, user)) == 1
        writer.close()


async def _members(chat: ChatSuite, user: ChatUser) -> int:
    return len(public_state(chat).actions.devices.are_in(UUID(user.session_id)))


def _open(chat: ChatSuite, user: ChatUser) -> list[Any]:
    found = public_state(chat).actions.devices._devices
    return [one for one in found if one.user_id == user.id]


async def test_what_began_while_valkey_was_away_is_heard_when_it_is_back(
    chat: ChatSuite, tmp_path: Path
) -> None:
    with running_valkey(tmp_path) as server:
        settings = chat.settings.model_copy(
            update={"cache_url": type(chat.settings.cache_url)(server.url)}
        )
        async with (
            chat.user(tier="pro") as user,
            another_replica(settings) as (here, _),
            another_replica(settings) as (there, _),
            a_device(there, token_of(user)) as far,
        ):
            await far.join(user.session_id)
            await asyncio.to_thread(server.child.kill)
            path = f"{here}/chat/sessions/{user.session_id}/messages"
            body = {"content": "[[sim:chunks=80,delay_ms=50]] on and on", "stream": True}
            async with user.client.stream("POST", path, json=body) as answer:
                assert answer.status_code == 200
                lines = answer.aiter_lines()
                seen = await next_events(lines, "delta")
                await asyncio.to_thread(server.child.start_again, server.engine.is_ready)
                seen += await next_events(lines, "done")
            done = await far.until("done")
            assert far.turn(done["turn_id"]) == [tuple(event) for event in seen]


async def test_a_replica_that_goes_away_sends_its_devices_elsewhere(chat: ChatSuite) -> None:
    async with (
        chat.user() as user,
        chat_process(chat.settings, CHAT_DRAIN_SECONDS="0") as going,
        a_device(going.url, token_of(user)) as one,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        metrics = (await client.get(f"{going.internal_url}/metrics")).text
        assert 'companion_open_sockets{service="chat"} 1.0' in metrics
        stopping = asyncio.create_task(asyncio.to_thread(going.stop))
        assert await one.closed() == (1012, "reconnect")
        assert await stopping == 0
