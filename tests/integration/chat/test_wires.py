"""Every wire over the egress, before the simulator of its vendor: conversations, faults, usage."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.chat.domain.content import (
    AnswerFormat,
    ImagePart,
    Role,
    TextPart,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from services.chat.domain.content import Utterance as Said
from services.chat.domain.errors import ModelUnavailable, VendorRejectedRequest
from services.chat.domain.frames import Began, Ended, Frame, Text, Thoughts, ToolCallPiece
from services.chat.domain.raw_calls import RawCall
from services.chat.domain.turn import Prompt
from services.chat.providers import Patience, SpokenProvider, chat_wires, speaking
from shared.clients.egress import NoUsableKey, open_egress
from shared.errors import ExpectedFailure
from shared.identity import OnBehalfOf
from shared.ids import UserId
from shared.vendors.failures import (
    VendorFailed,
    VendorOverloaded,
    VendorQuotaExhausted,
    VendorRateLimited,
    VendorRefused,
)
from tests.support.egress import EgressStandIn, egress_to
from tests.support.simulator.process import RunningSimulator
from tests.support.tokens import TokenMint, identity_of, write_identities
from tests.support.wires import MODELS, a_prompt, the_end, told

SIMULATED = sorted(set(chat_wires) & set(MODELS))
NATIVE = ["anthropic", "gemini"]
TOOL = Tool("weather", "Tells it.", {"type": "object", "properties": {"city": {"type": "string"}}})
PIXEL = ImagePart("image/png", b"\x89PNG")
EITHER_WAY = pytest.mark.parametrize("stream", [False, True])
EVERY_VENDOR = pytest.mark.parametrize("vendor", SIMULATED)
EVERY_NATIVE = pytest.mark.parametrize("vendor", NATIVE)


@dataclass
class Vendors:
    """All wires, for one user after the other."""

    providers: dict[str, SpokenProvider]
    egress: EgressStandIn
    mint: TokenMint
    simulator: RunningSimulator
    key: str = field(default_factory=lambda: f"sim-key-{uuid4()}")

    def someone(self, vendor: str) -> OnBehalfOf:
        user_id = UserId(uuid4())
        self.key = f"sim-key-{uuid4()}"
        self.egress.keys[(user_id, vendor)] = self.key
        return OnBehalfOf(user_id, str(uuid4()), self.mint.token(user_id), uuid4())

    async def ask(
        self, prompt: Prompt, *, stream: bool
    ) -> tuple[list[Frame], ExpectedFailure | None]:
        vendor = prompt.choice.provider
        frames: list[Frame] = []
        by = self.someone(vendor)
        try:
            answer = self.providers[vendor].answer(prompt, by=by, stream=stream)
            async with aclosing(answer) as said:  # type: ignore[type-var]
                # One by one: those before a failure count.
                async for frame in said:
                    frames += [frame]
        except ExpectedFailure as failure:
            return frames, failure
        return frames, None

    async def answer(
        self, vendor: str, *said: Said | str, stream: bool = True, **parts: Any
    ) -> list[Frame]:
        """The frames of an answer that is as it should be."""
        frames, failure = await self.ask(a_prompt(vendor, *said, **parts), stream=stream)
        assert failure is None, repr(failure)
        return frames

    def charged(self) -> list[dict[str, Any]]:
        """What the vendor would charge the last user."""
        return self.simulator.served(key=self.key)


@pytest.fixture(scope="module")
async def vendors(
    tmp_path_factory: pytest.TempPathFactory, simulator: RunningSimulator
) -> AsyncIterator[Vendors]:
    identities = Path(tmp_path_factory.mktemp("identity"))
    write_identities(identities)
    mint = TokenMint()
    stand_in = egress_to(simulator, trusted_identities=identities / "trusted.json", mint=mint)
    patience = Patience(first_byte=timedelta(seconds=5), silence=timedelta(milliseconds=300))
    async with (
        stand_in.running() as egress,
        open_egress(egress.url, identity_of(identities, "chat")) as pool,
    ):
        yield Vendors(speaking(pool, patience), egress, mint, simulator)


def shorter(prompt: Prompt, most: int) -> Prompt:
    return replace(prompt, choice=replace(prompt.choice, max_output_tokens=most))


# Conversations


@EVERY_VENDOR
@EITHER_WAY
async def test_a_question_is_answered_and_counted(
    vendors: Vendors, vendor: str, stream: bool
) -> None:
    directive = "[[sim:cached=10,reasoning=7]]"
    frames = await vendors.answer(vendor, f"good morning {directive}", stream=stream)

    assert told(frames)[0] == "You said: good morning"
    ended = the_end(frames)
    assert ended.reason == "stop"
    (served,) = vendors.charged()
    assert frames[0] == Began(served["response_id"], MODELS[vendor])
    assert ended.usage is not None
    assert served["usage"] == {name: getattr(ended.usage, name) for name in served["usage"]}
    assert ended.usage.cache_read_tokens == 10
    assert ended.usage.output_reasoning_tokens == 7


async def test_written_cache_is_counted_where_it_is_told(vendors: Vendors) -> None:
    ended = the_end(await vendors.answer("anthropic", "hi [[sim:cached=3,cache_write=5]]"))
    assert ended.usage is not None
    assert (ended.usage.cache_write_tokens, ended.usage.input_tokens) == (5, 2 + 3 + 5)
    assert ended.usage.service_tier == "standard"


@EVERY_VENDOR
@EITHER_WAY
async def test_the_vendor_hears_all_of_the_conversation(
    vendors: Vendors, vendor: str, stream: bool
) -> None:
    answered = Said(Role.ASSISTANT, "three four five")
    frames = await vendors.answer(
        vendor, "one two", answered, "six", stream=stream, system_prompt="seven eight"
    )
    usage = the_end(frames).usage
    assert usage is not None
    assert usage.input_tokens == 8
    assert told(frames)[0] == "You said: six"


@EVERY_VENDOR
async def test_an_image_is_seen(vendors: Vendors, vendor: str) -> None:
    seen = Said(Role.USER, "a pixel", parts=[TextPart("a pixel"), PIXEL])
    by_url = Said(Role.USER, "a", parts=[ImagePart(url="https://images.invalid/a.png")])
    for said, tokens in ((seen, 2 + 85), (by_url, 85)):
        usage = the_end(await vendors.answer(vendor, said)).usage
        assert usage is not None
        assert usage.input_tokens == tokens


@EVERY_VENDOR
@EITHER_WAY
@pytest.mark.parametrize("calls", [1, 2])
async def test_tools_are_called_and_their_results_told(
    vendors: Vendors, vendor: str, stream: bool, calls: int
) -> None:
    question = f"weather now [[sim:calls={calls},reasoning=3]]"
    frames = await vendors.answer(
        vendor, question, stream=stream, tools=[TOOL], effort=_effort_with_tools(vendor)
    )

    text, _, made = told(frames)
    assert the_end(frames).reason == "tool_calls"
    assert [(name, json.loads(arguments)) for name, arguments in made] == [
        ("weather", {"city": "weather now"})
    ] * calls
    answered = Said(
        Role.ASSISTANT, text, tool_calls=_calls(frames), thoughts=_thoughts(frames, vendor)
    )
    results = [ToolResult(call.id, "rain") for call in answered.tool_calls]
    frames = await vendors.answer(
        vendor,
        question,
        answered,
        Said(Role.TOOL, "", tool_results=results),
        stream=stream,
        tools=[TOOL],
    )
    assert told(frames)[0].startswith("The tool said: rain")
    assert the_end(frames).reason == "stop"


def _effort_with_tools(vendor: str) -> Any:
    """Thoughts have to go back with the results, where they are shown at all."""
    return "high" if vendor in NATIVE else None


def _calls(frames: Sequence[Frame]) -> list[ToolCall]:
    first = {f.index: f for f in frames if isinstance(f, ToolCallPiece) and f.name}
    arguments = [arguments for _, arguments in told(frames)[2]]
    return [
        ToolCall(piece.id or "", piece.name or "", said, piece.signature)
        for piece, said in zip(first.values(), arguments, strict=True)
    ]


def _thoughts(frames: Sequence[Frame], vendor: str) -> list[Thought]:
    blocks = [block for f in frames if isinstance(f, Thoughts) for block in f.blocks]
    assert blocks or vendor != "anthropic"
    return blocks


@EVERY_VENDOR
async def test_a_call_of_another_vendors_model_goes_on_here(vendors: Vendors, vendor: str) -> None:
    call = ToolCall("of.another/vendor:1", "weather", '{"city":"here"}')
    foreign = [Thought("nobody", {"type": "opaque"})]
    frames = await vendors.answer(
        vendor,
        "what?",
        Said(Role.ASSISTANT, "", tool_calls=[call], thoughts=foreign),
        Said(Role.TOOL, "", tool_results=[ToolResult(call.id, "rain", failed=True)]),
        tools=[TOOL],
    )
    assert "rain" in told(frames)[0]


@EVERY_VENDOR
async def test_a_tool_can_be_demanded_and_forbidden(vendors: Vendors, vendor: str) -> None:
    for choice in (ToolChoice("required"), ToolChoice("named", "weather")):
        frames = await vendors.answer(vendor, "hi", tools=[TOOL], tool_choice=choice)
        assert [name for name, _ in told(frames)[2]] == ["weather"]
    frames = await vendors.answer(vendor, "weather", tools=[TOOL], tool_choice=ToolChoice("none"))
    assert told(frames) == ("You said: weather", "", [])


@EVERY_NATIVE
@EITHER_WAY
async def test_who_asks_for_effort_sees_the_thoughts(
    vendors: Vendors, vendor: str, stream: bool
) -> None:
    prompt = "hi [[sim:reasoning=9]]"
    frames = await vendors.answer(vendor, prompt, stream=stream, effort="high")
    text, thinking, _ = told(frames)
    assert (text, thinking[:8]) == ("You said: hi", "The user")
    usage = the_end(frames).usage
    assert usage is not None
    assert usage.output_reasoning_tokens == 9
    assert usage.output_tokens == 9 + 3


@EVERY_VENDOR
@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
async def test_every_effort_is_taken_by_every_model(
    vendors: Vendors, vendor: str, effort: Any
) -> None:
    for model in (MODELS[vendor], *_OTHER_MODELS.get(vendor, ())):
        frames = await vendors.answer(vendor, model=model, effort=effort, temperature=0.5)
        assert the_end(frames).reason == "stop", model


_OTHER_MODELS = {
    "anthropic": ["claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-4-6", "claude-haiku-4-5"],
    "gemini": ["gemini-4-argon", "gemini-3.6-flash", "gemini-3.1-flash-lite", "gemini-2.5-pro"],
}


@EVERY_VENDOR
@EITHER_WAY
async def test_json_by_a_schema(vendors: Vendors, vendor: str, stream: bool) -> None:
    schema = {"type": "object", "properties": {"what": {"type": "string"}}}
    form = AnswerFormat(schema, name="found")
    frames = await vendors.answer(vendor, "a pixel", stream=stream, answer_format=form)
    assert json.loads(told(frames)[0]) == {"what": "a pixel"}


@EVERY_VENDOR
@EITHER_WAY
async def test_it_ends_where_it_is_told_to(vendors: Vendors, vendor: str, stream: bool) -> None:
    frames = await vendors.answer(vendor, "one two three", stream=stream, stop=["three", "END"])
    assert told(frames)[0].strip() == "You said: one two"
    assert the_end(frames).reason == "stop"

    frames, _ = await vendors.ask(shorter(a_prompt(vendor, "one two"), 3), stream=stream)
    assert told(frames)[0].strip() == "You said: one"
    assert the_end(frames).reason == "length"


@EVERY_VENDOR
@EITHER_WAY
async def test_what_is_filtered_is_told(vendors: Vendors, vendor: str, stream: bool) -> None:
    frames = await vendors.answer(vendor, "hi [[sim:finish=content_filter]]", stream=stream)
    assert the_end(frames).reason == "content_filter"


@EITHER_WAY
async def test_why_it_is_filtered(vendors: Vendors, stream: bool) -> None:
    ended = the_end(await vendors.answer("anthropic", "hi [[sim:refuse]]", stream=stream))
    assert (ended.reason, ended.why) == ("content_filter", "general_harms")

    ended = the_end(await vendors.answer("gemini", "hi [[sim:refuse]]", stream=stream))
    assert (ended.reason, ended.why) == ("content_filter", "SAFETY")
    assert ended.ratings is not None
    assert ended.ratings["HARM_CATEGORY_HARASSMENT"] == "NEGLIGIBLE"

    frames = await vendors.answer("gemini", "hi [[sim:block=PROHIBITED_CONTENT]]", stream=stream)
    ended = the_end(frames)
    assert (ended.reason, ended.why) == ("content_filter", "PROHIBITED_CONTENT")
    assert ended.usage is not None
    assert ended.usage.output_tokens == 0


@EVERY_NATIVE
async def test_a_conversation_that_ends_with_the_assistant_goes_on(
    vendors: Vendors, vendor: str
) -> None:
    frames = await vendors.answer(vendor, "hi", Said(Role.ASSISTANT, "ho"))
    assert told(frames)[0] == "You said: Continue."


@pytest.mark.parametrize("model", ["claude-sonnet-4-6", "claude-sonnet-5-5"])
async def test_a_temperature_goes_by_the_old_version_or_not_at_all(
    vendors: Vendors, model: str
) -> None:
    await vendors.answer("anthropic", "hi", model=model, temperature=0.3)
    headers = {n.lower(): v for n, v in vendors.simulator.last_headers("anthropic")["headers"]}
    version = {"claude-sonnet-4-6": "2023-06-01"}.get(model, "2026-10-21")
    assert headers["anthropic-version"] == version


@EVERY_VENDOR
@pytest.mark.parametrize("directive", ["split", "odd", "u2028", "split,u2028,odd"])
async def test_odd_manners_change_nothing(vendors: Vendors, vendor: str, directive: str) -> None:
    frames = await vendors.answer(vendor, f"grüße 漢字 🙂 [[sim:{directive}]]")
    breaks = " line\u2028paragraph\u2029next\u0085end" if "u2028" in directive else ""
    assert told(frames)[0].replace("  ", " ") == "You said: grüße 漢字 🙂" + breaks
    assert the_end(frames).reason == "stop"


@EVERY_VENDOR
@EITHER_WAY
async def test_what_the_vendor_does_not_count_is_not_counted_here(
    vendors: Vendors, vendor: str, stream: bool
) -> None:
    frames = await vendors.answer(vendor, "hi [[sim:nousage]]", stream=stream)
    assert the_end(frames).usage is None


@EITHER_WAY
async def test_an_answer_in_several_goes_is_one(vendors: Vendors, stream: bool) -> None:
    frames = await vendors.answer(
        "gemini", "one two three four [[sim:continuation=2,reasoning=2]]", stream=stream
    )

    kinds = [type(frame) for frame in frames if not isinstance(frame, Text)]
    # Each go tells what all have used by then.
    assert kinds == [Began, Began, Began, Ended]
    assert len({frame.provider_request_id for frame in frames if isinstance(frame, Began)}) == 1
    assert told(frames)[0] == "You said: one two three four"
    ended = the_end(frames)
    assert ended.reason == "stop"
    served = vendors.charged()
    assert len(served) == 3
    assert ended.usage is not None
    for name in served[0]["usage"]:
        assert getattr(ended.usage, name) == sum(row["usage"][name] for row in served)


# Faults


@EVERY_VENDOR
@EITHER_WAY
@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("invalid_key", NoUsableKey),
        ("missing_scope", NoUsableKey),
        ("permission", NoUsableKey),
        ("bad_request", VendorRejectedRequest),
        ("too_large", VendorRejectedRequest),
        ("quota", VendorQuotaExhausted),
        ("rate_limit", VendorRateLimited),
        ("model_not_found", ModelUnavailable),
        ("overloaded", VendorOverloaded),
        ("server_error", VendorOverloaded),
        ("bad_gateway", VendorOverloaded),
        ("unavailable", VendorOverloaded),
        ("gateway_timeout", VendorOverloaded),
        ("html_502", VendorOverloaded),
        ("html_413", VendorRejectedRequest),
        ("status_418", VendorRejectedRequest),
    ],
)
async def test_a_refusal_comes_before_any_frame(
    vendors: Vendors, vendor: str, stream: bool, fault: str, failure: type[Exception]
) -> None:
    frames, raised = await vendors.ask(a_prompt(vendor, f"[[sim:fault={fault}]]"), stream=stream)
    assert frames == []
    assert type(raised) is failure


@EVERY_VENDOR
async def test_the_vendors_wait_is_kept(vendors: Vendors, vendor: str) -> None:
    prompt = a_prompt(vendor, "[[sim:fault=rate_limit,retry_after=3]]")
    _, raised = await vendors.ask(prompt, stream=True)
    assert isinstance(raised, VendorRefused)
    assert raised.retry_after == timedelta(seconds=3)


async def test_googles_own_words_for_a_wait(vendors: Vendors) -> None:
    for fault, wait in (("rate_limit_fractional", 1.2), ("rate_limit_fractional,wrapped", 1.2)):
        _, raised = await vendors.ask(a_prompt("gemini", f"[[sim:fault={fault}]]"), stream=False)
        assert isinstance(raised, VendorRateLimited)
        assert raised.retry_after == timedelta(seconds=wait)


@EVERY_VENDOR
@EITHER_WAY
@pytest.mark.parametrize("fault", ["connection_reset", "connection_close"])
async def test_a_connection_that_is_lost_at_once(
    vendors: Vendors, vendor: str, stream: bool, fault: str
) -> None:
    frames, raised = await vendors.ask(a_prompt(vendor, f"[[sim:{fault}]]"), stream=stream)
    assert frames == []
    assert type(raised) is VendorFailed
    # Whether it had read the request before that, nobody knows.
    assert raised.billed


@EVERY_VENDOR
@pytest.mark.parametrize("fault", ["cut", "reset", "truncate", "stall", "stream_error"])
async def test_a_stream_that_breaks_may_be_charged_and_keeps_what_was_said(
    vendors: Vendors, vendor: str, fault: str
) -> None:
    prompt = a_prompt(vendor, f"one two three four [[sim:{fault},at=3]]")
    frames, raised = await vendors.ask(prompt, stream=True)

    assert told(frames)[0].strip() == "You said: one"
    assert type(raised) is VendorFailed
    assert raised.billed
    assert not any(isinstance(frame, Ended) for frame in frames)


@EVERY_VENDOR
@pytest.mark.parametrize("fault", ["cut", "truncate"])
async def test_an_answer_without_its_end_is_none(vendors: Vendors, vendor: str, fault: str) -> None:
    frames, raised = await vendors.ask(a_prompt(vendor, f"hi [[sim:{fault},at=99]]"), stream=True)
    assert told(frames)[0] == "You said: hi"
    assert type(raised) is VendorFailed


@EVERY_NATIVE
async def test_an_error_before_anything_was_said_is_free(vendors: Vendors, vendor: str) -> None:
    faults = ["stream_error", *(["stream_error_bare"] if vendor == "gemini" else [])]
    for fault in faults:
        prompt = a_prompt(vendor, f"hi [[sim:{fault},at=0]]")
        frames, raised = await vendors.ask(prompt, stream=True)
        assert [type(frame) for frame in frames] in ([], [Began])
        assert type(raised) is VendorOverloaded


async def test_a_bare_error_in_mid_stream(vendors: Vendors) -> None:
    prompt = a_prompt("gemini", "one two [[sim:stream_error_bare,at=3]]")
    frames, raised = await vendors.ask(prompt, stream=True)
    assert told(frames)[0].strip() == "You said: one"
    assert type(raised) is VendorFailed


@EVERY_VENDOR
@pytest.mark.parametrize("fault", ["cut", "reset"])
async def test_a_whole_answer_that_breaks(vendors: Vendors, vendor: str, fault: str) -> None:
    frames, raised = await vendors.ask(a_prompt(vendor, f"hi [[sim:{fault}]]"), stream=False)
    assert frames == []
    assert type(raised) is VendorFailed


# Clients' own calls


def _anthropic_body(text: str, *, stream: bool) -> Any:
    messages = [{"role": "user", "content": text}]
    return {"model": MODELS["anthropic"], "max_tokens": 9, "messages": messages, "stream": stream}


def _gemini_body(text: str, *, stream: bool) -> Any:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]}


_GEMINI = f"models/{MODELS['gemini']}"
OWN_CALLS = pytest.mark.parametrize(
    ("vendor", "path", "streamed", "body"),
    [
        ("anthropic", "/v1/messages", True, _anthropic_body),
        ("anthropic", "/v1/messages", False, _anthropic_body),
        ("gemini", f"/v1/{_GEMINI}:generateContent", False, _gemini_body),
        ("gemini", f"/v1beta/{_GEMINI}:generateContent", False, _gemini_body),
        ("gemini", f"/v1/{_GEMINI}:streamGenerateContent?alt=sse", True, _gemini_body),
        ("gemini", f"/v1beta/{_GEMINI}:streamGenerateContent", True, _gemini_body),
    ],
)


async def _raw(
    vendors: Vendors, call: RawCall
) -> tuple[bytes, list[Frame], ExpectedFailure | None]:
    data, frames = b"", list[Frame]()
    provider, by = vendors.providers[call.provider], vendors.someone(call.provider)
    try:
        async with provider.raw(call, by=by) as answer:
            if answer.status != 200:
                refusal = await answer.refusal()
                return json.dumps(dict(refusal.document)).encode(), [], refusal.failure
            async with aclosing(answer.pieces()) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    data += piece.data
                    frames += piece.frames
    except ExpectedFailure as failure:
        return data, frames, failure
    return data, frames, None


def _call(vendor: str, path: str, streamed: bool, body: Callable[..., Any], text: str) -> RawCall:
    encoded = json.dumps(body(text, stream=streamed)).encode()
    headers = {"anthropic-version": "2023-06-01"} if vendor == "anthropic" else {}
    return RawCall(vendor, path, encoded, streamed, headers)


@OWN_CALLS
async def test_a_clients_own_call_is_passed_through_and_accounted(
    vendors: Vendors, vendor: str, path: str, streamed: bool, body: Callable[..., Any]
) -> None:
    call = _call(vendor, path, streamed, body, 'naïve {[\\"]} [[sim:cached=4,u2028,split]]')
    data, frames, failure = await _raw(vendors, call)

    assert failure is None
    assert told(frames)[0].startswith('You said: naïve {[\\"]}')
    (served,) = vendors.charged()
    assert served["response_id"].encode() in data
    usage = the_end(frames).usage
    assert usage is not None
    assert served["usage"] == {name: getattr(usage, name) for name in served["usage"]}
    if not streamed or (vendor == "gemini" and "alt" not in path):
        json.loads(data)


@OWN_CALLS
async def test_a_clients_own_call_that_fails_is_passed_through_too(
    vendors: Vendors, vendor: str, path: str, streamed: bool, body: Callable[..., Any]
) -> None:
    call = _call(vendor, path, streamed, body, "hi [[sim:fault=rate_limit]]")
    data, frames, failure = await _raw(vendors, call)
    assert frames == []
    assert type(failure) is VendorRateLimited
    assert b"rate_limit_error" in data or b"RESOURCE_EXHAUSTED" in data
    if streamed:
        call = _call(vendor, path, streamed, body, "one two [[sim:stream_error,at=3]]")
        data, frames, failure = await _raw(vendors, call)
        assert type(failure) is VendorFailed
        assert b"verloaded" not in data
        if "v1beta" not in path:  # an array has no events that could be passed on one by one
            assert told(frames)[0].strip() == "You said: one"
            assert b"one" in data
