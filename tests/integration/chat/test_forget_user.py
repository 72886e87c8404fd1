"""Forgetting and exporting a user of chat, on real engines."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx

from services.chat.actions.forget_user import ForgetUser
from services.chat.domain.known_key import KnownKey
from services.chat.storage.unit_of_work import SqlWork
from services.chat.tasks import listen
from services.chat.wiring import wire
from shared.clock import SystemClock
from shared.db.database import Database
from shared.erasure import ErasureId
from shared.events import Fact
from shared.events.user import UserDeleted
from shared.ids import UserId, uuid7
from shared.messaging import batch as batches
from shared.messaging.consumer import Consumer
from shared.money import dollars_text
from tests.integration.chat.conftest import ChatSuite
from tests.support.chat import a_session
from tests.support.revocations import HeardRevocations
from tests.support.tokens import identity_of

LONG = "[[sim:chunks=400,delay_ms=20]] on and on"

_TRACES = """
select (select count(*) from chat_session where user_id = $1)
     + (select count(*) from chat_message m join chat_session s on s.id = m.session_id
        where s.user_id = $1)
     + (select count(*) from generation where user_id = $1)
     + (select count(*) from known_key where user_id = $1) as traces
"""
_TOLD = """
select envelope->'data'->>'service' as service, envelope->'data'->>'erasure_id' as erasure_id
from outbox where envelope->>'subject' = $1 and envelope->>'type' = 'user.forgotten'
"""


async def traces_of(database: Database, user_id: UUID) -> int:
    row = await database.fetchrow(_TRACES, user_id)
    assert row is not None
    return int(row["traces"])


async def told_of(database: Database, user_id: UUID) -> list[tuple[str, str]]:
    rows = await database.fetch(_TOLD, str(user_id))
    return [(row["service"], row["erasure_id"]) for row in rows]


def deleted(user_id: UUID, erasure_id: UUID) -> object:
    """The message that auth sends."""
    event = UserDeleted(user_id=user_id, erasure_id=erasure_id)
    epoch = uuid4()
    fact = Fact(event=event, subject=user_id, tier="free", time=datetime.now(UTC))
    return batches.to_wire("auth", epoch, [fact.sent_as(epoch, 1).to_wire()])


async def a_talker(database: Database, *, messages: int) -> UserId:
    """Somebody with a session and a known key."""
    user, now = UserId(uuid4()), datetime.now(UTC)
    session = a_session(user, id=uuid7(), created_at=now, updated_at=now)
    async with SqlWork(database) as work:
        await work.sessions.add(session)
        await work.known_keys.remember([KnownKey(user, "openai", 1, "valid", ())])
    await database.execute(
        "insert into chat_message (id, session_id, role, content, status, created_at)"
        " select gen_random_uuid(), $1, 'user', 'hello', 'done', now()"
        " from generate_series(1, $2)",
        session.id,
        messages,
    )
    return user


async def test_much_is_deleted_in_pieces_and_only_theirs(chat: ChatSuite) -> None:
    database = chat.database
    ada, grace = [await a_talker(database, messages=n) for n in (2_500, 3)]
    erasure = ErasureId(uuid4())
    forget = ForgetUser(lambda: SqlWork(database), SystemClock(), HeardRevocations())

    await asyncio.gather(forget.begin([(ada, erasure)]), forget.begin([(ada, erasure)]))

    assert await traces_of(database, ada) == 0
    assert await traces_of(database, grace) == 5
    assert set(await told_of(database, ada)) == {("chat", str(erasure))}


async def test_a_running_turn_is_ended_and_billed_before_it_is_forgotten(chat: ChatSuite) -> None:
    key = f"sim-{uuid4().hex}"
    async with chat.user(key=key) as ada, wire(chat.settings) as worker:
        consumer = Consumer(listen, worker.actions, worker.database)
        asking = asyncio.create_task(ada.ask(LONG, stream=True))
        async with asyncio.timeout(5):
            while not chat.simulator.served(key=key):
                await asyncio.sleep(0.02)
        erasure = uuid4()

        await consumer.receive("user.deleted", deleted(ada.id, erasure))
        # The turn still runs or has just been ended; either way it is not lost.
        await asking
        async with asyncio.timeout(10):
            while not await told_of(chat.database, ada.id):
                await worker.actions.forget_user.go_on()
                await asyncio.sleep(0.05)

        usage = [e for e in await chat.usage_events(ada.id) if e["type"] == "usage.recorded"]
        assert [event["data"]["outcome"] for event in usage] == ["stopped"]
        assert await traces_of(chat.database, ada.id) == 0
        assert await told_of(chat.database, ada.id) == [("chat", str(erasure))]


async def fetch_export(chat: ChatSuite, user_id: UUID, *, as_: str = "auth") -> httpx.Response:
    token = identity_of(chat.settings.identity_key_file.parent, as_).token_for("chat")
    transport = httpx.ASGITransport(chat.process.internal)
    async with httpx.AsyncClient(transport=transport, base_url="http://chat") as client:
        return await client.get(
            f"/internal/users/{user_id}/export", headers={"authorization": f"Bearer {token}"}
        )


async def test_the_export_holds_every_message_once_and_nobody_elses(chat: ChatSuite) -> None:
    database = chat.database
    ada, _grace = [await a_talker(database, messages=n) for n in (120, 3)]
    now = datetime.now(UTC)
    sessions = [
        a_session(ada, id=uuid7(), name=f"session {number}", created_at=now, updated_at=now)
        for number in range(110)
    ]
    async with SqlWork(database) as work:
        for session in sessions:
            await work.sessions.add(session)

    answer = await fetch_export(chat, ada)

    assert answer.status_code == 200
    exported: list[dict[str, Any]] = answer.json()["sessions"]
    assert [s["name"] for s in exported[1:]] == [session.name for session in sessions]
    assert len(exported[0]["messages"]) == 120
    assert len({message["id"] for message in exported[0]["messages"]}) == 120
    assert all(not session["messages"] for session in exported[1:])


async def test_branches_images_and_preferences_are_exported_and_forgotten(chat: ChatSuite) -> None:
    image = b"\x89PNG\r\n\x1a\n1234"
    attachment = {"data": base64.b64encode(image).decode(), "media_type": "image/png"}
    async with chat.user(tier="pro") as user:
        choice = {"fallback": ["gemini"], "monthly_cap_microusd": 7_000_000}
        await user.client.put("/chat/preferences", json=choice)
        first = (await user.ask("look", attachments=[attachment])).json()["message"]
        path = f"/chat/sessions/{user.session_id}/messages/{first['id']}/regenerate"
        assert (await user.client.post(path, json={})).status_code == 200

        document = (await fetch_export(chat, UserId(user.id))).json()

        assert document["preferences"] == {
            **choice,
            "monthly_cap_usd": "7.000000",
            "speak_voice_id": None,
        }
        (session,) = document["sessions"]
        assert [m["active"] for m in session["messages"]] == [True, False, True]
        (kept,) = session["messages"][0]["attachments"]
        assert base64.b64decode(kept["data"]) == image
        assert kept["size_bytes"] == len(image)

        forget = ForgetUser(lambda: SqlWork(chat.database), SystemClock(), HeardRevocations())
        await forget.begin([(UserId(user.id), ErasureId(uuid4()))])

        assert await traces_of(chat.database, user.id) == 0
        assert await chat.database.fetch(_LEFT_OVER, user.id, kept["id"]) == []


async def test_turns_without_a_session_and_their_kept_answers_are_exported(
    chat: ChatSuite,
) -> None:
    async with chat.user(tier="pro") as user:
        await user.ask("in a session")
        answer = await user.client.post(
            "/v1/chat/completions",
            json={"model": "default", "messages": [{"role": "user", "content": "KEPTMARK"}]},
            headers={"idempotency-key": "order-67"},
        )
        assert answer.status_code == 200, answer.text
        session, call = (await fetch_export(chat, UserId(user.id))).json()["turns"]
        assert (session["session_id"], session["kept_answer"]) == (str(user.session_id), None)
        assert (call["session_id"], call["idempotency_key"]) == (None, "order-67")
        assert (call["outcome"], call["surface"]) == ("done", "v1")
        assert "KEPTMARK" in call["kept_answer"]
        assert call["cost_usd"] == dollars_text(call["cost_microusd"])


_LEFT_OVER = """
select 1 from preference where user_id = $1
union all select 1 from chat_attachment where id = $2::uuid
"""


async def test_only_auth_gets_an_export(chat: ChatSuite) -> None:
    assert (await fetch_export(chat, uuid4(), as_="voice")).status_code == 403
