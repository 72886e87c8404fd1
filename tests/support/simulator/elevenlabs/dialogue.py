"""The WebSocket of the newest models (`text-to-dialogue/stream-input`): snake_case, many voices."""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.simulator.call import Call
from tests.support.simulator.elevenlabs.socket import Conversation, converse
from tests.support.simulator.elevenlabs.speech import alignment
from tests.support.simulator.elevenlabs.studio import Studios
from tests.support.simulator.elevenlabs.voices import find_voice
from tests.support.simulator.refusals import Refused
from tests.support.simulator.wire import dump

_MOST_VOICES = 10
_PATIENCE_MS = 20_000
_SETTINGS = {"stability"}


@dataclass(frozen=True, slots=True)
class Listener:
    """The voices are named in the first message, so the socket opens whatever they are."""

    studios: Studios

    async def listen(self, call: Call) -> web.StreamResponse:
        studios = self.studios

        class OfThisUser(_Dialogue):
            __slots__ = ()

            def knows(self, voice: str) -> bool:
                try:
                    find_voice(studios.of(call.key_sha256), voice)
                except Refused:
                    return False
                return True

        return await converse(call, OfThisUser)


@dataclass(slots=True)
class _Dialogue(Conversation):
    voices: list[str] = field(default_factory=list)

    def knows(self, voice: str) -> bool:
        raise NotImplementedError

    def _is_supported(self) -> bool:
        return self.order.model.speaks and not self.order.model.takes_socket

    def _is_last(self, message: dict[str, Any]) -> bool:
        return message.get("close_socket") is True

    def _patience(self) -> float:
        """Nobody can ask for another one; `keep_alive` is a message as any other."""
        return self.options.seconds("patience_ms", _PATIENCE_MS)

    def _final(self) -> dict[str, Any]:
        return {"is_final": True}

    async def _greet(self, first: dict[str, Any]) -> None:
        await self._let_in(first)
        self.voices = [str(voice) for voice in first.get("voices") or ()]
        if not 1 <= len(self.voices) <= _MOST_VOICES:
            await self._fail("invalid_message", "Name from 1 to 10 voices first.")
        if not _SETTINGS.issuperset(first.get("voice_settings") or {}):
            await self._fail("invalid_voice_settings", "Only stability can be set here.")
        for voice in self.voices:
            if not self.knows(voice):
                await self._fail("voice_not_found", f"A voice with ID {voice} was not found.")
        await self._take(first)

    async def _take(self, message: dict[str, Any]) -> None:
        for turn in message.get("inputs") or ():
            if turn.get("voice_id") not in self.voices:
                await self._fail("invalid_message", "This voice was not named at the beginning.")
            await self._gather(str(turn.get("text", "")))
        if message.get("flush") is True or self.buffer.has_enough(hurried=False):
            await self._speak()
            await self.socket.send_str(dump({"is_final_audio_for_turn": True}).decode())

    def _audio(self, text: str, audio: bytes) -> str:
        asked = self.call.request.query.get("sync_alignment") == "true"
        message = {
            "audio": b64encode(audio).decode(),
            "alignment": alignment(text, 0) if asked else None,
            "normalized_alignment": None,
        }
        return dump(message).decode()
