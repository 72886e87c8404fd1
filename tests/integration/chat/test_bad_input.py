"""What is too large, too deep, of the wrong type or no text at all, at a chat session's doors: an
error of its sender's, never one of ours, and nothing is held for it.

What each field may be is tested beside what it does; here is what no field may do.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.devices import a_device
from tests.support.odd_bodies import odd_bodies

MIB = 1 << 20
TOOL = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}
WHOLE: dict[str, Any] = {
    "content": "hello",
    "provider": "openai",
    "model": "gpt-6-luna",
    "stream": False,
    "tools": [TOOL],
    "tool_choice": "auto",
    "temperature": 0.5,
    "effort": "low",
    "answer_format": {"type": "json_schema", "schema": {"type": "object"}, "name": "x"},
    "attachments": [{"type": "image", "url": "https://pictures.invalid/a.png"}],
    "tool_results": [{"call_id": "a", "content": "b"}],
    "speak": None,
}


def deep(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def body(**parts: bytes) -> bytes:
    given = {"content": b'"hello"', **parts}
    return b"{%b}" % b",".join(b'"%b":%b' % (k.encode(), v) for k, v in given.items())


def tool(parameters: bytes) -> bytes:
    return b'[{"name":"look","parameters":%b}]' % parameters


TEXT_OF_LIMIT = b'"%b"' % (b"x" * 200_000)
BODIES: dict[str, tuple[bytes, set[int], set[str]]] = {
    "deep-body": (b"[" * 10_000 + b"]" * 10_000, {400, 422}, set()),
    "deep-object": (deep(10_000), {400, 422}, set()),
    "deep-content": (body(content=deep(10_000)), {400, 422}, set()),
    "deep-schema-of-300": (body(tools=tool(deep(300))), {422}, {"bad_schema", "invalid_request"}),
    "deep-schema-of-900": (body(tools=tool(deep(900))), {422, 400}, set()),
    "deep-schema": (body(tools=tool(deep(10_000))), {422, 400}, set()),
    "deep-enum": (
        body(tools=tool(b'{"type":"object","enum":[%b]}' % deep(200))),
        {422},
        {"bad_schema"},
    ),
    "deep-answer-format": (
        body(answer_format=b'{"type":"json_schema","schema":%b}' % deep(300)),
        {422},
        {"bad_schema"},
    ),
    "deep-speak": (body(speak=deep(10_000)), {400, 422}, set()),
    "large-schema": (
        body(tools=tool(b'{"type":"object","description":"%b"}' % (b"x" * 40_000))),
        {422},
        {"bad_schema"},
    ),
    "too-many-tools": (
        body(tools=b"[%b]" % b",".join(b'{"name":"t%d"}' % n for n in range(65))),
        {422},
        {"invalid_request"},
    ),
    "longest-and-one": (
        body(content=b'"%b"' % (b"x" * 200_001)),
        {422},
        {"invalid_request"},
    ),
    "nul": (body(content=b'"a\\u0000b"'), {422}, set()),
    "nul-in-a-tool": (
        body(tools=b'[{"name":"look","description":"a\\u0000b"}]'),
        {200, 402, 422},
        set(),
    ),
    "lone-surrogate": (body(content=b'"\\ud800"'), {400, 422}, set()),
    "lone-surrogate-in-a-schema": (
        body(tools=tool(b'{"type":"object","title":"\\ud800"}')),
        {400, 422},
        set(),
    ),
    "number-beyond-64-bits": (
        body(tools=tool(b'{"type":"object","maximum":%b}' % (b"9" * 400))),
        {400, 422},
        set(),
    ),
    "infinity": (body(temperature=b"1e999"), {400, 422}, set()),
    "not-a-number": (body(temperature=b"NaN"), {400, 422}, set()),
    "twice-the-same-name": (body(content=b'"a"') + b"", {200}, set()),
    "unknown-provider": (
        body(provider=b'"nobody"'),
        {404, 422},
        {"unknown_chat_provider", "provider_not_spoken"},
    ),
    "unknown-model": (body(model=b'"nobody-1"'), {402, 404}, {"model_not_in_tier"}),
    "bytes": (b"\x00\x01\x02\xff", {400}, set()),
    "trailing": (body() + b"{}", {400}, set()),
}


@pytest.fixture(scope="module")
async def user(chat: ChatSuite) -> AsyncIterator[ChatUser]:
    """Somebody who is not stopped by their limits too soon."""
    async with chat.user(tier="enterprise") as user:
        yield user


def path_of(user: ChatUser) -> str:
    return f"/chat/sessions/{user.session_id}/messages"


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_can_not_be_is_its_senders_fault(
    chat: ChatSuite, user: ChatUser, name: str
) -> None:
    content, statuses, codes = BODIES[name]
    before = len(await chat.holds(user.id))
    answer = await user.client.post(path_of(user), content=content, headers=JSON)
    assert answer.status_code in statuses, answer.text[:500]
    if answer.status_code != 200:
        assert answer.json()["code"] in codes or not codes, answer.text[:500]
        assert len(answer.content) < 5_000
        assert len(await chat.holds(user.id)) == before


async def test_the_longest_question_is_taken(chat: ChatSuite) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await user.client.post(
            path_of(user), content=body(content=TEXT_OF_LIMIT), headers=JSON
        )
        assert answer.status_code == 200, answer.text[:500]
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "done"


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("path", ["session", "/v1/chat/completions", "/openai/v1/chat/completions"])
async def test_a_body_over_the_cap_is_not_read_to_its_end(
    chat: ChatSuite, user: ChatUser, path: str, declared: bool
) -> None:
    place = path_of(user) if path == "session" else path
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'{"content":"'
        for _ in range(30):
            sent += 1
            yield b"x" * MIB
        yield b'"}'

    headers = {**JSON, **({"content-length": str(14 + 30 * MIB)} if declared else {})}
    answer = await user.client.post(place, content=pieces(), headers=headers)
    assert answer.status_code == 413, answer.text[:300]
    assert answer.json().get("code", answer.json().get("error", {}).get("code")) == "too_large"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_what_is_not_said_to_be_json_is_not_read(
    chat: ChatSuite, user: ChatUser, kind: str
) -> None:
    before = len(await chat.holds(user.id))
    answer = await user.client.post(path_of(user), content=body(), headers={"content-type": kind})
    assert answer.status_code in {400, 415, 422}
    assert answer.json()["code"]
    assert len(await chat.holds(user.id)) == before


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(["", "openai", "image", "look", "data:image/png;base64,AAAA", "\x00", "json"])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(codec="utf-8"), max_size=8)
            | st.sampled_from(["type", "properties", "data", "url", "name", "content"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


QUESTIONS = odd_bodies(WHOLE, ANYTHING, most_left_out=11)


def many(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


async def test_no_question_is_answered_with_an_error_of_ours(chat: ChatSuite) -> None:
    seen: Counter[int] = Counter()
    async with chat.user(tier="enterprise") as user:

        async def ask(question: Any) -> None:
            content = json.dumps(question).encode()
            answer = await user.client.post(path_of(user), content=content, headers=JSON)
            seen[answer.status_code] += 1
            assert answer.status_code < 500 or answer.status_code == 502, answer.text
            if answer.status_code >= 400:
                assert answer.json()["code"], answer.text
            chat.egress.calls.clear()

        await asyncio.to_thread(examples_of, QUESTIONS, 300, ask)
        assert not [h for h in await chat.holds(user.id) if h["state"] != "settled"]
    assert seen[200] > 0
    assert seen[422] > 50


OPS = ("auth", "send", "stop", "join", "leave", "emit", "ping")


@st.composite
def words(draw: st.DrawFn, session_id: str) -> Any:
    """What a device may say, with some of it exchanged for anything."""
    word: dict[str, Any] = {
        "op": draw(st.sampled_from(OPS)),
        "ref": "r",
        "session_id": draw(st.sampled_from([session_id, str(uuid4()), "x"])),
        "token": "nonsense",
        "event": "typing",
        "data": {"a": 1},
        "after": 0,
        "turn_id": str(uuid4()),
        "content": "hello",
    }
    names = {
        "auth": ["token"],
        "send": ["session_id", "content"],
        "stop": ["session_id"],
        "join": ["session_id", "after", "turn_id"],
        "leave": ["session_id"],
        "emit": ["session_id", "event", "data"],
    }.get(word["op"], [])
    word = {name: word[name] for name in ("op", "ref", *names)}
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from([*word, "surprise"]))
        word[name] = draw(ANYTHING)
    return draw(ANYTHING) if draw(st.integers(0, 9)) == 0 else word


async def test_no_word_of_a_device_ends_in_an_error_of_ours(chat: ChatSuite) -> None:
    heard: Counter[str] = Counter()
    async with chat.user(tier="enterprise") as user:
        token = chat.mint.token(user.id, tier="enterprise")

        async def say(said: list[Any]) -> None:
            async with a_device(chat.url, token) as device:
                try:
                    for word in said:
                        await device.connection.send(json.dumps(word))
                    await device.say("ping", ref="last")
                    await device.until("pong", ref="last")
                except ConnectionClosed as closed:
                    code = closed.rcvd.code if closed.rcvd else 1006
                    # Sent away for what they said, not lost by a mistake of ours.
                    assert code not in {1006, 1011}, (said, code)
                    heard[f"closed {code}"] += 1
                for event in device.heard:
                    heard[event["event"]] += 1
                    assert "internal_error" not in json.dumps(event), (said, event)

        sayings = st.lists(words(user.session_id), min_size=1, max_size=4)
        await asyncio.to_thread(examples_of, sayings, 60, say)
    assert heard["pong"] > 20
    assert heard["error"] > 20


_LOOPS: dict[str, asyncio.AbstractEventLoop] = {}


def examples_of(strategy: Any, examples: int, check: Any) -> None:
    """Hypothesis draws in a thread, and what it drew is checked on the tests' own loop."""
    loop = _LOOPS["tests"]

    @many(examples)
    @given(strategy)
    def checked(example: Any) -> None:
        asyncio.run_coroutine_threadsafe(check(example), loop).result(30)

    checked()


@pytest.fixture(autouse=True, scope="module")
async def loop_of_tests() -> AsyncIterator[None]:
    _LOOPS["tests"] = asyncio.get_running_loop()
    yield
    _LOOPS.clear()
