"""POST /audio/speech."""

from base64 import b64encode
from typing import Any, Final

from aiohttp import web

from tests.support.simulator.answers import count_tokens
from tests.support.simulator.audio import clip_for
from tests.support.simulator.call import Call
from tests.support.simulator.delivery import Frames, stream
from tests.support.simulator.openai.errors import chat_failure, error, no_such_model
from tests.support.simulator.openai.headers import headers_for
from tests.support.simulator.refusals import Refused
from tests.support.simulator.wire import data

_MODELS: Final = frozenset({"tts-1", "tts-1-hd", "gpt-4o-mini-tts"})
_FORMATS: Final = {
    "mp3": "mp3_24000_48",
    "opus": "opus_48000_32",
    "aac": "aac_24000",
    "flac": "flac_24000",
    "wav": "wav_24000",
    "pcm": "pcm_24000",
}
_LONGEST: Final = 4096


async def speak(call: Call) -> web.StreamResponse:
    body = call.body
    _check(body)
    text = str(body["input"])
    _, directives = call.listen(text)
    await call.obey(directives)
    call.promise(call.request_id, {"characters": len(text)}, lambda _: {"characters": len(text)})
    clip = clip_for(_FORMATS[body.get("response_format", "mp3")], len(text))
    pieces = clip.pieces(call.options.number("chunks", max(1, count_tokens(text))))
    if body.get("stream_format") == "sse":
        return await _as_events(call, pieces, text)
    headers = {**headers_for(call), "Content-Type": clip.content_type}
    return await stream(call, Frames(b"", pieces, b""), headers)


async def _as_events(call: Call, pieces: list[bytes], text: str) -> web.StreamResponse:
    words = count_tokens(text)
    usage = {"input_tokens": words, "output_tokens": words, "total_tokens": 2 * words}
    middle = [
        data({"type": "speech.audio.delta", "audio": b64encode(piece).decode()}) for piece in pieces
    ]
    closing = data({"type": "speech.audio.done", "usage": usage})
    headers = headers_for(call, stream=True)
    return await stream(call, Frames(b"", middle, closing, chat_failure), headers)


def _check(body: dict[str, Any]) -> None:
    for name in ("model", "input", "voice"):
        if not body.get(name):
            message = f"Missing required parameter: '{name}'."
            raise Refused(error(400, message, code="missing_required_parameter", param=name))
    if body["model"] not in _MODELS:
        raise Refused(no_such_model(str(body["model"])))
    if len(str(body["input"])) > _LONGEST:
        message = f"Invalid 'input': string too long, at most {_LONGEST} characters are allowed."
        raise Refused(error(400, message, code="string_above_max_length", param="input"))
    if body.get("response_format", "mp3") not in _FORMATS:
        raise Refused(error(400, "Invalid 'response_format'.", param="response_format"))
