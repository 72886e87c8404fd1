"""How long a vendor is waited for, and what is charged when an answer comes in several goes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from services.chat.actions.settle_turn import SettleTurn
from services.chat.domain.content import Tool
from services.chat.domain.errors import VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Frame
from services.chat.domain.raw_calls import RawCall
from services.chat.domain.turn import Outcome, Settlement
from services.chat.domain.usage import Usage
from services.chat.providers import Patience, SpokenProvider, chat_wires
from services.chat.providers._haste import may_wait
from services.chat.wiring import quote
from shared.clients.egress import VendorConnectionLost
from shared.clients.http1 import MayWait
from shared.errors import ExpectedFailure
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.vendors.failures import NoUsableKey, VendorFailed, VendorRateLimited
from tests.support.chat import MemoryTurns, StoppedClock
from tests.support.chat_calls import a_hold
from tests.support.wires import a_prompt

BY = OnBehalfOf(UserId(UUID(int=1)), "request-1", "token", UUID(int=9))
SOON = timedelta(seconds=1)
PAUSED = {
    "responseId": "r",
    "usageMetadata": {"promptTokenCount": 5, "thoughtsTokenCount": 9},
    "candidates": [{"finishReason": "CONTINUATION", "continuationToken": "more"}],
}


class Said:
    """An answer in one piece."""

    def __init__(self, status: int, document: Any) -> None:
        self.status = status
        self.headers: dict[str, str] = {}
        self._pieces = [orjson.dumps(document), b""]
        self.gathered: list[bool] = []

    async def read_some(self, *, within: timedelta, gather: MayWait | None = None) -> bytes:
        self.gathered.append(gather is not None)
        return self._pieces.pop(0)

    async def read(self) -> bytes:
        return self._pieces[0]


def in_pieces(*documents: Any) -> Said:
    """An answer whose documents come one by one."""
    said = Said(200, None)
    said._pieces = [*[b"data: %b\n\n" % orjson.dumps(one) for one in documents], b""]
    return said


def a_chunk(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    """One of OpenAI's."""
    return {"id": "r", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


@pytest.mark.parametrize(
    ("piece", "waits"),
    [
        (b'{"choices":[{"delta":{"content":" tooltip"},"finish_reason":null}]}', True),
        (b'{"type":"content_block_delta","delta":{"type":"text_delta","text":" tool_"}}', True),
        (b'{"candidates":[{"content":{"parts":[{"text":"a function"}]}}]}', True),
        (b'{"type":"response.output_text.delta","delta":"hi"}', True),
        (b'{"choices":[{"delta":{"content":"a","function_call":null,"tool_calls":[]}}]}', True),
        (b'{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}', False),
        (b'{"type":"content_block_start","content_block":{"type":"tool_use"}}', False),
        (b'{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}', False),
        (b'{"type":"response.output_item.added","item":{"type":"function_call"}}', False),
    ],
)
def test_calls_of_tools_do_not_wait(piece: bytes, waits: bool) -> None:
    assert may_wait(piece) is waits


A_CALL = {"index": 0, "id": "c", "function": {"name": "look", "arguments": "{}"}}
CHUNKS = [
    a_chunk(role="assistant"),
    a_chunk(content="one"),
    a_chunk(content=" two"),
    a_chunk(tool_calls=[A_CALL]),
    a_chunk(tool_calls=[A_CALL]),
    a_chunk("tool_calls"),
]
# Of the piece after each of them, the first of all included.
MAY_WAIT = [False, False, True, True, False, False, False]


class ScriptedEgress:
    """Answers one call after the other."""

    def __init__(self, *script: Said | Exception) -> None:
        self._script = list(script)
        self.waits: list[timedelta] = []

    @asynccontextmanager
    async def call(self, *_: Any, first_byte_within: timedelta, **__: Any) -> AsyncIterator[Said]:
        self.waits.append(first_byte_within)
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        yield step


async def failure_of(*script: Said | Exception) -> ExpectedFailure:
    patience = Patience(first_byte=SOON, silence=SOON)
    egress: Any = ScriptedEgress(*script)
    frames: Sequence[Frame] = []
    with pytest.raises(ExpectedFailure) as failed:
        provider = SpokenProvider(chat_wires["gemini"], egress, patience)
        frames = [f async for f in provider.answer(a_prompt("gemini"), by=BY, stream=False)]
    assert not frames
    return failed.value


@pytest.mark.parametrize(
    "second",
    [
        Said(429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}),
        VendorConnectionLost("not reached", sent=False),
        NoUsableKey("No key."),
    ],
    ids=["refused", "not reached", "no key"],
)
async def test_a_go_that_fails_leaves_those_before_it_charged(second: Said | Exception) -> None:
    failure = await failure_of(Said(200, PAUSED), second)
    assert isinstance(failure, VendorFailed)
    assert failure.billed


async def test_the_first_go_fails_as_it_does() -> None:
    refused = Said(429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}})
    assert isinstance(await failure_of(refused), VendorRateLimited)
    failure = await failure_of(VendorConnectionLost("not reached", sent=False))
    assert isinstance(failure, VendorFailed)
    assert not failure.billed


@pytest.mark.parametrize(
    ("max_output_tokens", "stream", "seconds"),
    [(8_000, False, 460), (8_000, True, 60), (0, False, 60), (32_000, False, 590)],
)
async def test_of_a_whole_answer_the_first_byte_comes_with_the_last(
    max_output_tokens: int, stream: bool, seconds: int
) -> None:
    egress: Any = ScriptedEgress(VendorConnectionLost("no answer in time", sent=True))
    prompt = a_prompt("openai")
    choice = replace(prompt.choice, max_output_tokens=max_output_tokens)
    provider = SpokenProvider(chat_wires["openai"], egress, Patience())
    with suppress(VendorFailed):
        async for _ in provider.answer(replace(prompt, choice=choice), by=BY, stream=stream):
            """Nothing comes."""
    assert egress.waits == [timedelta(seconds=seconds)]


async def test_what_can_not_be_written_is_asked_of_nobody() -> None:
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"properties": deep}
    egress: Any = ScriptedEgress()
    provider = SpokenProvider(chat_wires["openai"], egress, Patience())
    prompt = replace(a_prompt("openai"), tools=[Tool("lookup", None, deep)])
    with pytest.raises(VendorRejectedRequest):
        async for _ in provider.answer(prompt, by=BY, stream=True):
            """Nothing comes."""
    assert egress.waits == []


async def test_what_the_vendor_would_not_take_is_refused_at_once() -> None:
    egress: Any = ScriptedEgress()
    provider = SpokenProvider(chat_wires["gemini"], egress, Patience())
    with pytest.raises(VendorRejectedRequest):
        provider.answer(replace(a_prompt("gemini"), stop=list("abcdef")), by=BY, stream=True)


async def test_whoever_leaves_a_later_go_is_told_of_those_before_it() -> None:
    second = {"responseId": "s", "usageMetadata": {"promptTokenCount": 7, "thoughtsTokenCount": 1}}
    egress: Any = ScriptedEgress(*map(in_events, (PAUSED, second)))
    provider = SpokenProvider(chat_wires["gemini"], egress, Patience())
    began: list[Any] = []
    with suppress(VendorFailed):  # the second has no end
        async for frame in provider.answer(a_prompt("gemini"), by=BY, stream=True):
            began += [frame] if isinstance(frame, Began) else []
    assert [frame.provider_request_id for frame in began] == ["r", "r"]
    assert [frame.usage.input_tokens for frame in began] == [5, 12]
    assert [frame.usage.output_tokens for frame in began] == [9, 10]


@pytest.mark.parametrize("uncounted", [0, 1])
async def test_of_goes_of_which_one_is_not_counted_the_sum_is_unknown(uncounted: int) -> None:
    goes: list[dict[str, Any]] = [{"promptTokenCount": 9, "candidatesTokenCount": 7}] * 2
    goes[uncounted] = {"promptTokenCount": "nine"}
    last = {"finishReason": "STOP", "content": {"parts": [{"text": "Done."}]}}
    egress: Any = ScriptedEgress(
        Said(200, {**PAUSED, "usageMetadata": goes[0]}),
        Said(200, {"responseId": "s", "usageMetadata": goes[1], "candidates": [last]}),
    )
    provider = SpokenProvider(chat_wires["gemini"], egress, Patience())
    frames = [frame async for frame in provider.answer(a_prompt("gemini"), by=BY, stream=False)]
    assert isinstance(frames[-1], Ended)
    assert frames[-1].usage is None


async def test_each_go_costs_what_it_costs_alone() -> None:
    # Together they would lie beyond the threshold from which each token costs more.
    goes: list[dict[str, Any]] = [
        {"promptTokenCount": 150_000, "candidatesTokenCount": 900, "thoughtsTokenCount": 100},
        {"promptTokenCount": 150_000, "candidatesTokenCount": 1_000},
    ]
    last = {"finishReason": "STOP", "content": {"parts": [{"text": "Done."}]}}
    egress: Any = ScriptedEgress(
        Said(200, {**PAUSED, "usageMetadata": goes[0]}),
        Said(200, {"responseId": "s", "usageMetadata": goes[1], "candidates": [last]}),
    )
    provider = SpokenProvider(chat_wires["gemini"], egress, Patience())
    prompt = a_prompt("gemini")
    frames = [frame async for frame in provider.answer(prompt, by=BY, stream=False)]
    ended = frames[-1]
    assert isinstance(ended, Ended)
    assert ended.usage is not None
    assert (ended.usage.input_tokens, ended.usage.output_tokens) == (300_000, 2_000)
    assert list(ended.usage.calls) == [
        Usage(150_000, output_tokens=1_000, output_reasoning_tokens=100),
        Usage(150_000, output_tokens=1_000),
    ]
    settle = SettleTurn(MemoryTurns(), quote, StoppedClock(), sandbox=True)
    settlement = Settlement(Outcome.DONE, "Done.", ended.usage, "gemini", "gemini-2.5-pro", "r", 12)
    assert settle.priced(a_hold(), settlement).cost_microusd == 2 * (187_500 + 10_000)


def in_events(document: Any) -> Said:
    said = Said(200, document)
    said._pieces[0] = b"data: %b\n\n" % said._pieces[0]
    return said


async def test_only_what_follows_a_text_may_wait_for_company() -> None:
    said = in_pieces(*CHUNKS)
    egress: Any = ScriptedEgress(said)
    provider = SpokenProvider(chat_wires["compatible"], egress, Patience())
    with suppress(VendorFailed):  # it has no end
        async for _ in provider.answer(a_prompt("compatible"), by=BY, stream=True):
            """Whatever comes."""
    assert said.gathered == MAY_WAIT


async def test_only_what_follows_a_text_may_wait_for_company_where_it_is_passed_on() -> None:
    said = in_pieces(*CHUNKS)
    egress: Any = ScriptedEgress(said)
    provider = SpokenProvider(chat_wires["openai"], egress, Patience())
    call = RawCall("openai", "/v1/chat/completions", b"{}", streamed=True)
    passed = b""
    async with provider.raw(call, by=BY) as answer:
        with suppress(VendorFailed):  # it has no end
            async for piece in answer.pieces():
                passed += piece.data
    assert said.gathered == MAY_WAIT
    assert passed == b"".join([b"data: %b\n\n" % orjson.dumps(one) for one in CHUNKS])
