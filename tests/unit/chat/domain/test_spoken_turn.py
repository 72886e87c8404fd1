"""A turn that is spoken while it is written, before a voice that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from services.chat.domain import spoken_turn
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.spoken_turn import SpokenTurn
from services.chat.domain.turn import Outcome
from services.chat.domain.turn_events import Delta
from shared.errors import DependencyUnavailable, ExpectedFailure, LimitReached
from tests.support.chat_calls import a_hold
from tests.support.waiting import until


class FakeLine:
    """Says what it was told, and nothing else unless a test says so."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.ops: list[str] = []
        self.events: asyncio.Queue[tuple[str, bytes] | Exception] = asyncio.Queue()
        self.takes = asyncio.Event()
        self.takes.set()

    async def prepare(self) -> None:
        self.ops.append("prepare")

    async def say(self, sentence: str) -> None:
        await self.takes.wait()
        self.sentences.append(sentence)

    async def finish(self) -> None:
        self.ops.append("finish")

    async def stop(self) -> None:
        self.ops.append("stop")

    async def hear(self) -> tuple[str, bytes]:
        event = await self.events.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def close(self) -> None:
        self.ops.append("close")


def trouble(failure: ExpectedFailure) -> tuple[str, bytes]:
    return "audio_error", failure.code.encode()


@asynccontextmanager
async def a_spoken_turn(line: FakeLine) -> AsyncIterator[tuple[RunningTurn, SpokenTurn]]:
    turn = RunningTurn(a_hold(), (), a_hold().id)
    spoken = SpokenTurn(turn, trouble)
    spoken.speak(line)
    try:
        yield turn, spoken
    finally:
        spoken.leave()
        await until(lambda: "close" in line.ops)


async def test_sentences_follow_the_text_as_it_comes() -> None:
    line = FakeLine()
    async with a_spoken_turn(line) as (turn, spoken):
        turn.say(Delta("Hello there. H"))
        await until(lambda: line.sentences == ["Hello there."])
        turn.say(Delta("ow are you?"))
        turn.over()
        await until(lambda: line.ops == ["finish"])
        assert line.sentences == ["Hello there.", "How are you?"]
        assert not spoken.is_over, "the audio is still to come"
        line.events.put_nowait(("audio", b"{}"))
        line.events.put_nowait(("audio_end", b"{}"))
        await until(lambda: spoken.is_over)
        assert [name for name, _ in spoken.heard()] == ["audio", "audio_end"]
        assert not spoken.heard(), "what was heard once is not kept"


async def test_a_line_is_made_ready_while_the_first_sentence_is_written() -> None:
    line = FakeLine()
    async with a_spoken_turn(line) as (turn, _):
        turn.say(Delta("```python\nprint(1)\n```\n\n"))
        await asyncio.sleep(0.01)
        assert line.ops == [], "nothing of that is read out"
        turn.say(Delta("Hel"))
        await until(lambda: line.ops == ["prepare"])
        assert not line.sentences
        turn.say(Delta("lo there. H"))
        await until(lambda: line.sentences == ["Hello there."])
        turn.say(Delta("ow are"))
        await asyncio.sleep(0.01)
        assert line.ops == ["prepare"], "once is enough"


async def test_a_sentence_that_comes_whole_needs_no_word_before_it() -> None:
    line = FakeLine()
    async with a_spoken_turn(line) as (turn, _):
        turn.say(Delta("Hello there. H"))
        await until(lambda: line.sentences == ["Hello there."])
        assert line.ops == []


async def test_a_line_that_takes_nothing_keeps_no_text_waiting() -> None:
    line = FakeLine()
    line.takes.clear()
    async with a_spoken_turn(line) as (turn, _):
        for _ in range(100):
            turn.say(Delta("One more. "))
        await asyncio.sleep(0.01)
        assert len(turn.events) == 101
        line.takes.set()
        await until(lambda: len(line.sentences) == 99)


async def test_an_end_from_here_silences_it_at_once() -> None:
    line = FakeLine()
    line.takes.clear()
    async with a_spoken_turn(line) as (turn, spoken):
        turn.say(Delta("Hello. There"))
        line.events.put_nowait(("audio", b"{}"))
        await until(lambda: spoken._waiting)
        turn.end(Outcome.STOPPED)
        assert not spoken.heard(), "nobody wants to hear what waits"
        await until(lambda: line.ops == ["stop"])
        line.events.put_nowait(("audio", b"{}"))
        line.events.put_nowait(("audio_end", b"{}"))
        await until(lambda: spoken._is_silent)
        assert [name for name, _ in spoken.heard()] == ["audio_end"]


@pytest.mark.parametrize("patience", ["_SILENCE_SECONDS", "_LONGEST_SECONDS"])
@pytest.mark.parametrize("is_stuck", [False, True])
async def test_a_voice_that_says_nothing_more_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, patience: str, *, is_stuck: bool
) -> None:
    monkeypatch.setattr(spoken_turn, patience, 0.02)
    line = FakeLine()
    if is_stuck:
        line.takes.clear()
    async with a_spoken_turn(line) as (turn, spoken):
        turn.say(Delta("Hello. There"))
        await asyncio.sleep(0.05)
        assert not spoken._is_silent, "while the text is written there is time"
        turn.over()
        await until(lambda: spoken.is_over)
        assert spoken.heard() == (("audio_error", b"dependency_unavailable"),)


async def test_a_voice_that_does_not_stop_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_turn, "_STOP_SECONDS", 0.02)
    line = FakeLine()
    async with a_spoken_turn(line) as (turn, spoken):
        turn.say(Delta("Hello. There"))
        await until(lambda: line.sentences)
        assert spoken.mute()
        assert not spoken.mute(), "once is enough"
        await until(lambda: line.ops == ["stop", "close"])
        assert not spoken.is_over, "the text goes on"


async def test_what_can_not_be_spoken_is_told_and_over() -> None:
    turn = RunningTurn(a_hold(), (), a_hold().id)
    spoken = SpokenTurn(turn, trouble)
    spoken.be_silent(DependencyUnavailable("voice"))
    assert not spoken.mute()
    turn.over()
    assert spoken.is_over
    assert [name for name, _ in spoken.heard()] == ["audio_error"]


async def test_a_line_that_breaks_is_told() -> None:
    line = FakeLine()
    async with a_spoken_turn(line) as (_, spoken):
        line.events.put_nowait(LimitReached("Full.", retry_after=timedelta(seconds=1)))
        await until(lambda: spoken._is_silent)
        assert spoken.heard() == (("audio_error", b"limit_reached"),)
