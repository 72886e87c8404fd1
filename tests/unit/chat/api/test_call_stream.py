"""How a call's stream is written: head, pings, slow clients, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.chat.api.call_stream import Write, stream_call, whole_call
from services.chat.api.openai_chat_answer import ChunkWriter
from services.chat.api.openai_door import as_whole
from services.chat.domain.running_turn import RunningTurn
from services.chat.domain.turn import Outcome
from services.chat.domain.turn_events import Answered, Broken, Delta, FellBack, Thinks, UsageTold
from shared.vendors.failures import VendorFailed, VendorRateLimited
from tests.support.chat_calls import a_hold, an_answer_message
from tests.support.waiting import until

FAILURE = VendorFailed("openai")
PING = b": ping\n\n"


@dataclass
class Client:
    """Reads what is sent to it, as long as it is not told to pause."""

    sent: list[MutableMapping[str, Any]] = field(default_factory=list)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    leaves: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.reads.set()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)
        await self.reads.wait()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    @property
    def bodies(self) -> list[bytes]:
        return [m["body"] for m in self.sent if m["type"] == "http.response.body"]

    @property
    def body(self) -> bytes:
        return b"".join(self.bodies)

    @property
    def is_complete(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def a_turn() -> RunningTurn:
    hold = a_hold()
    return RunningTurn(hold, (), hold.id)


def end(turn: RunningTurn, reason: str = "stop") -> None:
    message = an_answer_message(turn.hold, "text")
    turn.say(UsageTold(message))
    turn.say(Answered(message, reason))
    turn.over()


def openais(turn: RunningTurn) -> Write:
    write = ChunkWriter(turn.hold, with_usage=False).write
    return lambda event: write(as_whole(event))


def following(
    turn: RunningTurn, client: Client, headers: Callable[[], Any] = list, **parts: float
) -> asyncio.Task[None]:
    return asyncio.create_task(
        stream_call(
            turn, client.receive, client.send, headers=headers, write=openais(turn), **parts
        )
    )


async def test_the_first_thing_behind_the_head_is_a_ping() -> None:
    turn, client = a_turn(), Client()
    turn.say(Delta("hi"))
    end(turn)
    await following(turn, client)
    assert client.sent[0]["status"] == 200
    assert client.bodies[0].startswith(PING)
    assert client.body.endswith(b"data: [DONE]\n\n")
    assert client.is_complete


async def test_a_failure_before_the_first_word_is_raised_and_nothing_was_sent() -> None:
    refusal = VendorRateLimited("No.", provider="openai")
    for before in ([], [FellBack("gemini", "g", "openai")], [Thinks("hm")]):
        turn, client = a_turn(), Client()
        for event in before:
            turn.say(event)
        turn.say(Broken(refusal, None))
        turn.over()
        with pytest.raises(VendorRateLimited):
            await following(turn, client)
        assert client.sent == []


async def test_the_head_knows_who_answers() -> None:
    turn, client = a_turn(), Client()
    task = following(turn, client, headers=lambda: [(b"who", turn.provider.encode())])
    await asyncio.sleep(0)
    turn.provider = "gemini"
    turn.say(FellBack("gemini", "gemini-3.8-flash", "openai"))
    turn.say(Delta("hi"))
    end(turn)
    await task
    assert client.sent[0]["headers"] == [(b"who", b"gemini")]
    assert b'"model":"gemini-3.8-flash"' in client.body


async def test_silence_is_broken_by_pings_and_by_no_more_than_it_takes() -> None:
    turn, client = a_turn(), Client()
    turn.say(Delta("hi"))
    task = following(turn, client, ping_seconds=0.03)
    await until(lambda: client.body.count(PING) == 3)
    assert client.bodies[1:3] == [PING, PING]
    end(turn)
    await task
    assert client.is_complete


async def test_who_does_not_read_is_sent_nothing_more_and_then_gets_it_in_one_piece() -> None:
    turn, client = a_turn(), Client()
    turn.say(Delta("0,"))
    task = following(turn, client, ping_seconds=0.01)
    await until(lambda: client.bodies)
    client.reads.clear()
    turn.say(Delta("1,"))
    await until(lambda: len(client.bodies) == 2)
    for number in range(2, 500):
        turn.say(Delta(f"{number},"))
    await asyncio.sleep(0.05)
    assert len(client.bodies) == 2
    end(turn)
    client.reads.set()
    await task
    # The end goes with the last of it.
    assert len(client.bodies) == 3
    assert client.is_complete
    assert client.bodies[2].count(b'"content":') == 498
    assert PING not in client.bodies[2]


async def test_who_never_reads_is_given_up_and_the_call_ends() -> None:
    turn, client = a_turn(), Client()
    turn.say(Delta("hi"))
    client.reads.clear()
    task = following(turn, client, ping_seconds=0.01, patience_seconds=0.02)
    await until(lambda: client.sent)
    client.reads.set()
    await until(lambda: client.bodies)
    client.reads.clear()
    turn.say(Delta("there"))
    async with asyncio.timeout(2):
        await task
    assert not client.is_complete
    assert turn.ended_as is Outcome.CLIENT_GONE


@pytest.mark.parametrize("reason", [Outcome.STOPPED.value, Outcome.CLIENT_GONE.value])
async def test_an_answer_that_was_ended_from_here_does_not_look_complete(reason: str) -> None:
    turn, client = a_turn(), Client()
    turn.say(Delta("half"))
    end(turn, reason)
    await following(turn, client)
    assert b'"code":"answer_ended"' in client.body
    assert b"[DONE]" not in client.body
    assert client.is_complete


async def test_a_failure_after_the_first_word_is_told_in_the_stream() -> None:
    turn, client = a_turn(), Client()
    turn.say(Delta("half"))
    turn.say(Broken(FAILURE, None))
    turn.over()
    await following(turn, client)
    assert b'"code":"vendor_failed"' in client.body
    assert b"[DONE]" not in client.body


@pytest.mark.parametrize("whole", [False, True])
async def test_a_client_that_goes_away_ends_its_call(whole: bool) -> None:
    turn, client = a_turn(), Client()
    turn.say(Delta("hi"))
    task: asyncio.Future[Any] = (
        asyncio.ensure_future(whole_call(turn, client.receive))
        if whole
        else following(turn, client)
    )
    await asyncio.sleep(0.01)
    client.leaves.set()
    await until(lambda: turn.ended_as)
    assert turn.ended_as is Outcome.CLIENT_GONE
    end(turn, "client_gone")
    await task
