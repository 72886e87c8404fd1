"""The hot route for questions says what the route behind it would say."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.http.hot import HotRoutes
from tests.integration.chat.conftest import ChatSuite

JSON = {"content-type": "application/json"}
GOOD = b'{"content": "hello"}'

ODD: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "no JSON": ("", b"{", JSON),
    "nothing": ("", b"", JSON),
    "no object": ("", b"[]", JSON),
    "too deep": ("", b"[" * 100_000, JSON),
    "no content": ("", b"{}", JSON),
    "empty content": ("", b'{"content": " "}', JSON),
    "half a character": ("", rb'{"content": "\ud800"}', JSON),
    "an unknown field": ("", b'{"content": "a", "colour": "red"}', JSON),
    "no number": ("", b'{"content": "a", "temperature": NaN}', JSON),
    "several": ("", b'{"content": 1, "temperature": 9, "tools": [{}]}', JSON),
    "another type": ("", GOOD, {"content-type": "text/plain"}),
    "no type": ("", GOOD, {}),
    "no id": ("77", GOOD, JSON),
    "no id and no content": ("77", b"{}", JSON),
    "a bad key": ("", GOOD, {**JSON, "idempotency-key": "a b"}),
    "a long key": ("", GOOD, {**JSON, "idempotency-key": "k" * 201}),
    "an empty key": ("", GOOD, {**JSON, "idempotency-key": ""}),
    "no such session": (str(uuid4()), GOOD, JSON),
    "no such provider": ("", b'{"content": "a", "provider": "nobody"}', JSON),
    "a bad token": ("", GOOD, {**JSON, "authorization": "Bearer nonsense"}),
    "no bearer": ("", GOOD, {**JSON, "authorization": "Basic YTpi"}),
    "neither token nor JSON": ("", b"{", {**JSON, "authorization": ""}),
}


async def told(app: Any, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://chat") as client:
        answer = await client.post(path, content=body, headers=headers)
    problem = answer.json()
    problem.pop("request_id")
    return answer.status_code, problem


@pytest.mark.parametrize("case", ODD)
async def test_what_is_out_of_order_is_told_as_before(chat: ChatSuite, case: str) -> None:
    session_id, body, headers = ODD[case]
    hot = chat.process.public._app  # type: ignore[attr-defined]
    assert isinstance(hot, HotRoutes)
    async with chat.user() as user:
        path = f"/chat/sessions/{session_id or user.session_id}/messages"
        headers = {"authorization": user.client.headers["authorization"], **headers}

        here = await told(hot, path, body, headers)
        behind = await told(hot._app, path, body, headers)

    assert here == behind
    assert 400 <= here[0] < 500


async def test_a_token_for_something_else_is_refused(chat: ChatSuite) -> None:
    async with chat.user() as user:
        headers = chat.mint.headers(user.id, scope="keys")
        answer = await user.ask("hello", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


async def test_too_large_a_body_is_refused(chat: ChatSuite) -> None:
    async with chat.user() as user:
        path = f"/chat/sessions/{user.session_id}/messages"
        answer = await user.client.post(path, content=b"x" * (26 << 20), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("form", ["upper", "braces", "charset"])
async def test_what_is_written_in_another_way_is_answered_too(chat: ChatSuite, form: str) -> None:
    async with chat.user() as user:
        id_ = {"upper": user.session_id.upper(), "braces": f"{{{user.session_id}}}"}
        headers = {"content-type": "application/json; charset=utf-8"} if form == "charset" else JSON
        path = f"/chat/sessions/{id_.get(form, user.session_id)}/messages"
        answer = await user.client.post(path, content=GOOD, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["message"]["content"] == "You said: hello"


async def test_the_documentation_knows_the_operation(chat: ChatSuite) -> None:
    async with chat.user() as user:
        document = (await user.client.get("/openapi.json")).json()
    operation = document["paths"]["/chat/sessions/{session_id}/messages"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/NewMessage"}
    assert {"200", "401", "402", "404", "409", "422", "429", "503"} <= operation["responses"].keys()
