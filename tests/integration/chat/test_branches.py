"""Answers again, questions in other words, and the one branch that is shown."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.chat.domain.conversation import MessageId, SessionId
from services.chat.domain.ports import Asked
from services.chat.domain.turn import Hold, Outcome, Settlement, TurnId
from services.chat.domain.usage import Usage
from services.chat.storage.turns import SqlTurns
from shared.ids import EventId, UserId, uuid7
from tests.integration.chat.conftest import ChatSuite, ChatUser

REFUSED = "[[sim:fault=bad_request]] never mind"
SLOW = "[[sim:first_ms=400]] slow"


async def shown(user: ChatUser, branch: str = "active") -> list[dict[str, Any]]:
    path = f"/chat/sessions/{user.session_id}/messages"
    answer = await user.client.get(path, params={"branch": branch})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def said(user: ChatUser) -> list[str]:
    return [message["content"] for message in await shown(user)]


async def post(user: ChatUser, path: str, body: dict[str, Any]) -> httpx.Response:
    return await user.client.post(f"/chat/sessions/{user.session_id}{path}", json=body)


async def asked(user: ChatUser, content: str) -> dict[str, Any]:
    answer = await user.ask(content)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["message"])


async def test_a_new_answer_takes_the_place_of_the_old_one_and_what_follows(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        await asked(user, "two")

        answer = await post(user, f"/messages/{first['id']}/regenerate", {})

        assert answer.status_code == 200, answer.text
        again = answer.json()["message"]
        assert again["parent_id"] == first["parent_id"]
        assert [m["id"] for m in await shown(user)] == [first["parent_id"], again["id"]]
        everything = await shown(user, "all")
        assert len(everything) == 5
        assert [m["active"] for m in everything] == [True, False, False, False, True]
        # The question may be named as well, and goes to another of the tier's models.
        answer = await post(user, f"/messages/{first['parent_id']}/regenerate", {"stream": True})
        assert "event: done" in answer.text
        assert len(await shown(user, "all")) == 6
        assert len(await shown(user)) == 2


async def test_the_vendor_sees_nothing_that_comes_after_the_question(chat: ChatSuite) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        await asked(user, "two")
        await post(user, f"/messages/{first['id']}/regenerate", {})
        usage = await chat.usage_events(user.id)
        assert [e["data"]["input_tokens"] for e in usage] == [1, 5, 1]


async def test_a_new_answer_that_never_comes_leaves_the_old_branch(chat: ChatSuite) -> None:
    async with chat.user() as user:
        await asked(user, "one")
        message = await asked(user, "two")
        await asked(user, "three")
        before = await shown(user)
        chat.egress.keys[(user.id, "openai")] = "sim-invalid"

        answer = await post(user, f"/messages/{message['id']}/regenerate", {})

        assert answer.status_code >= 400
        assert await shown(user) == before


async def test_an_edited_question_begins_a_branch_with_the_same_parent(chat: ChatSuite) -> None:
    async with chat.user() as user:
        await asked(user, "one")
        second = await asked(user, "two")
        await asked(user, "three")

        answer = await post(user, f"/messages/{second['parent_id']}/edit", {"content": "zwei"})

        assert answer.status_code == 200, answer.text
        assert await said(user) == ["one", "You said: one", "zwei", "You said: zwei"]
        everything = {m["id"]: m for m in await shown(user, "all")}
        old, new = everything[second["parent_id"]], (await shown(user))[2]
        assert new["parent_id"] == old["parent_id"]
        assert not old["active"]
        assert old["content"] == "two"


async def test_the_first_question_can_be_edited_too(chat: ChatSuite) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        answer = await post(user, f"/messages/{first['parent_id']}/edit", {"content": "eins"})
        assert answer.status_code == 200, answer.text
        assert await said(user) == ["eins", "You said: eins"]
        answer = await post(user, f"/messages/{first['parent_id']}/edit", {"content": "un"})
        assert await said(user) == ["un", "You said: un"]


async def test_an_edit_without_an_answer_leaves_the_old_branch(chat: ChatSuite) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        await asked(user, "two")
        before = await shown(user)

        answer = await post(user, f"/messages/{first['parent_id']}/edit", {"content": REFUSED})

        assert answer.status_code >= 400
        assert await shown(user) == before
        [left] = [m for m in await shown(user, "all") if m["content"] == REFUSED]
        assert (left["active"], left["status"]) == (False, "pending")


async def test_only_questions_can_be_edited(chat: ChatSuite) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        answer = await post(user, f"/messages/{first['id']}/edit", {"content": "x"})
        assert (answer.status_code, answer.json()["code"]) == (422, "not_a_question")
        assert len(await chat.usage_events(user.id)) == 1


async def test_any_branch_can_be_shown_again_and_goes_on(chat: ChatSuite) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        await asked(user, "two")
        before = await shown(user)
        await post(user, f"/messages/{first['parent_id']}/edit", {"content": "eins"})

        answer = await post(user, "/branch", {"message_id": first["id"]})

        assert answer.status_code == 204, answer.text
        assert await shown(user) == before
        third = await asked(user, "three")
        assert [m["id"] for m in await shown(user)][-1] == third["id"]
        assert (await shown(user))[-2]["parent_id"] == before[-1]["id"]
        # The other branch is whole still, and a question of it can be answered again from here.
        other = next(m for m in await shown(user, "all") if m["content"] == "eins")
        answer = await post(user, f"/messages/{other['id']}/regenerate", {})
        assert await said(user) == ["eins", "You said: eins"]


async def test_messages_of_others_and_of_other_sessions_look_absent(chat: ChatSuite) -> None:
    async with chat.user() as ada, chat.user() as grace:
        message = await asked(ada, "one")
        for path, body in (
            (f"/messages/{message['id']}/regenerate", {}),
            (f"/messages/{message['parent_id']}/edit", {"content": "x"}),
            ("/branch", {"message_id": message["id"]}),
        ):
            own_session = await post(grace, path, body)
            assert (own_session.status_code, own_session.json()["code"]) == (
                404,
                "message_not_found",
            )
            theirs = await grace.client.post(f"/chat/sessions/{ada.session_id}{path}", json=body)
            assert (theirs.status_code, theirs.json()["code"]) == (404, "session_not_found")
        unknown = await post(ada, f"/messages/{uuid4()}/regenerate", {})
        assert unknown.json()["code"] == "message_not_found"
        assert len(await shown(ada, "all")) == 2


async def test_one_turn_of_a_session_runs_at_a_time(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        first = await asked(user, SLOW)
        answers = await asyncio.gather(
            *(user.ask(SLOW) for _ in range(5)),
            *(post(user, f"/messages/{first['id']}/regenerate", {}) for _ in range(5)),
        )
        codes = [answer.status_code for answer in answers]
        assert sorted(codes) == [200] + [409] * 9
        refused = [answer.json()["code"] for answer in answers if answer.status_code == 409]
        assert set(refused) == {"turn_running"}
        assert len(await chat.usage_events(user.id)) == 2
        assert (
            await chat.database.fetch(
                "select 1 from generation where user_id = $1 and state = 'running'", user.id
            )
            == []
        )


async def test_while_a_turn_runs_the_branch_stays(chat: ChatSuite) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        running = asyncio.create_task(user.ask(SLOW))
        while len(await chat.holds(user.id)) < 2:
            await asyncio.sleep(0.01)
        answer = await post(user, "/branch", {"message_id": first["id"]})
        assert (answer.status_code, answer.json()["code"]) == (409, "turn_running")
        assert (await running).status_code == 200
        assert (await post(user, "/branch", {"message_id": first["id"]})).status_code == 204


async def test_an_idempotency_key_holds_for_a_new_answer(chat: ChatSuite) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        path = f"/chat/sessions/{user.session_id}/messages/{first['id']}/regenerate"
        key = {"idempotency-key": "again"}
        once = await user.client.post(path, json={}, headers=key)
        twice = await user.client.post(path, json={}, headers=key)
        assert twice.headers["idempotency-replayed"] == "true"
        assert twice.json()["message"]["id"] == once.json()["message"]["id"]
        assert len(await chat.usage_events(user.id)) == 2


@pytest.mark.parametrize(
    ("outcome", "text", "is_new"),
    [
        (Outcome.REPLICA_LOST, "", False),
        (Outcome.CONTENT_BLOCKED, "", False),
        (Outcome.PROVIDER_FAILED, "", False),
        (Outcome.DONE, "", False),
        (Outcome.STOPPED, "so far", True),
        (Outcome.PROVIDER_FAILED, "so far", True),
    ],
)
async def test_only_content_takes_the_place_of_what_was_there(
    chat: ChatSuite, outcome: Outcome, text: str, is_new: bool
) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        await asked(user, "two")
        before = [m["id"] for m in await shown(user)]
        turns, hold = SqlTurns(chat.database), a_hold(user, MessageId(UUID(first["parent_id"])))

        assert await turns.hold(hold, Asked("one", answers_again=True), sandbox=True)
        assert [m["id"] for m in await shown(user)] == [first["parent_id"]]
        settlement = Settlement(
            outcome=outcome,
            text=text,
            usage=Usage(),
            provider="openai",
            model="m",
            provider_request_id=None,
            processing_time_ms=1,
        )
        assert await turns.settle(hold, settlement, [])

        after = [m["id"] for m in await shown(user)]
        assert after == ([first["parent_id"], str(hold.answer_id)] if is_new else before)
        assert len(await shown(user, "all")) == 5


def a_hold(user: ChatUser, question_id: MessageId) -> Hold:
    now = datetime.now(UTC)
    return Hold(
        id=TurnId(uuid7()),
        user_id=UserId(user.id),
        session_id=SessionId(UUID(user.session_id)),
        question_id=question_id,
        answer_id=MessageId(uuid7()),
        usage_event_id=EventId(uuid7()),
        request_id="request-1",
        tier="free",
        provider="openai",
        model="m",
        input_estimate=1,
        created_at=now,
        lease_expires_at=now + timedelta(seconds=30),
    )
