"""Pieces of an answer that come soon after each other travel together, and are told the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.chat_replicas import (
    Seen,
    another_replica,
    events_of,
    next_events,
    text_of,
)

# The longest that may be set: far more than the pause between two pieces.
SPAN_MILLISECONDS = 100
PIECES = 40
QUICKLY = f"[[sim:chunks={PIECES},delay_ms=5]] one two three"
ON_AND_ON = "[[sim:chunks=2000,delay_ms=5]] on and on"
V1 = "/v1/chat/completions"
AT_OPENAI = "/openai/v1/chat/completions"


@pytest.fixture(scope="module")
async def gathering(chat: ChatSuite) -> AsyncIterator[str]:
    """The URL of a replica that gathers for long."""
    longest = chat.settings.model_copy(update={"gather_milliseconds": SPAN_MILLISECONDS})
    async with another_replica(longest) as (url, _process):
        yield url


@pytest.fixture(scope="module")
async def at_once(chat: ChatSuite) -> AsyncIterator[str]:
    """The URL of a replica that gathers nothing."""
    none = chat.settings.model_copy(update={"gather_milliseconds": 0})
    async with another_replica(none) as (url, _process):
        yield url


def told(events: list[Seen]) -> list[tuple[int, str, Any]]:
    """What does not differ from answer to answer."""
    return [(e.number, e.name, e.data.get("text")) for e in events]


async def asked(user: ChatUser, url: str, content: str) -> list[Seen]:
    user.client.base_url = url
    answer = await user.ask(content, stream=True)
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)


async def test_the_same_events_come_with_the_same_numbers(
    chat: ChatSuite, gathering: str, at_once: str
) -> None:
    async with chat.user() as ada, chat.user() as grace:
        together, one_by_one = await asyncio.gather(
            asked(ada, gathering, QUICKLY), asked(grace, at_once, QUICKLY)
        )
    assert told(together) == told(one_by_one)
    assert sum(event.name == "delta" for event in together) == PIECES
    assert text_of(together) == together[-1].data["message"]["content"]


async def test_pieces_travel_together(chat: ChatSuite, gathering: str) -> None:
    async with chat.user() as user:
        path = f"{gathering}/chat/sessions/{user.session_id}/messages"
        body = {"content": QUICKLY, "stream": True}
        async with user.client.stream("POST", path, json=body) as answer:
            reads = [piece async for piece in answer.aiter_raw() if b"event: delta" in piece]
    # The first goes by itself, all others in spans of twenty.
    assert reads[0].count(b"event: delta") < PIECES
    assert len(reads) < PIECES / 2


async def test_whoever_resumes_gets_what_is_missing(chat: ChatSuite, gathering: str) -> None:
    async with chat.user() as user:
        path = f"{gathering}/chat/sessions/{user.session_id}"
        body = {"content": QUICKLY, "stream": True}
        async with user.client.stream("POST", f"{path}/messages", json=body) as answer:
            seen = await next_events(answer.aiter_lines(), "delta")
        rest = await user.client.get(
            f"{path}/stream", headers={"last-event-id": str(seen[-1].number)}
        )
        events = [*seen, *events_of(rest.text)]
    assert all(later.number == earlier.number + 1 for earlier, later in pairwise(events))
    assert text_of(events) == events[-1].data["message"]["content"]


async def test_a_stop_keeps_what_was_told(chat: ChatSuite, gathering: str) -> None:
    async with chat.user() as user:
        path = f"{gathering}/chat/sessions/{user.session_id}"
        body = {"content": ON_AND_ON, "stream": True}
        async with user.client.stream("POST", f"{path}/messages", json=body) as answer:
            lines = answer.aiter_lines()
            events = await next_events(lines, "delta")
            stopped = await user.client.post(f"{path}/stop")
            events += await next_events(lines, "done")
    assert stopped.status_code == 200, stopped.text
    assert stopped.json()["message"]["content"] == text_of(events)
    assert events[-1].data["message"]["status"] == "interrupted"


async def test_what_was_held_comes_before_the_trouble(chat: ChatSuite, gathering: str) -> None:
    content = f"[[sim:stream_error,at=7,chunks={PIECES},delay_ms=5]] a b c"
    async with chat.user() as user:
        events = await asked(user, gathering, content)
    assert [event.name for event in events] == ["start", *["delta"] * 7, "interrupted"]
    assert events[-1].data["message"]["content"] == text_of(events)


@pytest.mark.parametrize(
    ("path", "model"), [(V1, "openai/gpt-6-luna"), (AT_OPENAI, "gpt-6-luna")], ids=["v1", "openai"]
)
async def test_sdks_hear_the_same(
    chat: ChatSuite, gathering: str, at_once: str, path: str, model: str
) -> None:
    said = [{"role": "user", "content": QUICKLY}]
    body = {"model": model, "messages": said, "stream": True}
    pieces = []
    for url in (gathering, at_once):
        async with chat.user(tier="pro") as user:
            answer = await user.client.post(f"{url}{path}", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.text.endswith("data: [DONE]\n\n")
            pieces.append([line.count('"content"') for line in answer.text.split("\n\n")])
    assert pieces[0] == pieces[1]
    assert sum(pieces[0]) >= PIECES
