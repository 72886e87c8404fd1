"""Whatever is sent to the interface over all vendors: an answer or an error of its sender's, never
one of ours, and nothing of the credentials in it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.chat.conftest import ChatSuite
from tests.support.odd_bodies import odd_bodies

PATHS = ("/v1/chat/completions", "/v1/responses")
TOOL = {"name": "lookup", "description": "Looks up.", "parameters": {"type": "object"}}
CALL = {"id": "a", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}
PART = {"type": "text", "text": "hello"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://pictures.invalid/a.png"}}

WHOLE: dict[str, Any] = {
    "model": "default",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [PART, IMAGE]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "a", "content": [PART]},
        {"role": "user", "content": "hi"},
    ],
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "r", "summary": []},
        {"type": "function_call", "call_id": "a", "name": "lookup", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "a bird"},
    ],
    "instructions": "Be brief.",
    "max_completion_tokens": 10,
    "max_output_tokens": 10,
    "temperature": 1,
    "top_p": 1,
    "stop": ["end"],
    "stream": False,
    "stream_options": {"include_usage": True},
    "tools": [{"type": "function", "function": TOOL, **TOOL}],
    "tool_choice": {"type": "function", "name": "lookup", "function": {"name": "lookup"}},
    "parallel_tool_calls": True,
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}},
    "reasoning_effort": "low",
    "reasoning": {"effort": "low"},
    "metadata": {"a": "b"},
    "n": 1,
}

# orjson takes no integers beyond 64 bits, and no lone surrogates: nor does any client's JSON.
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["", "user", "function", "default", "data:image/png;base64,AAAA", "\x00"])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["type", "content", "role"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


BODIES = odd_bodies(WHOLE, ANYTHING, most_left_out=12, fewest_exchanged=1)


async def test_no_body_is_answered_with_an_error_of_ours(chat: ChatSuite) -> None:
    user_id = uuid4()
    for provider in ("openai", "anthropic", "gemini"):
        chat.egress.keys[(user_id, provider)] = "sim-key"
    headers = chat.mint.headers(user_id, tier="enterprise")
    seen: set[int] = set()

    @settings(
        max_examples=150,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(body=BODIES, path=st.sampled_from(PATHS))
    def ask(body: Any, path: str) -> None:
        answer = client.post(path, content=orjson.dumps(body))
        assert answer.status_code < 500, (answer.status_code, answer.text)
        if answer.is_error:
            error = answer.json()["error"]
            assert error["type"]
            assert error["code"] != "internal_error"
        assert "sim-key" not in answer.text
        assert headers["authorization"][-20:] not in answer.text
        seen.add(answer.status_code)

    with httpx.Client(base_url=chat.url, headers=headers, timeout=20, trust_env=False) as client:
        # Hypothesis is not asynchronous, and the application is served by this loop.
        await asyncio.to_thread(ask)
    assert {200, 400} <= seen


async def test_odd_json_is_refused_or_answered(chat: ChatSuite) -> None:
    headers = chat.mint.headers(uuid4(), tier="enterprise")
    deep = b"[" * 900 + b"]" * 900
    odd = [
        b'{"model":"default","messages":' + deep + b"}",
        b'{"model":"default","messages":[{"role":"user","content":' + deep + b"}]}",
        b'{"model":"default","messages":[{"role":"user","content":"x"}],"n":1e999}',
        b'{"model":"default","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"default","input":"x","metadata":{"a":' + b"9" * 400 + b"}}",
        b'{"model":"\\u0000","messages":[{"role":"user","content":"x"}]}',
        b'{"model":"openai/","messages":[{"role":"user","content":"x"}],"stop":""}',
    ]
    async with httpx.AsyncClient(base_url=chat.url, headers=headers, trust_env=False) as client:
        answers = await asyncio.gather(
            *(client.post(path, content=body) for path in PATHS for body in odd)
        )
    assert all(400 <= answer.status_code < 500 for answer in answers), [a.text for a in answers]


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"{}" + b"}" * levels


@pytest.mark.parametrize(
    ("path", "field", "rest"),
    [
        (PATHS[0], "tools", b'[{"type":"function","function":{"name":"a","parameters":%b}}]'),
        (PATHS[0], "response_format", b'{"type":"json_schema","json_schema":{"schema":%b}}'),
        (PATHS[1], "tools", b'[{"type":"function","name":"a","parameters":%b}]'),
        (PATHS[1], "text", b'{"format":{"type":"json_schema","name":"a","schema":%b}}'),
        (PATHS[1], "metadata", b'{"a":%b}'),
        (PATHS[1], "input", b'[{"type":"reasoning","id":%b}]'),
    ],
)
async def test_what_nests_too_deeply_to_be_repeated_is_refused_and_free(
    chat: ChatSuite, path: str, field: str, rest: bytes
) -> None:
    user_id = uuid4()
    chat.egress.keys[(user_id, "openai")] = "sim-key"
    headers = chat.mint.headers(user_id, tier="enterprise")
    asked = b'"messages":[{"role":"user","content":"x"}]' if path == PATHS[0] else b'"input":"x"'
    async with httpx.AsyncClient(base_url=chat.url, headers=headers, trust_env=False) as client:

        async def ask(levels: int) -> httpx.Response:
            said = b'{"model":"openai/gpt-6-luna",%b,"%b":%b}'
            body = said % (asked, field.encode(), rest % nested(levels))
            return await client.post(path, content=body)

        for levels in (210, 300, 900):
            answer = await ask(levels)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (
                400,
                "bad_parameter",
                field,
            )
        assert await chat.holds(user_id) == []
        assert (await ask(180)).status_code < 500
