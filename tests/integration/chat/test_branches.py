"""Answers again, questions in other words, and the one branch that is shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from services.chat.domain.conversation import MessageId, SessionId, branch_through
from services.chat.domain.errors import BranchMoved
from services.chat.domain.ports import Asked
from services.chat.domain.turn import Hold, Outcome, Settlement, TurnId
from services.chat.domain.usage import Usage
from services.chat.storage.sessions import SqlSessions
from services.chat.storage.turns import SqlTurns
from shared.ids import EventId, UserId, first_id_at, uuid7
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.waiting import eventually, until_locked_out

REFUSED = "[[sim:fault=bad_request]] never mind"
# Until somebody stops it.
ON_AND_ON = "[[sim:chunks=400,delay_ms=25]] on and on"


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


async def test_an_answer_is_written_anew_without_a_body(chat: ChatSuite) -> None:
    async with chat.user() as user:
        question = await asked(user, "one")
        path = f"/chat/sessions/{user.session_id}/messages/{question['id']}/regenerate"
        answer = await user.client.post(path)
        assert answer.status_code == 200, answer.text
        assert answer.json()["message"]["parent_id"] == question["parent_id"]
        refused = await user.client.post(path, json={"content": "x"})
        assert refused.status_code == 422


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
        # So slow that whoever comes last on a busy machine comes while it runs.
        slow = "[[sim:first_ms=3000]] slow"
        first = await asked(user, slow)
        answers = await asyncio.gather(
            *(user.ask(slow) for _ in range(5)),
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
        running = asyncio.create_task(user.ask(ON_AND_ON, stream=True))
        await eventually(lambda: chat.holds(user.id), lambda holds: len(holds) == 2)
        answer = await post(user, "/branch", {"message_id": first["id"]})
        assert (answer.status_code, answer.json()["code"]) == (409, "turn_running")
        assert (await post(user, "/stop", {})).status_code == 200
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


@asynccontextmanager
async def switching(user: ChatUser, chat: ChatSuite, message_id: str) -> AsyncIterator[None]:
    """Another device shows the branch that holds this message, and is done at the end."""
    session_id = SessionId(UUID(user.session_id))
    async with chat.database.connection() as connection, connection.transaction():
        sessions = SqlSessions(connection)
        assert await sessions.lock(session_id, UserId(user.id))
        parents = await sessions.parents(session_id)
        branch = branch_through(parents, MessageId(UUID(message_id)))
        await sessions.activate(session_id, branch)
        yield
        # Until whoever asks waits for the lock.
        await until_locked_out(chat.database)


async def is_one_line(user: ChatUser) -> bool:
    line = await shown(user)
    return [m["parent_id"] for m in line] == [None, *(m["id"] for m in line[:-1])]


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("asks", ["next", "again", "in other words"])
async def test_a_question_that_comes_while_a_branch_is_switched_goes_on_there(
    chat: ChatSuite, asks: str, refused: bool
) -> None:
    async with chat.user(tier="pro") as user:
        first = await asked(user, "one")
        await asked(user, "two")
        await post(user, f"/messages/{first['parent_id']}/edit", {"content": "eins"})
        content = REFUSED if refused else "three"
        path, body = {
            "next": ("/messages", {"content": content}),
            "again": (f"/messages/{first['id']}/regenerate", {}),
            "in other words": (f"/messages/{first['parent_id']}/edit", {"content": content}),
        }[asks]
        if refused:
            chat.egress.keys[(user.id, "openai")] = "sim-invalid"

        async with switching(user, chat, first["id"]):
            asking = asyncio.create_task(post(user, path, body))
        answer = await asking

        assert (answer.status_code == 200) is not refused, answer.text
        assert await is_one_line(user)
        before = ["one", "You said: one", "two", "You said: two"]
        if refused:
            # The branch that was switched to comes back, with what was asked in it.
            assert await said(user) == before + ([content] if asks == "next" else [])
            return
        now = {
            "next": [*before, "three", "You said: three"],
            "again": ["one", "You said: one"],
            "in other words": ["three", "You said: three"],
        }[asks]
        assert await said(user) == now
        # Its vendor saw what stands before it, and not the branch that was shown until then.
        heard = answer.json()["usage"]["input_tokens"]
        assert heard == sum(len(text.split()) for text in now[:-1])


@asynccontextmanager
async def renaming(user: ChatUser, chat: ChatSuite, name: str) -> AsyncIterator[None]:
    """The session keeps its name for itself until the end."""
    async with chat.database.connection() as connection, connection.transaction():
        rename = "update chat_session set name = $2 where id = $1"
        await connection.execute(rename, UUID(user.session_id), name)
        yield


@pytest.mark.parametrize("asks", ["next", "again"])
async def test_a_session_that_is_renamed_meanwhile_holds_no_question_up(
    chat: ChatSuite, asks: str
) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        paths = {"next": "/messages", "again": f"/messages/{first['id']}/regenerate"}
        body = {"content": "two"} if asks == "next" else {}

        async def rename_again() -> None:
            async with renaming(user, chat, "twice"):
                await until_locked_out(chat.database, unless=asking.done)

        # Each waits behind the one before it, and the question behind the first.
        async with renaming(user, chat, "once"):
            asking = asyncio.create_task(post(user, paths[asks], body))
            await until_locked_out(chat.database)
            again = asyncio.create_task(rename_again())
            await until_locked_out(chat.database, 2)
        await again

        answer = await asking

        assert answer.status_code == 200, answer.text
        named = await user.client.get(f"/chat/sessions/{user.session_id}")
        assert named.json()["name"] == "twice"
        assert len(await shown(user, "all")) == (4 if asks == "next" else 3)


async def test_a_question_is_let_in_once_however_often_its_session_is_renamed(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user:
        first = await asked(user, "one")
        turns, hold = SqlTurns(chat.database), a_hold(user, MessageId(uuid7()))
        asked_ = Asked("two", parent_id=MessageId(UUID(first["id"])))
        async with renaming(user, chat, "once"):
            holding = asyncio.create_task(turns.hold(hold, asked_, sandbox=True))
            await until_locked_out(chat.database)
        assert await holding
        assert await said(user) == ["one", "You said: one", "two"]


async def test_what_changes_again_and_again_is_asked_anew_by_its_client(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        first = await asked(user, "one")
        await asked(user, "two")
        turns, hold = SqlTurns(chat.database), a_hold(user, MessageId(uuid7()))
        too_early = Asked("three", parent_id=MessageId(UUID(first["id"])))
        with pytest.raises(BranchMoved):
            await turns.hold(hold, too_early, sandbox=True)
        assert await said(user) == ["one", "You said: one", "two", "You said: two"]
        beginning = await turns.begin(SessionId(UUID(user.session_id)), UserId(user.id))
        assert beginning is not None
        follows = replace(too_early, parent_id=beginning.tip_id)
        assert await turns.hold(hold, follows, sandbox=True)
        assert await is_one_line(user)


async def cut_short(user: ChatUser, message_id: str) -> dict[str, Any]:
    """Another answer to it, stopped after the first words."""
    path = f"/chat/sessions/{user.session_id}/messages/{message_id}/regenerate"
    async with user.client.stream("POST", path, json={"stream": True}) as live:
        async for line in live.aiter_lines():
            if line == "event: delta":
                break
        stopped = await post(user, "/stop", {})
    assert stopped.status_code == 200, stopped.text
    message: dict[str, Any] = stopped.json()["message"]
    assert message["status"] == "interrupted"
    assert message["content"]
    return message


LONG = "[[sim:chunks=20,delay_ms=30]] one"


async def test_a_question_whose_shown_answer_was_stopped_is_not_asked_again(
    chat: ChatSuite,
) -> None:
    async with chat.user(tier="pro") as user:
        await asked(user, "zero")
        first = await asked(user, LONG)
        whole = await shown(user)
        heard = first["usage"]["input_tokens"]
        cut = await cut_short(user, first["id"])

        after = await asked(user, "two")

        assert [m["id"] for m in await shown(user)][3:] == [
            cut["id"],
            after["parent_id"],
            after["id"],
        ]
        # "zero" and its answer, and "two": neither the question that has no whole answer here, nor
        # what was said of it.
        assert after["usage"]["input_tokens"] == 1 + 3 + 1
        # The same where a question of this branch is asked in other words.
        edited = await post(user, f"/messages/{after['parent_id']}/edit", {"content": "due"})
        assert edited.json()["usage"]["input_tokens"] == 1 + 3 + 1
        # On the branch where it was answered, both are there.
        await post(user, "/branch", {"message_id": first["id"]})
        assert await shown(user) == whole
        again = await asked(user, "two")
        answered = len(first["content"].split())
        assert again["usage"]["input_tokens"] == heard + answered + 1


async def test_a_question_comes_after_an_answer_of_a_replica_whose_clock_is_ahead(
    chat: ChatSuite,
) -> None:
    async with chat.user(tier="pro") as user:
        first = await asked(user, "one")
        ahead = first_id_at(datetime.now(UTC) + timedelta(seconds=5))
        await chat.database.execute(
            "update chat_message set id = $2 where id = $1", UUID(first["id"]), ahead
        )

        second = await asked(user, "two")
        stream = await user.client.get(f"/chat/sessions/{user.session_id}/stream")
        third = await asked(user, "three")

        assert second["id"] in stream.text
        assert await is_one_line(user)
        assert await said(user) == [
            *("one", "You said: one", "two", "You said: two"),
            *("three", "You said: three"),
        ]
        assert [m["usage"]["input_tokens"] for m in (second, third)] == [5, 9]


@pytest.mark.parametrize("asks", ["again", "in other words"])
async def test_what_runs_is_found_behind_a_turn_of_a_replica_whose_clock_is_ahead(
    chat: ChatSuite, asks: str
) -> None:
    async with chat.user(tier="pro") as user:
        first = await asked(user, "one")
        ahead = datetime.now(UTC) + timedelta(seconds=30)
        ids = first_id_at(ahead), first_id_at(ahead + timedelta(milliseconds=1))
        await chat.database.execute(
            "update generation set id = $2, answer_id = $3 where answer_id = $1",
            *(UUID(first["id"]), *ids),
        )
        await chat.database.execute(
            "update chat_message set id = $2 where id = $1", UUID(first["id"]), ids[1]
        )
        path, body = {
            "again": (f"/messages/{ids[1]}/regenerate", {}),
            "in other words": (f"/messages/{first['parent_id']}/edit", {"content": LONG}),
        }[asks]
        if asks == "again":
            await chat.database.execute(
                "update chat_message set content = $2 where id = $1", UUID(first["parent_id"]), LONG
            )

        async with user.client.stream(
            "POST", f"/chat/sessions/{user.session_id}{path}", json={**body, "stream": True}
        ) as live:
            async for line in live.aiter_lines():
                if line == "event: delta":
                    break
            stopped = await post(user, "/stop", {})

        assert stopped.status_code == 200, stopped.text
        second = await asked(user, "two")
        followed = await user.client.get(f"/chat/sessions/{user.session_id}/stream")
        assert second["id"] in followed.text
        assert await is_one_line(user)
