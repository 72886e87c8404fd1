"""What breaks off or is ended on the way through those doors: how it is told, and settled."""

from __future__ import annotations

import httpx
import pytest

from services.chat.domain.known_key import RevokedKey
from services.chat.wiring import wire
from shared.ids import UserId
from tests.integration.chat.conftest import ChatSuite
from tests.integration.chat.dropins import (
    CHAT,
    GEMINI,
    INTERFACES,
    RESPONSES,
    Interface,
    documents,
    every,
    settled,
    used,
)


@pytest.mark.parametrize("kind", ["cut", "stream_error"])
async def test_a_response_that_breaks_ends_in_a_numbered_event(chat: ChatSuite, kind: str) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await RESPONSES.call(user, f"[[sim:{kind},at=3]] one two three", stream=True)
        numbers = [event["sequence_number"] for event in documents(answer.text)]
        assert numbers == list(range(len(numbers)))
        assert documents(answer.text)[-1]["type"] == "error"


BREAKS = [(d, kind) for d in INTERFACES for kind in ("cut", "reset", "truncate", "stream_error")]


# Silence takes its time, and is the same for all.
BREAKS += [(CHAT, "stall"), (RESPONSES, "stream_error_flat"), (RESPONSES, "stream_failed")]


BREAKS += [(GEMINI, "stream_error_bare")]


@pytest.mark.parametrize(("door", "kind"), BREAKS, ids=[f"{d.name}-{kind}" for d, kind in BREAKS])
@pytest.mark.usefixtures("room_in_the_minute")
async def test_a_stream_that_breaks_ends_in_the_vendors_form_of_an_error(
    chat: ChatSuite, door: Interface, kind: str
) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await door.call(user, f"[[sim:{kind},at=3]] one two three four five", stream=True)
        assert answer.status_code == 200, answer.text
        error = door.error_of(documents(answer.text)[-1])
        assert error["code"] == "vendor_failed", answer.text
        assert "did not finish" in error["message"]
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "provider_failed"
        assert event["data"]["source"] == "estimated"
        assert event["data"]["output_tokens"] > 0
        assert (await settled(chat, user))["outcome"] == "provider_failed"
        assert (await used(chat, user, door.provider))["requests_per_minute"] == 1


@every
@pytest.mark.parametrize("kind", ["cut", "reset"])
@pytest.mark.usefixtures("room_in_the_minute")
async def test_a_whole_answer_that_is_cut_is_a_502_and_charged_to_nobodys_limits(
    chat: ChatSuite, door: Interface, kind: str
) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await door.call(user, f"[[sim:{kind}]] one two three")
        assert answer.status_code == 502, answer.text
        assert f'"{door.provider}.requests_per_minute";r=' in answer.headers["ratelimit"]
        refused = await door.call(user, "[[sim:fault=rate_limit]]")
        assert refused.status_code == 429
        assert f'"{door.provider}.requests_per_minute";r=' in refused.headers["ratelimit"]
        assert door.error_of(answer.json())["code"] == "vendor_failed"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "provider_failed"
        assert (await used(chat, user, door.provider))["requests_per_minute"] == 0


@every
async def test_a_connection_that_is_reset_at_once_is_a_502_and_may_be_charged(
    chat: ChatSuite, door: Interface
) -> None:
    async with chat.user(tier="enterprise") as user:
        answer = await door.call(user, "[[sim:connection_reset]] hello", stream=True)
        assert answer.status_code == 502, answer.text
        assert (await settled(chat, user))["outcome"] == "provider_failed"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["source"] == "estimated"


async def test_a_call_that_never_reached_the_vendor_is_made_once_more(chat: ChatSuite) -> None:
    async with chat.user(tier="enterprise") as user:
        chat.egress.out_of_reach[user.id] = 1
        answer = await CHAT.call(user, "hello")
        assert answer.status_code == 200, answer.text
        assert len(await chat.usage_events(user.id)) == 1


@every
async def test_a_client_that_goes_away_ends_the_call(chat: ChatSuite, door: Interface) -> None:
    async with chat.user(tier="enterprise") as user:
        body = door.body("[[sim:chunks=40,delay_ms=25]] x", stream=True)
        async with user.client.stream("POST", door.stream_path, json=body) as answer:
            seen = 0
            async for piece in answer.aiter_bytes():
                seen += len(piece)
                if seen > 1500:
                    break
        hold = await settled(chat, user)
        assert hold["outcome"] == "client_gone"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "client_gone"
        served = chat.simulator.served()
        (row,) = [r for r in served if r["response_id"] == hold["provider_request_id"]]
        # Gemini goes on when it is left, and charges; so what it says is read for its usage.
        drained = door is GEMINI
        assert (row["chunks"] == 40) == drained
        assert event["data"]["source"] == ("provider" if drained else "estimated")


async def test_a_whole_call_ends_when_its_client_goes_away(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        with pytest.raises(httpx.ReadTimeout):
            await user.client.post(
                CHAT.path, json=CHAT.body("[[sim:first_ms=3000]] hello"), timeout=0.3
            )
        assert (await settled(chat, user))["outcome"] == "client_gone"


@every
async def test_a_revoked_key_ends_its_streams(chat: ChatSuite, door: Interface) -> None:
    async with chat.user(tier="enterprise") as user:
        body = door.body("[[sim:chunks=100,delay_ms=50]] x", stream=True)
        async with user.client.stream("POST", door.stream_path, json=body) as answer:
            pieces = answer.aiter_text()
            text = await anext(pieces)
            async with wire(chat.settings) as worker:
                (hold,) = await chat.holds(user.id)
                revoked = RevokedKey(UserId(user.id), door.provider, 1, hold["created_at"])
                await worker.actions.forget_keys([revoked])
            async for piece in pieces:
                text += piece
        assert door.error_of(documents(text)[-1])["code"] == "answer_ended"
        assert (await settled(chat, user))["outcome"] == "stopped"
