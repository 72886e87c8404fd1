"""A speech as an ASGI answer: heads, pieces, and how an end that is missing shows."""

from __future__ import annotations

import asyncio
import tracemalloc
from base64 import b64decode, b64encode
from typing import Any

import orjson
import pytest

from services.voice.api.answers import AudioAnswer, SpokenAnswer
from services.voice.api.json_audio import Room
from services.voice.domain.speech import Outcome
from tests.support.voice import FakeAudio, Studio, a_wish, cut

SCOPE: dict[str, Any] = {"type": "http"}


class Connection:
    """A client's side of an ASGI call."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def is_complete(self) -> bool:
        return self.messages[-1].get("more_body") is False


async def answered(
    studio: Studio, kind: type[AudioAnswer | SpokenAnswer] = AudioAnswer
) -> Connection:
    connection = Connection()
    speech = await studio.speak(a_wish())
    await kind(speech, studio.relay)(SCOPE, connection.receive, connection.send)
    await studio.settled()
    return connection


async def test_audio_comes_with_its_type_its_count_and_its_limits() -> None:
    connection = await answered(Studio())
    assert (connection.status, connection.body) == (200, b"onetwo")
    assert connection.is_complete
    headers = connection.headers
    assert headers["content-type"] == "audio/mpeg"
    assert "content-length" not in headers
    assert headers["x-character-count"] == "12"
    assert headers["ratelimit-policy"] == '"elevenlabs.requests_per_minute";q=5;w=60'
    assert headers["ratelimit"].startswith('"elevenlabs.requests_per_minute";r=4;t=')


async def test_each_piece_is_one_message() -> None:
    connection = await answered(Studio())
    assert [message["body"] for message in connection.messages[1:]] == [b"one", b"two", b""]


async def test_an_answer_that_was_cut_stays_without_its_end() -> None:
    studio = Studio()
    studio.provider.audio = FakeAudio(b"one", cut())
    connection = await answered(studio)
    assert connection.body == b"one"
    assert not connection.is_complete


async def test_json_holds_the_audio_and_what_it_cost() -> None:
    studio = Studio()
    studio.provider.audio = FakeAudio(b"one", b"two", characters=6)
    connection = await answered(studio, SpokenAnswer)
    body = orjson.loads(connection.body)
    assert b64decode(body["audio_base64"]) == b"onetwo"
    assert (body["format"], body["character_count"]) == ("mp3_44100_128", 12)
    assert body["usage"] == {"characters": 6, "source": "provider"}
    assert connection.headers["content-length"] == str(len(connection.body))


@pytest.mark.parametrize(
    ("kind", "ended", "status", "code"),
    [
        (SpokenAnswer, None, 502, "vendor_failed"),
        (SpokenAnswer, Outcome.STOPPED, 409, "speech_stopped"),
        (AudioAnswer, Outcome.STOPPED, 409, "speech_stopped"),
    ],
)
async def test_a_speech_that_ends_before_its_answer_begins_says_why(
    kind: type[AudioAnswer | SpokenAnswer], ended: Outcome | None, status: int, code: str
) -> None:
    studio, connection = Studio(), Connection()
    studio.provider.audio = FakeAudio(b"one", cut())
    speech = await studio.speak(a_wish())
    if ended is not None:
        speech.end(ended)
    await kind(speech, studio.relay)(SCOPE, connection.receive, connection.send)
    assert connection.status == status
    told = orjson.loads(connection.body)
    assert told["code"] == code
    assert told["speech_id"] == str(speech.hold.id)
    assert told["usage"] == {"characters": 12, "source": "counted"}, "it is charged all the same"


@pytest.mark.parametrize("kind", [AudioAnswer, SpokenAnswer])
async def test_a_client_that_leaves_ends_the_speech_and_is_charged(
    kind: type[AudioAnswer | SpokenAnswer],
) -> None:
    studio, connection = Studio(), Connection()
    studio.provider.audio = FakeAudio(b"one", asyncio.Event())
    speech = await studio.speak(a_wish())
    answer = asyncio.create_task(
        kind(speech, studio.relay)(SCOPE, connection.receive, connection.send)
    )
    await asyncio.sleep(0)
    connection.gone.set()
    await answer
    await studio.settled()
    assert [fact.event.outcome for fact in studio.speeches.outbox] == ["client_gone"]
    assert not studio.provider.audio.is_open


async def test_a_document_that_there_is_no_room_for_goes_out_as_it_comes() -> None:
    studio, connection, room = Studio(), Connection(), Room(most=100, of_one=8)
    studio.provider.audio = FakeAudio(b"four", b"four", b"seven!!", b"x")
    speech = await studio.speak(a_wish())
    await SpokenAnswer(speech, studio.relay, room)(SCOPE, connection.receive, connection.send)
    body = orjson.loads(connection.body)
    assert b64decode(body["audio_base64"]) == b"fourfourseven!!x"
    assert body["usage"] == {"characters": 12, "source": "counted"}
    assert "content-length" not in connection.headers
    assert connection.is_complete
    assert room.left == 100


async def test_documents_of_one_replica_share_its_room() -> None:
    studio, room = Studio(), Room(most=10, of_one=8)
    never, first, second = asyncio.Event(), Connection(), Connection()
    studio.provider.audios = [FakeAudio(b"eight...", never), FakeAudio(b"three", never)]
    answers = []
    for connection in (first, second):
        answer = SpokenAnswer(await studio.speak(a_wish()), studio.relay, room)
        answers.append(asyncio.create_task(answer(SCOPE, connection.receive, connection.send)))
        await asyncio.sleep(0.01)
    assert (first.messages, room.left) == ([], 2), "it is held back"
    assert second.status == 200, "it is told as it comes"
    for connection in (first, second):
        connection.gone.set()
    await asyncio.gather(*answers)
    assert not second.is_complete
    assert room.left == 10
    await studio.settled()


async def test_a_cut_document_that_has_begun_stays_without_its_end() -> None:
    studio, connection = Studio(), Connection()
    studio.provider.audio = FakeAudio(b"one", cut())
    speech = await studio.speak(a_wish())
    answer = SpokenAnswer(speech, studio.relay, Room(0, 0))
    await answer(SCOPE, connection.receive, connection.send)
    await studio.settled()
    assert (connection.status, connection.body) == (200, b'{"audio_base64":"' + b64encode(b"one"))
    assert not connection.is_complete


async def test_a_document_holds_its_audio_once() -> None:
    studio, connection = Studio(), Connection()
    piece, sent = 512 << 10, 0

    class Sound(FakeAudio):
        async def read(self) -> bytes:
            self.left = getattr(self, "left", 12) - 1
            return bytes(piece) if self.left >= 0 else b""

    async def send(message: Any) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))

    studio.provider.audio = Sound()
    speech = await studio.speak(a_wish())
    tracemalloc.start()
    try:
        await SpokenAnswer(speech, studio.relay)(SCOPE, connection.receive, send)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sent > 12 * piece * 4 / 3
    assert most < 12 * piece + 6 * piece, "no second copy of all of it"
    await studio.settled()
