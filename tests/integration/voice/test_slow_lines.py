"""A vendor that takes a connection and then does not open its line: chat's speech before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from tests.integration.voice.test_internal_speech import a_line, next_of, on_behalf_of, rest_of
from tests.support.tokens import serving
from tests.support.voice_service import Surroundings, Voice, running_voice
from tests.support.voice_sockets import RACHEL, at_realtime
from tests.support.waiting import eventually, until


@dataclass
class SlowOpener:
    """Before the egress: every request passes, but a line is opened only once it may."""

    port: int  # of the egress
    may_open: asyncio.Event = field(default_factory=asyncio.Event)
    held: int = 0
    left: int = 0  # of those that were held: whose client has gone
    url: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SlowOpener]:
        """Serve on a free loopback port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await client.readuntil(b"\r\n\r\n")
            if b"stream-input" in head and not await self._waited(client):
                back.close()
                return
            vendor, forth = await asyncio.open_connection("127.0.0.1", self.port)
            forth.write(head)
            await asyncio.gather(_passed(client, forth), _passed(vendor, back))

    async def _waited(self, client: asyncio.StreamReader) -> bool:
        self.held += 1
        opening = asyncio.create_task(self.may_open.wait())
        # A client says nothing before its line is open.
        gone = asyncio.create_task(client.read(1))
        await asyncio.wait({opening, gone}, return_when=asyncio.FIRST_COMPLETED)
        is_open = opening.done()
        self.left += not is_open
        for task in (opening, gone):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return is_open


async def _passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    writer.close()


@pytest.fixture
async def slow(surroundings: Surroundings) -> AsyncIterator[SlowOpener]:
    port = urlsplit(surroundings.egress.url).port
    assert port is not None
    async with SlowOpener(port).running() as opener:
        yield opener
        opener.may_open.set()


@pytest.fixture
async def voice_before_it(surroundings: Surroundings, slow: SlowOpener) -> AsyncIterator[Voice]:
    async with running_voice(surroundings, egress_url=slow.url) as voice:
        yield voice


@pytest.fixture
async def door(voice_before_it: Voice) -> AsyncIterator[str]:
    async with serving(voice_before_it.process.internal) as url:
        yield url


async def test_words_wait_for_a_line_that_opens_late(
    voice_before_it: Voice, door: str, slow: SlowOpener
) -> None:
    ada = voice_before_it.person("pro")
    async with a_line(voice_before_it, door, on_behalf_of(ada)) as line:
        await line.prepare()
        await until(lambda: slow.held == 1)
        await line.say("Hello there.")
        await eventually(lambda: voice_before_it.speeches(ada), len)
        await line.finish()
        slow.may_open.set()
        *audio, (last, end) = await rest_of(line)
    assert audio
    assert (last, end["outcome"], end["characters"]) == ("audio_end", "done", 7), (
        "half a credit each"
    )
    (usage,) = await voice_before_it.usage(ada)
    assert (usage["outcome"], usage["characters"]) == ("done", 7)
    assert slow.held == 1, "the line that was prepared is the one that is spoken on"


@pytest.mark.parametrize("prepares", [True, False])
async def test_a_line_that_never_opens_is_told_in_bounded_time_and_costs_nothing(
    voice_before_it: Voice, door: str, slow: SlowOpener, prepares: bool
) -> None:
    ada = voice_before_it.person("pro")
    async with a_line(voice_before_it, door, on_behalf_of(ada)) as line:
        if prepares:
            await line.prepare()
            await until(lambda: slow.held == 1)
        await line.say("Hello there.")
        async with asyncio.timeout(30):
            name, told = await line.hear()
    assert (name, b"vendor" in told) == ("audio_error", True), told
    await voice_before_it.until_settled(ada)
    assert [row["outcome"] for row in await voice_before_it.speeches(ada)] == ["provider_failed"]
    assert await outbox(voice_before_it, ada.id) == 0
    await until(lambda: slow.left == slow.held == 1)


async def outbox(voice: Voice, user_id: object) -> int:
    row = await voice.database.fetchrow(
        "select count(*) as events from outbox where envelope->>'subject' = $1", str(user_id)
    )
    assert row is not None
    return int(row["events"])


async def test_an_answer_without_words_does_not_wait_for_its_line(
    voice_before_it: Voice, door: str, slow: SlowOpener
) -> None:
    ada = voice_before_it.person("pro")
    async with a_line(voice_before_it, door, on_behalf_of(ada)) as line:
        await line.prepare()
        await until(lambda: slow.held == 1)
        await line.finish()
        # Well before it is known whether the line ever opens.
        async with asyncio.timeout(5):
            name, _ = await next_of(line)
        assert name == "audio_end"
        await until(lambda: slow.left == 1)
    assert not await voice_before_it.speeches(ada)


async def test_silence_is_had_while_the_line_is_opened(
    voice_before_it: Voice, door: str, slow: SlowOpener
) -> None:
    ada = voice_before_it.person("pro")
    async with a_line(voice_before_it, door, on_behalf_of(ada)) as line:
        await line.say("Hello there.")
        await until(lambda: slow.held == 1)
        await line.stop()
        async with asyncio.timeout(5):
            name, end = await next_of(line)
    assert (name, end["outcome"], end["characters"]) == ("audio_end", "stopped", 0)
    assert slow.left == 1
    assert await outbox(voice_before_it, ada.id) == 0


@pytest.mark.parametrize("with_words", [False, True])
async def test_a_hearer_who_goes_leaves_no_line_that_is_still_being_opened(
    voice_before_it: Voice, door: str, slow: SlowOpener, with_words: bool
) -> None:
    ada = voice_before_it.person("pro")
    async with a_line(voice_before_it, door, on_behalf_of(ada)) as line:
        await line.prepare()
        await until(lambda: slow.held == 1)
        if with_words:
            await line.say("Hello there.")
            await eventually(lambda: voice_before_it.speeches(ada), len)
    await until(lambda: slow.left == 1, seconds=5)
    await voice_before_it.until(
        lambda rows: len(rows) == with_words and all(r["state"] == "settled" for r in rows), ada
    )
    assert await outbox(voice_before_it, ada.id) == 0


async def test_a_device_is_heard_while_its_line_is_opened_in_a_format_of_some_plans(
    voice_before_it: Voice, slow: SlowOpener
) -> None:
    ada = voice_before_it.person("pro")
    token = ada.headers["authorization"].removeprefix("Bearer ")
    async with at_realtime(voice_before_it.url, token) as device:
        await device.say("start", voice_id=RACHEL, format="mp3_44100_192")
        await until(lambda: slow.held == 1)
        await device.say("ping")
        await device.until("pong")
        assert "started" not in device.names(), "its format is not known yet"
        await device.say("say", text="Hello there.")
        await device.say("stop")
        assert (await device.until("interrupted"))["data"]["usage"] is None
        assert device.names()[-2:] == ["started", "interrupted"]
        await until(lambda: slow.left == 1)
        # And it may go.
        await device.say("start", voice_id=RACHEL, format="mp3_44100_192")
        await until(lambda: slow.held == 2)
    await until(lambda: slow.left == 2, seconds=5)
    assert await outbox(voice_before_it, ada.id) == 0
    slow.may_open.set()
    async with at_realtime(voice_before_it.url, token) as device:
        await device.utter("Hello there.", format="mp3_44100_192")
        await device.until("done")
    assert device.names()[:3] == ["authenticated", "started", "limits"]
    assert device.names().count("started") == 1


async def test_what_was_asked_for_first_is_told_first_though_its_line_is_still_being_opened(
    voice_before_it: Voice, slow: SlowOpener
) -> None:
    ada = voice_before_it.person("pro")
    token = ada.headers["authorization"].removeprefix("Bearer ")
    async with at_realtime(voice_before_it.url, token) as device:
        await device.say("start", voice_id=RACHEL, format="mp3_44100_192")
        await until(lambda: slow.held == 1)
        await device.say("say", text="Hello there.")
        await device.say("end")
        await device.say("start", voice_id=RACHEL)
        await device.say("ping")
        await device.until("pong")
        assert "started" not in device.names()
        slow.may_open.set()
        numbers = [(await device.until("started"))["data"]["number"] for _ in range(2)]
        assert numbers == [1, 2]
