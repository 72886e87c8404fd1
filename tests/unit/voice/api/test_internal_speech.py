"""Chat's line: what it says, and what becomes of it, whichever way the line ends."""

from __future__ import annotations

import asyncio
from itertools import chain, repeat
from typing import Any, cast

import orjson
import pytest
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from services.voice.actions.speak_live import LiveSpeech
from services.voice.api.internal_speech import _Line
from services.voice.domain.errors import SpeechEnded
from services.voice.domain.piece import Piece
from services.voice.domain.speech import Outcome
from shared.errors import DependencyUnavailable

SAY = '{"op": "say", "text": "Secret words."}'
FINISH, STOP, PREPARE = '{"op": "finish"}', '{"op": "stop"}', '{"op": "prepare"}'
GONE = WebSocketDisconnect(1006)


class Chat:
    """Says what it is given, then nothing more; an exception is raised."""

    def __init__(self, *words: str | Exception, endless: str | None = None) -> None:
        self.words = chain(words, repeat(endless) if endless else ())
        self.said = 0
        self.heard: list[tuple[str, dict[str, Any]]] = []

    async def receive_text(self) -> str:
        await asyncio.sleep(0)
        for word in self.words:
            self.said += 1
            if isinstance(word, Exception):
                raise word
            return word
        await asyncio.Event().wait()
        return ""

    async def send_text(self, text: str) -> None:
        name, data = text.split(" ", 1)
        self.heard.append((name, orjson.loads(data)))


class Speech:
    """A speech of which nothing is heard; `say` waits until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.ended = asyncio.Event()
        self.done: list[str] = []
        self.characters = 0
        self.is_heard = False
        self.used = None
        self.ended_as: Outcome | None = None
        self.failure: Exception | None = None

    def prepare(self) -> None:
        self.done.append("prepare")

    async def say(self, text: str) -> None:
        await self.may_go_on.wait()
        if self.ended_as is not None:
            raise SpeechEnded
        if self.failure is not None:
            raise self.failure
        self.done.append("say")

    async def finish(self) -> None:
        await self.may_go_on.wait()
        self.done.append("finish")
        self.ended.set()

    async def read(self) -> Piece:
        await self.ended.wait()
        return Piece(b"")

    def end(self, outcome: Outcome) -> None:
        self.ended_as = self.ended_as or outcome
        self.ended.set()

    async def conclude(self, outcome: Outcome) -> None:
        self.end(outcome)
        self.done.append(f"concluded {self.ended_as}")


def a_line(chat: Chat, speech: Speech) -> _Line:
    return _Line(cast(WebSocket, chat), cast(LiveSpeech, speech))


async def served(line: _Line) -> None:
    """Until its end, at which nothing of it runs any more."""
    before = asyncio.all_tasks()
    async with asyncio.timeout(10):
        await line.serve()
    assert asyncio.all_tasks() <= before


async def test_words_are_told_in_their_order() -> None:
    chat, speech = Chat(PREPARE, SAY, SAY, FINISH), Speech()
    speech.may_go_on.set()
    await served(a_line(chat, speech))
    assert speech.done == ["prepare", "say", "say", "finish", "concluded done"]


async def test_who_says_more_than_can_be_told_waits() -> None:
    """So what waits has a bound, whoever says it."""
    chat, speech = Chat(endless=SAY), Speech()
    serving = asyncio.create_task(a_line(chat, speech).serve())
    seen = -1
    while seen != chat.said:
        seen = chat.said
        for _ in range(10):
            await asyncio.sleep(0)
        assert chat.said < 10_000
    assert chat.said > 100, "as long as it is an answer, a stop behind it is heard"
    speech.end(Outcome.STOPPED)
    await asyncio.wait_for(serving, 10)


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (STOP, "stopped"),
        (GONE, "client_gone"),
        (WebSocketDisconnect(1012), "stopped"),
        ("no word", "stopped"),
        (RuntimeError("not connected"), "stopped"),
    ],
    ids=["stop", "gone", "going away", "not understood", "a bug"],
)
@pytest.mark.parametrize("before", [[], [PREPARE], [SAY], [SAY, SAY], [SAY, FINISH]])
async def test_it_ends_at_any_step_and_is_settled_once(
    before: list[str], last: str | Exception, outcome: str
) -> None:
    chat, speech = Chat(*before, last), Speech()
    await served(a_line(chat, speech))
    assert [done for done in speech.done if done != "prepare"] == [f"concluded {outcome}"]
    assert [name for name, _ in chat.heard] == ["ready", "audio_end"]


@pytest.mark.parametrize(
    ("failure", "outcome", "told"),
    [
        (DependencyUnavailable("egress"), "refused", "audio_error"),
        (KeyError("a bug"), "stopped", "audio_end"),
    ],
)
async def test_words_that_can_not_be_told_end_it_once(
    failure: Exception, outcome: str, told: str
) -> None:
    chat, speech = Chat(SAY, SAY, FINISH), Speech()
    speech.failure = failure
    speech.may_go_on.set()
    await served(a_line(chat, speech))
    (concluded,) = (done for done in speech.done if done != "finish")
    assert concluded == f"concluded {outcome}"
    assert [name for name, _ in chat.heard] == ["ready", told]


async def test_who_serves_may_be_cancelled_at_any_step() -> None:
    before = asyncio.all_tasks()
    for turns in range(12):
        chat, speech = Chat(PREPARE, SAY, FINISH), Speech()
        serving = asyncio.create_task(a_line(chat, speech).serve())
        for _ in range(turns):
            await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        await asyncio.sleep(0)
        assert speech.done.count("concluded stopped") == (1 if turns else 0)
        assert asyncio.all_tasks() == before
