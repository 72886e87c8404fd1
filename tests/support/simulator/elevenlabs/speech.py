"""Text to speech over HTTP: bytes or JSON with times, at once or in a stream."""

import itertools
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tests.support.simulator.answers import count_tokens, merged
from tests.support.simulator.audio import SECONDS_PER_CHARACTER, Clip, clip_for
from tests.support.simulator.call import Call
from tests.support.simulator.delivery import Frames, stream, whole
from tests.support.simulator.elevenlabs.errors import REFUSALS, invalid, problem
from tests.support.simulator.elevenlabs.headers import headers_of_speech
from tests.support.simulator.elevenlabs.models import DEFAULT, MODELS, Model
from tests.support.simulator.elevenlabs.studio import Studios
from tests.support.simulator.elevenlabs.voices import check_settings, find_voice
from tests.support.simulator.keys import on_free_plan
from tests.support.simulator.names import names
from tests.support.simulator.refusals import Refused
from tests.support.simulator.wire import dump

DEFAULT_FORMAT: Final = "mp3_44100_128"
FORMATS: Final = names(
    """mp3_22050_32 mp3_24000_48 mp3_44100_32 mp3_44100_64 mp3_44100_96 mp3_44100_128 mp3_44100_192
    pcm_8000 pcm_16000 pcm_22050 pcm_24000 pcm_32000 pcm_44100 pcm_48000
    wav_8000 wav_16000 wav_22050 wav_24000 wav_32000 wav_44100 wav_48000
    ulaw_8000 alaw_8000
    opus_48000_32 opus_48000_64 opus_48000_96 opus_48000_128 opus_48000_192"""
)
_PAID_FORMATS: Final = frozenset(
    {"mp3_44100_192", "pcm_44100", "pcm_48000", "wav_44100", "wav_48000"}
)
_MOST_NEIGHBOURS: Final = 3


@dataclass(frozen=True, slots=True)
class Order:
    """A checked request: what to say, in which voice format, at which price."""

    text: str
    model: Model
    format: str

    @property
    def cost(self) -> int:
        return self.model.cost(len(self.text))

    def clip(self) -> Clip:
        return clip_for(self.format, len(self.text))

    def segments(self, chunks: int) -> list[str]:
        """The text in parts of whole words; together they are exactly the text."""
        words = self.text.split(" ")
        spaced = [f"{word} " for word in words[:-1]] + words[-1:]
        return [part for part in merged(spaced, chunks or len(spaced)) if part]


@dataclass(frozen=True, slots=True)
class Speaker:
    """The four ways to ask for speech."""

    studios: Studios

    async def whole(self, call: Call) -> web.StreamResponse:
        order = await self._order(call)
        clip = order.clip()
        headers = headers_of_speech(call, clip.content_type, order.cost)
        return await whole(call, clip.whole(), headers)

    async def streamed(self, call: Call) -> web.StreamResponse:
        order = await self._order(call, streams=True)
        clip = order.clip()
        chunks = call.options.number("chunks") or max(1, count_tokens(order.text))
        headers = headers_of_speech(call, clip.content_type, order.cost)
        return await stream(call, Frames(b"", clip.pieces(chunks), b""), headers)

    async def timed(self, call: Call) -> web.StreamResponse:
        order = await self._order(call)
        headers = headers_of_speech(call, "application/json", order.cost)
        body = dump(_timed(order.text, order.clip().whole(), 0))
        return await whole(call, body, headers)

    async def timed_stream(self, call: Call) -> web.StreamResponse:
        """One JSON object a line; times go on from line to line."""
        order = await self._order(call, streams=True)
        segments = order.segments(call.options.number("chunks"))
        pieces = order.clip().pieces(len(segments))
        starts = itertools.accumulate(map(len, segments), initial=0)
        lines = [
            dump(_timed(segment, piece, start)) + b"\n"
            for segment, piece, start in zip(segments, pieces, starts, strict=False)
        ]
        headers = headers_of_speech(call, "application/json", order.cost)
        return await stream(call, Frames(b"", lines, b""), headers)

    async def _order(self, call: Call, *, streams: bool = False) -> Order:
        order = self._checked(call, streams=streams)
        _, directives = call.listen(order.text)
        await call.obey(directives)
        usage = {"characters": len(order.text), "credits": order.cost}
        call.promise(call.request_id, usage, lambda _: usage)
        return order

    def _checked(self, call: Call, *, streams: bool) -> Order:
        body = call.body
        voice = find_voice(self.studios.of(call.key_sha256), call.request.match_info["voice"])
        if voice.needs_paid_plan and on_free_plan(call.key or ""):
            raise Refused(REFUSALS["plan_required"])
        text = body.get("text")
        if not isinstance(text, str):
            raise Refused(invalid("body", "text"))
        model = speaking_model(body.get("model_id") or DEFAULT)
        _check_text(text, model)
        _check_body(body, model)
        name = call.request.query.get("output_format", DEFAULT_FORMAT)
        check_format(name, call, streams=streams)
        return Order(text, model, name)


def speaking_model(name: str) -> Model:
    model = MODELS.get(name)
    if model is None or not model.speaks:
        message = f"A model with model ID {name} does not exist or cannot speak."
        raise Refused(problem(400, "model_not_found", message, param="model_id"))
    return model


def check_format(name: str, call: Call, *, streams: bool) -> None:
    if name not in FORMATS or (streams and name.startswith("wav")):
        message = f"{name} is not a valid output format here."
        raise Refused(problem(400, "invalid_output_format", message, param="output_format"))
    if name in _PAID_FORMATS and on_free_plan(call.key or ""):
        message = f"Your plan does not include {name}."
        raise Refused(problem(403, "output_format_not_allowed", message))


def _check_text(text: str, model: Model) -> None:
    if not text.strip():
        raise Refused(problem(400, "input_text_empty", "The text must not be empty."))
    if len(text) > model.longest_text:
        message = f"The text is longer than {model.longest_text} characters."
        raise Refused(problem(400, "max_character_limit_exceeded", message))


def _check_body(body: dict[str, Any], model: Model) -> None:
    check_settings(body.get("voice_settings") or {}, "body", "voice_settings")
    if body.get("language_code") and not model.takes_language:
        message = f"Model {model.id} does not support a language code."
        raise Refused(problem(400, "unsupported_language", message, param="language_code"))
    for name in ("previous_request_ids", "next_request_ids", "pronunciation_dictionary_locators"):
        if len(body.get(name) or ()) > _MOST_NEIGHBOURS:
            message = f"At most {_MOST_NEIGHBOURS} are allowed."
            raise Refused(invalid("body", name, message=message, kind="too_long"))


def _timed(text: str, audio: bytes, start: int) -> dict[str, Any]:
    return {
        "audio_base64": b64encode(audio).decode(),
        "alignment": alignment(text, start),
        "normalized_alignment": None,
    }


def alignment(text: Sequence[str], start: int) -> dict[str, Any]:
    """Every character takes the same time; `start` characters were spoken before."""
    times = [
        round((start + position) * SECONDS_PER_CHARACTER, 3) for position in range(len(text) + 1)
    ]
    return {
        "characters": list(text),
        "character_start_times_seconds": times[:-1],
        "character_end_times_seconds": times[1:],
    }
