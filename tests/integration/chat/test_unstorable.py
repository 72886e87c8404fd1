"""A text with NUL, which no database of ours can hold: refused by its field, before anything is
done for it, at every door where it would be kept. Where it is only passed on, its vendor judges."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from services.chat.actions.ask_live import AskLive
from services.chat.actions.take_turn import TakeTurn
from services.chat.storage.sessions import SqlSessions
from tests.integration.chat.conftest import ChatSuite
from tests.support.devices import a_device

NUL = "a\x00b"
NOBODYS = UUID(int=7)
ASKED = [
    ("POST", "{session}/messages", {"content": NUL}, "content"),
    ("POST", "{session}/messages", {"content": NUL, "stream": True}, "content"),
    (
        "POST",
        "{session}/messages",
        {
            "content": "",
            "tool_results": [{"call_id": "a", "content": "b"}, {"call_id": "b", "content": NUL}],
        },
        "tool_results.1.content",
    ),
    ("POST", f"{{session}}/messages/{NOBODYS}/edit", {"content": NUL}, "content"),
    ("POST", "/chat/sessions", {"name": NUL}, "name"),
    ("POST", "/chat/sessions", {"system_prompt": NUL}, "system_prompt"),
    ("PATCH", "{session}", {"name": NUL}, "name"),
    ("PATCH", "{session}", {"system_prompt": NUL}, "system_prompt"),
    ("GET", "/chat/sessions?q=a%00b", None, "q"),
    ("GET", "/chat/sessions?provider=a%00b", None, "provider"),
]


@pytest.fixture
def nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn is taken, and no session is read or written."""

    async def never(*_args: object, **_parts: object) -> None:
        raise AssertionError("asked")

    for action in (TakeTurn, AskLive):
        monkeypatch.setattr(action, "__call__", never)
    for name in ("add", "get", "list", "save", "search"):
        monkeypatch.setattr(SqlSessions, name, never)


@pytest.mark.parametrize(("method", "path", "body", "field"), ASKED)
async def test_it_is_refused_by_its_field(
    chat: ChatSuite, request: pytest.FixtureRequest, method: str, path: str, body: Any, field: str
) -> None:
    async with chat.user(tier="pro") as user:
        request.getfixturevalue("nothing_is_done")
        place = path.replace("{session}", f"/chat/sessions/{user.session_id}")
        answer = await user.client.request(method, place, json=body)
        told = (answer.status_code, answer.json()["code"], answer.json().get("field"))
        assert told == (422, "unstorable_text", field), answer.text


async def test_by_the_socket_too(chat: ChatSuite, request: pytest.FixtureRequest) -> None:
    async with chat.user() as user:
        token = user.client.headers["authorization"].removeprefix("Bearer ")
        async with a_device(chat.url, token) as device:
            request.getfixturevalue("nothing_is_done")
            await device.say("send", session_id=user.session_id, content=NUL, ref=1)
            told = (await device.until("error", ref=1))["data"]
            assert (told["code"], told["field"]) == ("unstorable_text", "content")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/chat/completions",
            {"model": "default", "messages": [{"role": "user", "content": NUL}]},
        ),
        ("/v1/responses", {"model": "default", "input": NUL}),
        (
            "/openai/v1/chat/completions",
            {"model": "gpt-6-luna", "messages": [{"role": "user", "content": NUL}]},
        ),
    ],
)
async def test_what_is_only_passed_on_is_the_vendors_to_judge(
    chat: ChatSuite, path: str, body: Any
) -> None:
    async with chat.user() as user:
        for again in (False, True):
            answer = await user.client.post(
                path, content=json.dumps(body), headers={"idempotency-key": "one"}
            )
            assert answer.status_code == 200, answer.text
            assert ("idempotency-replayed" in answer.headers) is again
