"""The official SDKs at the drop-in base URLs, through the whole suite, with a personal token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors, types

from tests.e2e.test_personal_tokens import a_tool
from tests.support.suite import Person, Suite, a_person, eventually

pytestmark = [
    pytest.mark.e2e,
    # The SDK's own aiohttp session is a subclass, of which aiohttp disapproves.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession"),
]

LUNA, TERRA, SONNET, FLASH = (
    *("gpt-6-luna", "gpt-6.1-terra"),
    *("claude-sonnet-5-5", "gemini-3.8-flash"),
)
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
MANUAL = types.AutomaticFunctionCallingConfig(disable=True)


@dataclass(frozen=True, slots=True)
class Bench:
    """A person with keys at three vendors, and the SDKs that hold nothing but their token."""

    person: Person
    token: str
    keys: dict[str, str]

    @property
    def suite(self) -> Suite:
        return self.person.suite

    def gpt(self, **parts: Any) -> openai.OpenAI:
        return openai.OpenAI(**self._parts("/openai/v1", parts))

    def gpt_async(self, **parts: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**self._parts("/openai/v1", parts))

    def claude(self, **parts: Any) -> anthropic.Anthropic:
        return anthropic.Anthropic(**self._parts("/anthropic", parts))

    def claude_async(self, **parts: Any) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(**self._parts("/anthropic", parts))

    def gemini(self, token: str = "") -> genai.Client:
        options = types.HttpOptions(base_url=f"{self.suite.url}/gemini", api_version="v1")
        return genai.Client(api_key=token or self.token, http_options=options)

    def _parts(self, path: str, parts: dict[str, Any]) -> dict[str, Any]:
        return {
            "api_key": self.token,
            "base_url": self.suite.url + path,
            "max_retries": 0,
            **parts,
        }

    async def records(self, since: int) -> list[dict[str, Any]]:
        """What the ledger got since it had so many, newest first."""

        async def look() -> list[dict[str, Any]]:
            answer = await self.person.client.get("/billing/usage/records?limit=100")
            return list(answer.json()["data"])

        found = await eventually(look, lambda rows: len(rows) > since)
        return found[: len(found) - since]

    async def count(self) -> int:
        return len(
            (await self.person.client.get("/billing/usage/records?limit=100")).json()["data"]
        )

    async def is_billed(self, call: Callable[[], Any], provider: str, calls: int = 1) -> Any:
        """What the call answers; the ledger has it within two seconds."""
        before = await self.count()
        answered = await asyncio.to_thread(call) if not asyncio.iscoroutinefunction(call) else None
        if answered is None:
            answered = await call()
        done = time.monotonic()
        rows = await self.records(before + calls - 1)
        assert time.monotonic() - done < 2
        assert {row["provider"] for row in rows} == {provider}
        assert all(row["input_tokens"] > 0 for row in rows)
        return answered


async def _bench(suite: Suite, tier: str, *providers: str) -> Bench:
    person = a_person(suite)
    await person.register()
    if tier != "free":
        await person.become(tier)
    keys = {}
    for provider in providers:
        await person.store_key(provider)
        keys[provider] = person.api_key
    return Bench(person, (await a_tool(person, "chat")).token, keys)


@pytest.fixture(scope="module")
async def bench(suite: Suite) -> AsyncIterator[Bench]:
    """On the tier that grants everything."""
    made = await _bench(suite, "enterprise", "openai", "anthropic", "gemini")
    yield made
    await made.person.client.aclose()


@pytest.fixture(scope="module")
async def beginner(suite: Suite) -> AsyncIterator[Bench]:
    """On the free tier."""
    made = await _bench(suite, "free", "openai")
    yield made
    await made.person.client.aclose()


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_openai_chat(bench: Bench) -> None:
    def whole() -> Any:
        with bench.gpt() as client:
            return client.chat.completions.create(model=LUNA, messages=user("good morning"))

    answer = await bench.is_billed(whole, "openai")
    assert answer.choices[0].message.content == "You said: good morning"

    def streamed() -> tuple[str, list[Any]]:
        with bench.gpt() as client:
            stream = client.chat.completions.create(
                model="gpt-3.5-turbo", messages=user("good morning"), stream=True, max_tokens=100
            )
            chunks = list(stream)
            return "".join(c.choices[0].delta.content or "" for c in chunks), chunks

    said, chunks = await bench.is_billed(streamed, "openai")
    assert said == "You said: good morning"
    assert chunks[0].model == LUNA  # the specification's name leads to its successor

    async def by_coroutines() -> tuple[str, Any]:
        async with bench.gpt_async() as client:
            stream = await client.chat.completions.create(
                model=LUNA,
                messages=user("naïve 漢字 [[sim:split,odd]]"),
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
            return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), chunks[
                -1
            ].usage

    said, usage = await bench.is_billed(by_coroutines, "openai")
    assert said == "You said: naïve 漢字"
    assert usage.total_tokens > 0


async def test_openai_tools_and_images(bench: Bench) -> None:
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}

    def round_trip() -> Any:
        with bench.gpt() as client:
            asked = client.chat.completions.create(
                model=LUNA, messages=user("weather now"), tools=[tool], reasoning_effort="none"
            )
            assert asked.choices[0].message.tool_calls is not None
            (call,) = asked.choices[0].message.tool_calls
            messages = [
                *user("weather now"),
                asked.choices[0].message,
                {"role": "tool", "tool_call_id": call.id, "content": "rain"},
            ]
            return client.chat.completions.create(
                model=LUNA, messages=messages, tools=[tool], reasoning_effort="none"
            )

    answer = await bench.is_billed(round_trip, "openai", calls=2)
    assert answer.choices[0].message.content == "The tool said: rain"

    async def with_image() -> Any:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        content: Any = [{"type": "text", "text": "look"}, image]
        async with bench.gpt_async() as client:
            return await client.chat.completions.create(
                model=TERRA, messages=[{"role": "user", "content": content}]
            )

    answer = await bench.is_billed(with_image, "openai")
    assert answer.choices[0].message.content == "You said: look"


async def test_openai_responses(bench: Bench) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}

    def whole() -> Any:
        with bench.gpt() as client:
            return client.responses.create(model=LUNA, input="good morning")

    answer = await bench.is_billed(whole, "openai")
    assert (answer.output_text, answer.store) == ("You said: good morning", False)

    def streamed() -> str:
        with bench.gpt() as client:
            events = client.responses.create(model=LUNA, input="good morning", stream=True)
            return "".join(e.delta for e in events if e.type == "response.output_text.delta")

    assert await bench.is_billed(streamed, "openai") == "You said: good morning"

    async def round_trip() -> Any:
        async with bench.gpt_async() as client:
            asked = await client.responses.create(
                model="gpt-6.1-sol", input=user("weather now"), tools=[tool]
            )
            (call,) = (item for item in asked.output if item.type == "function_call")
            told: Any = [
                *user("weather now"),
                *[item.model_dump(exclude_none=True) for item in asked.output],
                {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
            ]
            return await client.responses.create(model="gpt-6.1-sol", input=told, tools=[tool])

    answer = await bench.is_billed(round_trip, "openai", calls=2)
    assert answer.output_text == "The tool said: rain"


async def test_anthropic_messages(bench: Bench) -> None:
    def whole() -> Any:
        with bench.claude() as client:
            return client.messages.create(
                model=SONNET, max_tokens=300, system="Be brief.", messages=user("good morning")
            )

    answer = await bench.is_billed(whole, "anthropic")
    assert answer.content[-1].text == "You said: good morning"

    def streamed() -> Any:
        with (
            bench.claude() as client,
            client.messages.stream(
                model="claude-3-sonnet-20240229",
                max_tokens=100_000,
                messages=user("good morning [[sim:odd]]"),
            ) as stream,
        ):
            return "".join(stream.text_stream), stream.get_final_message()

    said, final = await bench.is_billed(streamed, "anthropic")
    assert said == "You said: good morning"
    assert (final.model, final.stop_reason) == (SONNET, "end_turn")

    async def by_coroutines() -> Any:
        image: Any = {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
        }
        content = [{"type": "text", "text": "look"}, image]
        async with (
            bench.claude_async() as client,
            client.messages.stream(
                model=SONNET, max_tokens=300, messages=[{"role": "user", "content": content}]
            ) as stream,
        ):
            return await stream.get_final_message()

    final = await bench.is_billed(by_coroutines, "anthropic")
    assert final.content[-1].text == "You said: look"


async def test_anthropic_tools(bench: Bench) -> None:
    tool: Any = {"name": "weather", "input_schema": SCHEMA}

    async def round_trip() -> Any:
        async with bench.claude_async() as client:
            asked = await client.messages.create(
                model=SONNET, max_tokens=300, messages=user("weather now"), tools=[tool]
            )
            (call,) = (block for block in asked.content if block.type == "tool_use")
            result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
            messages: Any = [
                *user("weather now"),
                {"role": "assistant", "content": asked.content},
                {"role": "user", "content": [result]},
            ]
            return await client.messages.create(
                model=SONNET, max_tokens=300, messages=messages, tools=[tool]
            )

    answer = await bench.is_billed(round_trip, "anthropic", calls=2)
    assert answer.content[-1].text == "The tool said: rain"


async def test_anthropics_tool_runner_goes_on_without_a_thread(bench: Bench) -> None:
    @anthropic.beta_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        return "rain"

    def run() -> Any:
        with bench.claude() as client:
            runner = client.beta.messages.tool_runner(
                model=SONNET, max_tokens=300, tools=[weather], messages=user("weather now")
            )
            return runner.until_done()

    answer = await bench.is_billed(run, "anthropic", calls=2)
    assert answer.content[-1].text == "The tool said: rain"

    async def streamed() -> Any:
        @anthropic.beta_async_tool
        async def weather(city: str) -> str:
            """The weather in a city."""
            return "rain"

        async with bench.claude_async() as client:
            runner = client.beta.messages.tool_runner(
                model=SONNET,
                max_tokens=300,
                tools=[weather],
                messages=user("weather now"),
                stream=True,
            )
            return [await stream.get_final_message() async for stream in runner][-1]

    answer = await bench.is_billed(streamed, "anthropic", calls=2)
    assert answer.content[-1].text == "The tool said: rain"

    async with bench.claude_async() as client:
        thread = client.beta.messages.thread(model=SONNET, max_tokens=300)
        with pytest.raises(anthropic.BadRequestError) as refused:
            await thread.send({"role": "user", "content": "good morning"})
    assert refused.value.error_code == "thread_unsupported_request"


async def test_anthropics_betas_and_token_counts(bench: Bench) -> None:
    async def with_beta() -> Any:
        async with bench.claude_async() as client:
            return await client.beta.messages.create(
                model=SONNET,
                max_tokens=300,
                messages=user("good morning"),
                betas=["interleaved-thinking-2025-05-14"],
            )

    answer = await bench.is_billed(with_beta, "anthropic")
    assert answer.content[-1].text == "You said: good morning"
    before = await bench.count()
    async with bench.claude_async() as client:
        counted = await client.messages.count_tokens(model=SONNET, messages=user("good morning"))
    assert counted.input_tokens > 0
    assert await bench.count() == before


async def test_gemini_content(bench: Bench) -> None:
    def whole() -> Any:
        with bench.gemini() as client:
            return client.models.generate_content(model=FLASH, contents="good morning")

    answer = await bench.is_billed(whole, "gemini")
    assert answer.text == "You said: good morning"

    def streamed() -> str:
        with bench.gemini() as client:
            chunks = client.models.generate_content_stream(
                model="gemini-pro", contents="naïve 漢字 [[sim:split,u2028]]"
            )
            return "".join(chunk.text or "" for chunk in chunks)

    assert (await bench.is_billed(streamed, "gemini")).startswith("You said: naïve 漢字")

    async def by_coroutines() -> str:
        image = types.Part.from_bytes(data=b"\x89PNG", mime_type="image/png")
        async with bench.gemini().aio as client:
            stream = await client.models.generate_content_stream(
                model=FLASH,
                contents=types.Content(role="user", parts=[image, types.Part(text="look")]),
            )
            return "".join([chunk.text or "" async for chunk in stream])

    assert await bench.is_billed(by_coroutines, "gemini") == "You said: look"

    def by_url() -> Any:
        url = "https://pictures.invalid/a.png"
        image: Any = types.Part.from_uri(file_uri=url, mime_type="image/png")
        with bench.gemini() as client:
            return client.models.generate_content(model=FLASH, contents=[image, "look"])

    assert (await bench.is_billed(by_url, "gemini")).text == "You said: look"


async def test_gemini_tools_and_token_counts(bench: Bench) -> None:
    declared = types.FunctionDeclaration(name="weather", parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declared])], automatic_function_calling=MANUAL
    )

    def round_trip() -> Any:
        with bench.gemini() as client:
            first = types.Content(role="user", parts=[types.Part(text="weather now")])
            asked: Any = client.models.generate_content(
                model=FLASH, contents=[first], config=config
            )
            (call,) = asked.function_calls
            result = types.FunctionResponse(id=call.id, name=call.name, response={"output": "rain"})
            told = types.Content(role="user", parts=[types.Part(function_response=result)])
            return client.models.generate_content(
                model=FLASH, contents=[first, asked.candidates[0].content, told], config=config
            )

    answer = await bench.is_billed(round_trip, "gemini", calls=2)
    assert answer.text == "The tool said: rain"
    async with bench.gemini().aio as client:
        counted = await client.models.count_tokens(model=FLASH, contents="good morning")
    assert counted.total_tokens == 2


async def test_each_lists_its_vendors_models(bench: Bench) -> None:
    async def openais() -> set[str]:
        async with bench.gpt_async() as client:
            return {model.id async for model in client.models.list()}

    found = await eventually(openais, lambda names: len(names) > 2)
    assert {LUNA, TERRA} < found
    assert all(name.startswith("gpt-") for name in found)

    def in_plain_functions() -> tuple[Any, Any, Any, Any, Any]:
        with bench.gpt() as client, bench.claude() as other, bench.gemini() as third:
            return (
                client.models.retrieve(LUNA).id,
                {model.id for model in other.models.list()},
                other.models.retrieve(SONNET).lifecycle,
                {model.name for model in third.models.list()},
                third.models.get(model=FLASH).output_token_limit,
            )

    one, claudes, lifecycle, geminis, limit = await asyncio.to_thread(in_plain_functions)
    assert (one, lifecycle, limit) == (LUNA, "active", 32_000)
    assert SONNET in claudes
    assert f"models/{FLASH}" in geminis


async def test_errors_are_the_sdks_own_classes(bench: Bench) -> None:
    bad = bench.token[:-1] + "!"
    async with bench.gpt_async() as client:
        for wrong, kind in (
            (client.with_options(api_key=bad), openai.AuthenticationError),
            (client, openai.NotFoundError),
        ):
            with pytest.raises(kind):
                await wrong.chat.completions.create(model="gpt-2", messages=user("hi"))
        with pytest.raises(openai.NotFoundError) as absent:
            await client.embeddings.create(model="e", input="hi")
        assert absent.value.code == "call_not_offered"
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=LUNA, messages=user("hi"), n=2)
        assert refused.value.param == "n"
    async with bench.claude_async() as claude:
        with pytest.raises(anthropic.AuthenticationError):
            await claude.with_options(api_key=bad).models.list()
        with pytest.raises(anthropic.NotFoundError) as unknown:
            await claude.messages.create(model="claude-1", max_tokens=9, messages=user("hi"))
        assert unknown.value.error_code == "model_not_found"
        with pytest.raises(anthropic.NotFoundError):
            await claude.messages.batches.list()
    with bench.gemini(bad) as gemini, pytest.raises(errors.ClientError) as unauthenticated:
        gemini.models.generate_content(model=FLASH, contents="hi")
    assert unauthenticated.value.code == 401
    async with bench.gemini().aio as third:
        with pytest.raises(errors.ClientError) as gone:
            await third.models.generate_content(model="gemini-1", contents="hi")
    assert (gone.value.code, gone.value.status) == (404, "NOT_FOUND")


async def test_the_vendors_refusals_are_the_sdks_own_classes(bench: Bench) -> None:
    simulator = bench.suite.simulator
    for vendor, key in bench.keys.items():
        simulator.add_fault("rate_limit", vendor=vendor, key=key)
    async with bench.gpt_async() as client:
        with pytest.raises(openai.RateLimitError) as limited:
            await client.responses.create(model=LUNA, input="hi")
        assert limited.value.response.headers["retry-after"] == "1"
        stream = await client.chat.completions.create(
            model=LUNA, messages=user("[[sim:stream_error,at=2]] a b c d"), stream=True
        )
        with pytest.raises(openai.APIError, match="did not finish"):
            _ = [chunk async for chunk in stream]
        events = await client.responses.create(
            model=LUNA, input="[[sim:cut,at=2]] a b c d", stream=True
        )
        with pytest.raises(openai.APIError, match="did not finish"):
            _ = [event async for event in events]
    async with bench.claude_async() as claude:
        with pytest.raises(anthropic.RateLimitError):
            await claude.messages.create(model=SONNET, max_tokens=9, messages=user("hi"))
        broken = await claude.messages.create(
            model=SONNET, max_tokens=90, messages=user("[[sim:reset,at=2]] a b c d"), stream=True
        )
        with pytest.raises(anthropic.APIStatusError, match="did not finish"):
            _ = [event async for event in broken]
    with bench.gemini() as gemini:
        with pytest.raises(errors.ClientError) as exhausted:
            gemini.models.generate_content(model=FLASH, contents="hi")
        assert (exhausted.value.code, exhausted.value.status) == (429, "RESOURCE_EXHAUSTED")
        with pytest.raises(errors.APIError, match="did not finish"):
            for _ in gemini.models.generate_content_stream(
                model=FLASH, contents="[[sim:stream_error_bare,at=2]] a b c d"
            ):
                pass


async def test_what_the_tier_does_not_include(beginner: Bench) -> None:
    async with beginner.gpt_async(max_retries=2) as client:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(model="gpt-4", messages=user("hi"))
        assert refused.value.code == "model_not_in_tier"
        tool: Any = {"type": "function", "function": {"name": "f"}}
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(model=LUNA, messages=user("hi"), tools=[tool])
        assert refused.value.code == "feature_not_in_tier"
        answer = await client.chat.completions.with_raw_response.create(
            model=LUNA, messages=user("[[sim:chunks=1200]] hi"), max_completion_tokens=90_000
        )
        assert answer.parse().choices[0].finish_reason == "length"  # the tier's cap
        assert answer.headers["x-ratelimit-limit-requests"] == "5"
        with pytest.raises(openai.RateLimitError) as limited:
            for _ in range(6):
                await client.with_options(max_retries=0).responses.create(model=LUNA, input="hi")
        assert limited.value.code == "limit_reached"
    async with beginner.claude_async() as claude:
        with pytest.raises(anthropic.PermissionDeniedError) as forbidden:
            await claude.messages.create(model=SONNET, max_tokens=9, messages=user("hi"))
        assert forbidden.value.error_code == "provider_not_in_tier"


async def test_a_repeated_request_is_answered_once(bench: Bench) -> None:
    before, began = await bench.count(), datetime.now(UTC)
    key = {"Idempotency-Key": uuid4().hex}
    async with bench.claude_async() as client:

        async def ask() -> list[str]:
            stream = await client.messages.create(
                model=SONNET,
                max_tokens=90,
                messages=user("good morning"),
                stream=True,
                extra_headers=key,
            )
            return [event.model_dump_json() async for event in stream]

        first, again = await ask(), await ask()
    assert first == again

    async def its_own() -> list[dict[str, Any]]:
        # What other tests asked before may come into the ledger meanwhile.
        found = await bench.records(before)
        return [row for row in found if datetime.fromisoformat(row["occurred_at"]) >= began]

    await eventually(its_own, bool)
    await asyncio.sleep(1)  # a second one would come no later
    assert len(await its_own()) == 1


async def test_the_vendor_sees_its_users_key_and_nothing_of_ours(bench: Bench) -> None:
    async with bench.claude_async() as client:
        await client.messages.create(
            model=SONNET,
            max_tokens=90,
            messages=user("hi"),
            extra_headers={
                "anthropic-beta": "interleaved-thinking-2025-05-14,files-api-2025-04-14"
            },
        )
    told = bench.suite.simulator.last_headers("anthropic")["headers"]
    headers = {name.lower(): value for name, value in told}
    assert headers["anthropic-beta"] == "interleaved-thinking-2025-05-14"
    assert bench.token not in repr(told)
    assert not [name for name in headers if name.startswith(("x-companion", "x-request"))]
    assert bench.suite.simulator.served(key=bench.keys["anthropic"])
    for name in ("gateway", "chat", "egress"):
        assert bench.token[4:-6] not in bench.suite.log(name)
