"""Answers that are spoken while they are written."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.chat.conftest import ChatSuite, ChatUser
from tests.support.chat_replicas import Seen, another_replica, events_of, next_events
from tests.support.devices import a_device
from tests.support.voice_stand_in import VoiceStandIn
from tests.support.waiting import stood_still

TWO = "Hello there, my friend. How are you today?"
# Thirty words a second and a half, so that audio comes long before the end.
SLOWLY = "[[sim:chunks=40,delay_ms=20]] One two. Three four. Five six. " + "And on. " * 12
ON_AND_ON = "[[sim:chunks=400,delay_ms=20]] On and on. " + "And on. " * 100


@pytest.fixture(scope="module")
async def running_voice() -> AsyncIterator[VoiceStandIn]:
    async with VoiceStandIn().running() as voice:
        yield voice


@pytest.fixture(scope="module")
async def speaking(chat: ChatSuite, running_voice: VoiceStandIn) -> AsyncIterator[str]:
    """A chat that knows of a voice."""
    settings = chat.settings.model_copy(update={"voice_internal_url": running_voice.url})
    async with another_replica(settings) as (url, _):
        yield url


@pytest.fixture
def voice(running_voice: VoiceStandIn, speaking: str) -> VoiceStandIn:
    fresh = VoiceStandIn()
    for name in ("refusal", "fails_after", "pieces", "piece_bytes", "goes_on", "lines"):
        setattr(running_voice, name, getattr(fresh, name))
    return running_voice


@asynccontextmanager
async def a_user(chat: ChatSuite, url: str) -> AsyncIterator[ChatUser]:
    async with chat.user(tier="pro") as user:
        user.client.base_url = url
        yield user


def asked(content: str, **parts: Any) -> dict[str, Any]:
    return {"content": content, "stream": True, "speak": {"voice_id": "rachel"}, **parts}


async def ask(user: ChatUser, content: str = TWO, **parts: Any) -> list[Seen]:
    headers = parts.pop("headers", {})
    answer = await user.client.post(
        f"/chat/sessions/{user.session_id}/messages", json=asked(content, **parts), headers=headers
    )
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)


def audio_of(events: Sequence[Seen]) -> list[str]:
    return [
        b64decode(event.data["audio_base64"]).decode() for event in events if event.name == "audio"
    ]


def named(events: Sequence[Seen], name: str) -> Seen:
    (event,) = [event for event in events if event.name == name]
    return event


async def test_sentences_are_heard_in_the_stream_of_the_text(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        wish = {"voice_id": "rachel", "format": "mp3_44100_64", "settings": {"speed": 1.1}}
        events = await ask(user, speak=wish)
        assert audio_of(events) == ["You said: Hello there, my friend.", "How are you today?"]
        assert named(events, "audio_end").data == {
            "speech_id": "a-speech",
            "characters": 51,
            "outcome": "done",
        }
        assert named(events, "done").data["message"]["content"] == f"You said: {TWO}"
        line = await voice.last()
        of_session = {"session_id": user.session_id}
        assert line.manner == {"op": "manner", "model": None, **wish, **of_session}
        (hold,) = await chat.holds(user.id)
        assert line.headers["x-request-id"] == hold["request_id"]
        assert line.headers["x-companion-user"] in user.client.headers["authorization"]


@pytest.mark.parametrize(
    ("way", "body", "heard"),
    [
        ("regenerate", {}, "You said: Hi there."),
        ("edit", {"content": "Good evening."}, "You said: Good evening."),
    ],
)
async def test_an_answer_on_a_new_branch_is_heard_too(
    chat: ChatSuite,
    speaking: str,
    voice: VoiceStandIn,
    way: str,
    body: dict[str, Any],
    heard: str,
) -> None:
    async with a_user(chat, speaking) as user:
        first = named(await ask(user, "Hi there."), "done").data["message"]
        path = f"/chat/sessions/{user.session_id}/messages/{first['parent_id']}/{way}"
        wish = {"speak": {"voice_id": "adam"}, **body}
        refused = await user.client.post(path, json=wish)
        assert (refused.status_code, refused.json()["code"]) == (422, "speak_needs_stream")
        answer = await user.client.post(path, json={"stream": True, **wish})
        assert answer.status_code == 200, answer.text
        events = events_of(answer.text)
        assert audio_of(events) == [heard]
        message = named(events, "done").data["message"]
        assert message["content"] == heard
        assert message["id"] != first["id"]
        assert named(events, "audio_end").data["outcome"] == "done"
        assert (await voice.last()).manner["voice_id"] == "adam"
        assert len(await chat.holds(user.id)) == 2, "what was refused was never held"


async def test_the_first_audio_comes_long_before_the_text_is_whole(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        events = await ask(user, SLOWLY)
    names = [event.name for event in events]
    before = names[: names.index("audio")]
    assert names.index("audio") < names.index("done")
    assert before.count("delta") <= 8, "one sentence, and what shows that it has ended"
    numbers = [event.number for event in events if event.number]
    assert numbers == list(range(1, len(numbers) + 1)), "audio takes no numbers"


async def test_the_voice_is_the_users_own_where_none_is_named(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        path = f"/chat/sessions/{user.session_id}/messages"
        refused = await user.client.post(path, json=asked("Hi.", speak=True))
        assert (refused.status_code, refused.json()["code"]) == (422, "speak_voice_missing")
        assert not voice.lines
        await user.client.put("/chat/preferences", json={"speak_voice_id": "myOwn1"})
        assert audio_of(await ask(user, "Hi.", speak=True)) == ["You said: Hi."]
        assert (await voice.last()).manner["voice_id"] == "myOwn1"


async def test_what_may_not_be_heard_is_refused_before_it_costs_anything(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    voice.refusal = {
        "code": "realtime_not_in_tier",
        "status": 402,
        "detail": "No.",
        "upgrade_tier": "pro",
    }
    async with a_user(chat, speaking) as user:
        path = f"/chat/sessions/{user.session_id}/messages"
        refused = await user.client.post(path, json=asked("Hi."))
        body = refused.json()
        assert (refused.status_code, body["code"]) == (402, "realtime_not_in_tier")
        assert body["upgrade_tier"] == "pro"
        assert await chat.holds(user.id) == []


async def test_a_question_that_is_refused_leaves_no_line_open(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        path = "/chat/sessions/00000000-0000-7000-8000-000000000000/messages"
        assert (await user.client.post(path, json=asked("Hi."))).status_code == 404
        line = await voice.last()
        assert (line.ended_as, line.sentences) == ("client_gone", [])


async def test_without_voice_the_text_comes_all_the_same(chat: ChatSuite) -> None:
    settings = chat.settings.model_copy(update={"voice_internal_url": "http://127.0.0.1:9"})
    async with another_replica(settings) as (url, _), a_user(chat, url) as user:
        events = await ask(user)
    problem = named(events, "audio_error").data["problem"]
    assert (problem["status"], problem["code"]) == (503, "dependency_unavailable")
    assert named(events, "done").data["message"]["content"] == f"You said: {TWO}"


async def test_voice_that_dies_leaves_the_text(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        path = f"/chat/sessions/{user.session_id}/messages"
        async with user.client.stream("POST", path, json=asked(SLOWLY)) as answer:
            lines = answer.aiter_lines()
            await next_events(lines, "audio")
            connection = voice.lines[-1].connection
            assert connection is not None
            connection.transport.abort()
            rest = await next_events(lines, "done")
    assert named(rest, "audio_error").data["problem"]["code"] == "dependency_unavailable"
    assert [event.name for event in rest][-1] == "done"


async def test_a_full_budget_ends_the_audio_and_not_the_text(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    voice.fails_after = 1
    async with a_user(chat, speaking) as user:
        events = await ask(user)
    assert len(audio_of(events)) == 1
    assert named(events, "audio_error").data["problem"]["code"] == "limit_reached"
    assert named(events, "done")


async def test_a_slow_voice_slows_no_text(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        path = f"/chat/sessions/{user.session_id}/messages"
        async with user.client.stream("POST", path, json=asked(TWO)) as answer:
            lines = answer.aiter_lines()
            await next_events(lines, "start")
            voice.goes_on.clear()
            text = await next_events(lines, "done")
            assert len(audio_of(text)) <= 1
            voice.goes_on.set()
            rest = await next_events(lines, "audio_end")
    assert len(audio_of(text + rest)) == 2, "the stream stays open until it is through"


async def test_stopping_the_answer_stops_its_audio(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        path = f"/chat/sessions/{user.session_id}"
        async with user.client.stream("POST", f"{path}/messages", json=asked(ON_AND_ON)) as answer:
            lines = answer.aiter_lines()
            await next_events(lines, "audio")
            stopped = await user.client.post(f"{path}/stop")
            assert stopped.status_code == 200, stopped.text
            rest = [json.loads(line[6:]) async for line in lines if line.startswith("data: ")]
        assert (await voice.last()).ended_as == "stopped"
    assert {"outcome": "stopped"}.items() <= next(
        data for data in rest if "speech_id" in data
    ).items()


async def test_who_leaves_ends_the_audio_and_not_the_text(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        path = f"/chat/sessions/{user.session_id}"
        async with user.client.stream("POST", f"{path}/messages", json=asked(SLOWLY)) as answer:
            seen = await next_events(answer.aiter_lines(), "audio")
        assert (await voice.last()).ended_as == "client_gone"
        last = max(event.number for event in seen)
        resumed = await user.client.get(f"{path}/stream", headers={"last-event-id": str(last)})
        rest = events_of(resumed.text)
    assert named(rest, "done").data["finish_reason"] == "stop"
    assert not audio_of(rest), "whoever resumes reads on"


async def test_an_answer_that_is_told_again_is_not_spoken_again(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        key = {"idempotency-key": "spoken-once"}
        assert len(audio_of(await ask(user, headers=key))) == 2
        again = await ask(user, headers=key)
    assert named(again, "done")
    assert {event.name for event in again} & {"audio", "audio_end", "audio_error"} == set()
    assert [line.sentences for line in voice.lines][1:] == [[]]


async def test_devices_hear_and_mute_the_answers_that_they_asked_for(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        token = user.client.headers["authorization"].removeprefix("Bearer ")
        async with a_device(speaking, token) as one, a_device(speaking, token) as other:
            await one.join(user.session_id)
            await other.join(user.session_id)
            await one.say("send", session_id=user.session_id, **asked(ON_AND_ON))
            audio = await one.until("audio")
            assert audio["data"]["sentence"] == 1
            assert audio["session_id"] == user.session_id
            await one.say("mute", session_id=user.session_id, ref=7)
            muted = await one.until("muted", ref=7)
            assert muted["data"] == {"was_speaking": True}
            end = await one.until("audio_end")
            assert end["data"]["outcome"] == "stopped"
            await one.until("delta")
            await one.say("stop", session_id=user.session_id)
            done = await one.until("done", turn_id=audio["turn_id"])
            await other.until("done", turn_id=audio["turn_id"])
            assert one.turn(audio["turn_id"]) == other.turn(audio["turn_id"])
            assert "audio" not in {event["event"] for event in other.heard}
            assert done["data"]["message"]["status"] == "interrupted"
            await one.say("mute", session_id=user.session_id)
            assert (await one.until("muted"))["data"] == {"was_speaking": False}
        assert (await voice.last()).ended_as == "stopped"


async def test_a_device_that_goes_ends_its_audio(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    async with a_user(chat, speaking) as user:
        token = user.client.headers["authorization"].removeprefix("Bearer ")
        async with a_device(speaking, token) as one:
            await one.say("send", session_id=user.session_id, **asked(SLOWLY))
            await one.until("audio")
        assert (await voice.last()).ended_as == "client_gone"
        async with asyncio.timeout(10):
            while [hold["outcome"] for hold in await chat.holds(user.id)] != ["done"]:
                await asyncio.sleep(0.02)


async def test_audio_that_is_not_read_waits_at_voice(
    chat: ChatSuite, speaking: str, voice: VoiceStandIn
) -> None:
    voice.pieces, voice.piece_bytes = 400, 100_000
    async with a_user(chat, speaking) as user:
        path = f"/chat/sessions/{user.session_id}/messages"
        async with user.client.stream("POST", path, json=asked("Hello.")) as answer:
            lines = answer.aiter_lines()
            await next_events(lines, "audio")
            # The machine's own buffers on the way hold some 20 MB.
            sent = await stood_still(lambda: voice.lines[-1].pieces)
            assert sent < 300, "it has not sent all of 53 MB"
            rest = await next_events(lines, "audio_end")
    assert len([event for event in rest if event.name == "audio"]) == 399
