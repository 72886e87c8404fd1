"""Chat sessions through the door, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.chat.domain.conversation import SessionId
from services.chat.storage.sessions import SqlSessions
from shared.ids import UserId
from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.waiting import eventually, until_locked_out

LONG = "[[sim:chunks=400,delay_ms=20]] on and on"


async def test_a_session_lives_from_start_to_deletion(chat: ChatSuite) -> None:
    async with chat.user() as user:
        made = await user.client.post(
            "/chat/sessions", json={"name": "Docs", "system_prompt": "Be brief."}
        )
        assert made.status_code == 201
        path = f"/chat/sessions/{made.json()['id']}"
        renamed = await user.client.patch(path, json={"name": "Papers", "system_prompt": ""})
        assert (renamed.json()["name"], renamed.json()["system_prompt"]) == ("Papers", None)
        assert (await user.client.get(path)).json() == renamed.json()
        assert (await user.client.delete(path)).status_code == 204
        assert (await user.client.get(path)).json()["code"] == "session_not_found"


async def test_changes_at_the_same_time_are_all_kept(chat: ChatSuite) -> None:
    async with chat.user() as user:
        path = f"/chat/sessions/{user.session_id}"
        for turn in range(8):
            changes = ({"name": f"n{turn}"}, {"system_prompt": f"p{turn}"}, {"provider": "openai"})
            await asyncio.gather(*(user.client.patch(path, json=change) for change in changes))
            kept = (await user.client.get(path)).json()
            assert (kept["name"], kept["system_prompt"]) == (f"n{turn}", f"p{turn}")


@pytest.mark.parametrize("stream", [False, True])
async def test_the_vendors_ratings_of_an_answer_are_shown_and_kept(
    chat: ChatSuite, stream: bool
) -> None:
    async with chat.user(tier="pro") as user:
        answer = await user.ask("hello", provider="gemini", stream=stream)
        assert answer.status_code == 200, answer.text
        path = f"/chat/sessions/{user.session_id}/messages"
        question, kept = (await user.client.get(path)).json()["data"]
        assert kept["safety_ratings"]["HARM_CATEGORY_HARASSMENT"] == "NEGLIGIBLE"
        assert question["safety_ratings"] is None
        if stream:
            done = answer.text.split("event: done\ndata: ")[1]
            told = json.loads(done.partition("\n")[0])["message"]
        else:
            told = answer.json()["message"]
        assert told["safety_ratings"] == kept["safety_ratings"]
        assert (await user.ask("more")).json()["message"]["safety_ratings"] is None


async def test_pages_show_each_session_once_newest_first(chat: ChatSuite) -> None:
    async with chat.user() as user:
        for number in range(5):
            await user.client.post("/chat/sessions", json={"name": f"s{number}"})
        seen: list[str] = []
        cursor: str | None = None
        while True:
            query: dict[str, str | int] = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            page = (await user.client.get("/chat/sessions", params=query)).json()
            assert len(page["data"]) <= 2
            seen += [session["name"] for session in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == ["s4", "s3", "s2", "s1", "s0", "New chat"]


async def test_the_first_question_names_a_session_without_a_name(chat: ChatSuite) -> None:
    async with chat.user() as user:

        async def name() -> str:
            return str((await user.client.get(f"/chat/sessions/{user.session_id}")).json()["name"])

        assert await name() == "New chat"
        await user.ask("  What is\ta tooltip?\nPlease.")
        assert await name() == "What is a tooltip?"
        await user.ask("And this?")
        assert await name() == "What is a tooltip?"
        made = await user.client.post("/chat/sessions", json={"name": "Mine"})
        user.session_id = made.json()["id"]
        await user.ask("And this?")
        assert await name() == "Mine"


async def test_a_message_tells_all_that_is_known_of_it(chat: ChatSuite) -> None:
    async with chat.user() as user:
        await user.ask("hello")
        listed = await user.client.get(f"/chat/sessions/{user.session_id}/messages")
        question, answer = listed.json()["data"]
        assert (question["parent_id"], answer["parent_id"]) == (None, question["id"])
        assert (answer["status"], answer["finish_reason"], answer["active"]) == (
            *("done", "stop"),
            True,
        )
        assert answer["usage"]["total_tokens"] > 0 < answer["cost_microusd"]
        assert answer["tool_calls"] == answer["tool_results"] == answer["attachments"] == []
        assert set(answer) == set(question)


async def test_deleting_a_session_ends_its_answer_and_keeps_the_bill(chat: ChatSuite) -> None:
    async with chat.user() as user:
        path = f"/chat/sessions/{user.session_id}"
        asking = asyncio.create_task(user.ask(LONG, stream=True))
        while not [h for h in await chat.holds(user.id) if h["state"] == "running"]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)

        assert (await user.client.delete(path)).status_code == 204

        answer = await asyncio.wait_for(asking, 5)
        assert "event: done" in answer.text
        (hold,) = await chat.holds(user.id)
        assert (hold["state"], hold["outcome"]) == ("settled", "stopped")
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "stopped"
        assert (await user.client.get(path)).status_code == 404


@pytest.mark.parametrize("asks", ["next", "live", "again", "in other words"])
@pytest.mark.usefixtures("room_in_the_minute")
async def test_a_session_that_is_deleted_while_its_question_waits_for_it_was_never_asked(
    chat: ChatSuite, asks: str
) -> None:
    async with chat.user(tier="pro") as user:
        first = (await user.ask("one")).json()["message"]
        base, served = f"/chat/sessions/{user.session_id}", len(chat.simulator.served())
        path, body = {
            "next": ("/messages", {"content": "two"}),
            "live": ("/messages", {"content": "two", "stream": True}),
            "again": (f"/messages/{first['id']}/regenerate", {}),
            "in other words": (f"/messages/{first['parent_id']}/edit", {"content": "eins"}),
        }[asks]
        before = await once_nothing_is_held(user)
        async with chat.database.connection() as connection, connection.transaction():
            sessions = SqlSessions(connection)
            session_id = SessionId(UUID(user.session_id))
            assert await sessions.lock(session_id, UserId(user.id))
            asking = asyncio.create_task(user.client.post(base + path, json=body))
            await until_locked_out(chat.database)
            assert await sessions.delete(session_id, UserId(user.id))
        answer = await asking
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
        assert len(chat.simulator.served()) == served
        assert len(await chat.usage_events(user.id)) == 1
        assert [row["state"] for row in await chat.holds(user.id)] == ["settled"]
        assert await once_nothing_is_held(user) == before


async def once_nothing_is_held(user: ChatUser) -> dict[str, int]:
    """What is used of each limit."""

    async def limits() -> list[dict[str, Any]]:
        return list((await user.client.get("/chat/limits")).json()["data"])

    seen = await eventually(limits, lambda rows: not any(row["reserved"] for row in rows))
    return {row["name"]: row["used"] for row in seen}


async def test_a_session_can_be_taken_along_as_a_file(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        image = b"\x89PNG\r\n\x1a\n1234"
        attachment = {"data": base64.b64encode(image).decode(), "media_type": "image/png"}
        first = await user.ask("```look```", attachments=[attachment])
        message = first.json()["message"]
        base = f"/chat/sessions/{user.session_id}"
        await user.client.post(
            f"{base}/messages/{message['parent_id']}/edit", json={"content": "x"}
        )

        whole = await user.client.get(f"{base}/export")
        shown = await user.client.get(f"{base}/export?format=markdown")

        assert whole.headers["content-disposition"].startswith("attachment; filename=")
        document = whole.json()
        assert [m["content"] for m in document["messages"]][::2] == ["```look```", "x"]
        assert [m["active"] for m in document["messages"]] == [False, False, True, True]
        (kept,) = document["messages"][0]["attachments"]
        assert base64.b64decode(kept["data"]) == image
        assert shown.headers["content-type"] == "text/markdown; charset=utf-8"
        assert shown.text.startswith("# ```look```\n\n## You\n\n[image: image/png]\n\nx\n")
        assert "You said: x" in shown.text
        assert "You said: ```look```" not in shown.text


async def test_an_empty_session_is_a_file_too(chat: ChatSuite) -> None:
    async with chat.user() as user:
        base = f"/chat/sessions/{user.session_id}/export"
        assert (await user.client.get(base)).json()["messages"] == []
        shown = await user.client.get(base, params={"format": "markdown"})
        assert shown.text == "# New chat\n"


async def test_another_users_session_looks_absent_everywhere(chat: ChatSuite) -> None:
    async with chat.user() as owner, chat.user() as stranger:
        path = f"/chat/sessions/{owner.session_id}"
        answers = [
            await stranger.client.get(path),
            await stranger.client.patch(path, json={"name": "mine"}),
            await stranger.client.delete(path),
            await stranger.client.get(f"{path}/messages"),
            await stranger.client.post(f"{path}/messages", json={"content": "hi"}),
            await stranger.client.get(f"{path}/export"),
            await stranger.client.get(f"{path}/export?format=markdown"),
        ]
        unknown = await stranger.client.get(f"/chat/sessions/{uuid4()}")
        assert {a.status_code for a in answers} == {unknown.status_code} == {404}
        assert {a.json()["code"] for a in answers} == {"session_not_found"}
        assert (await owner.client.get(path)).status_code == 200


async def test_models_follow_the_tier(chat: ChatSuite) -> None:
    async with chat.user() as free, chat.user(tier="enterprise") as enterprise:
        small = (await free.client.get("/chat/models")).json()["data"]
        large = (await enterprise.client.get("/chat/models")).json()["data"]
        assert {m["provider"] for m in small} == {"openai"}
        assert {m["provider"] for m in large} == {"openai", "gemini", "anthropic"}
        assert all(not m["usable"] for m in small + large)


async def test_a_session_needs_no_body(chat: ChatSuite) -> None:
    async with chat.user() as user:
        begun = await user.client.post("/chat/sessions")
        assert begun.status_code == 201, begun.text
        assert (begun.json()["name"], begun.json()["provider"]) == ("New chat", "openai")


HOSTILE: list[tuple[str, str, Any]] = [
    ("POST", "/chat/sessions", {"name": 7}),
    ("POST", "/chat/sessions", {"name": ""}),
    ("POST", "/chat/sessions", {"name": "x" * 201}),
    ("POST", "/chat/sessions", {"name": "a\x00b"}),
    ("POST", "/chat/sessions", {"name": " \u3000"}),
    ("PATCH", "{session}", {"name": "\t "}),
    ("POST", "/chat/sessions", {"provider": "nobody"}),
    ("POST", "/chat/sessions", {"surprise": True}),
    ("POST", "/chat/sessions", []),
    ("POST", "/chat/sessions", "text"),
    ("PATCH", "{session}", {"provider": "nobody"}),
    ("PATCH", "{session}", {"name": None, "id": "other"}),
    ("GET", "/chat/sessions?limit=0", None),
    ("GET", "/chat/sessions?limit=x", None),
    ("GET", "/chat/sessions?limit=99999999999999999999", None),
    ("GET", "/chat/sessions?cursor=%00", None),
    ("GET", "/chat/sessions?cursor=AAAA", None),
    ("GET", "/chat/sessions/not-an-id", None),
    ("POST", "{session}/messages", {}),
    ("POST", "{session}/messages", {"content": ""}),
    ("POST", "{session}/messages", {"content": "   "}),
    ("POST", "{session}/messages", {"content": "a\x00b"}),
    ("POST", "{session}/messages", {"content": None}),
    ("POST", "{session}/messages", {"content": ["x"]}),
    ("POST", "{session}/messages", {"content": "x" * 200_001}),
    ("POST", "{session}/messages", {"content": "hi", "stream": "maybe"}),
    ("POST", "{session}/messages", {"content": "hi", "tools": {}}),
    ("POST", "{session}/messages", {"content": "hi", "surprise": True}),
    ("POST", "{session}/messages/not-an-id/regenerate", {}),
    ("POST", f"{{session}}/messages/{UUID(int=7)}/regenerate", {"content": "x"}),
    ("POST", f"{{session}}/messages/{UUID(int=7)}/edit", {}),
    ("POST", f"{{session}}/messages/{UUID(int=7)}/edit", {"content": " "}),
    ("POST", f"{{session}}/messages/{UUID(int=7)}/edit", {"content": "x", "tool_results": []}),
    ("POST", "{session}/branch", {}),
    ("POST", "{session}/branch", {"message_id": "x"}),
    ("GET", "{session}/messages?branch=none", None),
    ("GET", "{session}/export?format=pdf", None),
    ("POST", "{session}/messages", {"content": "hi", "provider": "\x00"}),
    ("GET", "{session}/messages?cursor=!!!", None),
]


@pytest.mark.parametrize(("method", "path", "body"), HOSTILE)
async def test_bad_input_gets_a_clear_error(
    chat: ChatSuite, method: str, path: str, body: Any
) -> None:
    async with chat.user() as user:
        place = path.replace("{session}", f"/chat/sessions/{user.session_id}")
        answer = await user.client.request(method, place, json=body)
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["code"]
        assert problem["request_id"] == answer.headers["x-request-id"]


async def test_a_question_that_asks_nothing_is_told_so(chat: ChatSuite) -> None:
    async with chat.user() as user:
        messages = f"/chat/sessions/{user.session_id}/messages"
        for path in (messages, f"{messages}/{UUID(int=7)}/edit"):
            for content in ("", " \n"):
                answer = await user.client.post(path, json={"content": content})
                problem = answer.json()
                assert (answer.status_code, problem["code"], problem["field"]) == (
                    422,
                    "question_empty",
                    "content",
                )
        assert await chat.holds(user.id) == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b'{"content": "\\ud800"}', 422),
        (b"[" * 100_000, 400),
        (b'{"content": ' + b"1" * 5000 + b"}", 400),
        (b"", 422),
    ],
)
async def test_a_body_that_is_no_json_is_told_so(
    chat: ChatSuite, content: bytes, status: int
) -> None:
    async with chat.user() as user:
        answer = await user.client.post(
            f"/chat/sessions/{user.session_id}/messages",
            content=content,
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == status, answer.text
        assert answer.json()["code"] in {"malformed_json", "malformed_request", "invalid_request"}


@pytest.mark.parametrize("key", ["", "x" * 201, "tab\there", "ümlaut"])
async def test_a_bad_idempotency_key_is_refused(chat: ChatSuite, key: str) -> None:
    async with chat.user() as user:
        raw = [(b"idempotency-key", key.encode("latin-1"))]
        answer = await user.client.post(
            f"/chat/sessions/{user.session_id}/messages", json={"content": "hi"}, headers=raw
        )
        assert answer.status_code == 422
        assert await chat.usage_events(user.id) == []


async def test_without_a_token_nothing_is_open(chat: ChatSuite) -> None:
    async with chat.user() as user:
        del user.client.headers["authorization"]
        for method, path in [("GET", "/chat/sessions"), ("POST", "/chat/sessions")]:
            answer = await user.client.request(method, path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await user.client.get("/nowhere")).json()["code"] == "route_not_found"
        assert (await user.client.put("/chat/sessions")).json()["code"] == "method_not_allowed"


async def test_the_public_port_has_no_internal_routes(chat: ChatSuite) -> None:
    async with chat.user() as user:
        for path in ("/metrics", "/readyz", "/healthz", "/internal/anything"):
            assert (await user.client.get(path)).status_code == 404


async def test_the_documentation_names_every_route_and_its_errors(chat: ChatSuite) -> None:
    async with chat.user() as user:
        document = (await user.client.get("/openapi.json")).json()
        ask = document["paths"]["/chat/sessions/{session_id}/messages"]["post"]
        assert {"200", "401", "402", "404", "409", "422", "429", "502", "503"} <= set(
            ask["responses"]
        )
        assert "text/event-stream" in json.dumps(ask)


async def test_each_route_of_sessions_states_what_it_may_answer(chat: ChatSuite) -> None:
    async with chat.user() as user:
        document = (await user.client.get("/openapi.json")).json()
    stated = {
        f"{method} {path}": set(about["responses"])
        for path, methods in document["paths"].items()
        if path.startswith("/chat/")
        for method, about in methods.items()
    }
    assert len(stated) >= 15
    for route, statuses in stated.items():
        assert {"400", "401", "403", "422", "503"} <= statuses, route
        assert "{" not in route or "404" in statuses, route
    for call in ("", "/{message_id}/regenerate", "/{message_id}/edit"):
        asks = stated[f"post /chat/sessions/{{session_id}}/messages{call}"]
        assert {"402", "409", "413", "429", "502"} <= asks


async def test_each_call_that_may_cost_states_its_body_and_its_idempotency_key(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user:
        document = (await user.client.get("/openapi.json")).json()
    paid = {
        path: about
        for path, methods in document["paths"].items()
        for about in methods.values()
        if "409" in about["responses"] and not path.endswith(("/branch", "/stop"))
    }
    assert len(paid) == 10, sorted(paid)
    for path, about in paid.items():
        names = {one["name"] for one in about["parameters"]}
        assert "Idempotency-Key" in names, path
        assert "application/json" in about["requestBody"]["content"], path
        assert about["summary"] != about["operationId"], path
