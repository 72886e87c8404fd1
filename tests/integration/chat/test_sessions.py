"""Chat sessions through the door, and what it refuses."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.chat.conftest import ChatSuite


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


async def test_another_users_session_looks_absent_everywhere(chat: ChatSuite) -> None:
    async with chat.user() as owner, chat.user() as stranger:
        path = f"/chat/sessions/{owner.session_id}"
        answers = [
            await stranger.client.get(path),
            await stranger.client.patch(path, json={"name": "mine"}),
            await stranger.client.delete(path),
            await stranger.client.get(f"{path}/messages"),
            await stranger.client.post(f"{path}/messages", json={"content": "hi"}),
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


HOSTILE: list[tuple[str, str, Any]] = [
    ("POST", "/chat/sessions", {"name": 7}),
    ("POST", "/chat/sessions", {"name": ""}),
    ("POST", "/chat/sessions", {"name": "x" * 201}),
    ("POST", "/chat/sessions", {"name": "a\x00b"}),
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
    ("POST", "{session}/messages", {"content": "hi", "tools": []}),
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
