"""espeak-ng on this machine: https://github.com/espeak-ng/espeak-ng

Each text is spoken by a process of its own (`espeak_speaker.py`), whole before its hearer gets any
of it: it takes a fraction of a second, what goes wrong is told before there is an answer, and a
slow hearer keeps no process waiting.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import field
from datetime import timedelta
from pathlib import Path
from struct import pack

from services.voice.domain.errors import EngineBusy
from services.voice.domain.offline_engine import OFFLINE_ENGINE, OFFLINE_VOICE_PREFIX
from services.voice.domain.ports import Audio
from services.voice.domain.script import Script
from services.voice.domain.voice import Voice, VoiceCategory, VoiceId
from services.voice.domain.whole_audio import WholeAudio
from shared.settings import SettingsRefused
from shared.values import dataclass
from shared.vendors.failures import VendorFailed

_SPEAKER = Path(__file__).with_name("espeak_speaker.py")
_SAMPLES_A_SECOND = 22_050
_WORDS_A_MINUTE = 175  # the library's own default
_PIECE_BYTES = 1 << 16
_LARGEST_BYTES = 64 << 20  # 25 minutes; five thousand characters take about six
_RETRY_AFTER = timedelta(seconds=2)


class EngineNotInstalled(SettingsRefused):
    """The engine is switched on and its package is not there."""


class VoiceNotInstalled(SettingsRefused):
    """Who is to speak by default is nobody of the engine's."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the library and its data lie, and whom they can speak as."""

    library: Path
    data: Path
    names: dict[VoiceId, str] = field(repr=False)  # ours of a voice, and the library's own
    voices: Sequence[Voice] = field(repr=False)


def installed() -> Installation:
    """The engine that came with `espeakng-loader`. Raises EngineNotInstalled."""
    try:
        import espeakng_loader  # type: ignore[import-untyped] # it has no types
    except ImportError as error:
        raise EngineNotInstalled(
            "VOICE_OFFLINE_ENGINE needs the extra `voice-offline`, which is not installed."
        ) from error
    library = Path(espeakng_loader.get_library_path())
    data = Path(espeakng_loader.get_data_path())
    known = sorted(_languages(data), key=lambda known: known[0].id)
    return Installation(
        library, data, {voice.id: name for voice, name in known}, [voice for voice, _ in known]
    )


class Espeak:
    """So many texts at once, each within a time; the next ones wait that long for their turn.

    Raises VoiceNotInstalled where the default voice is none of the installation's.
    """

    def __init__(
        self,
        installation: Installation,
        *,
        default_voice: VoiceId,
        at_once: int = 2,
        patience: timedelta = timedelta(seconds=20),
    ) -> None:
        if default_voice not in installation.names:
            raise VoiceNotInstalled(
                f"VOICE_OFFLINE_VOICE: {OFFLINE_ENGINE} has no voice {default_voice}."
                " One is called `espeak-` and a language, such as espeak-en-us."
            )
        self.default_voice = default_voice
        self._installation = installation
        self._turn = asyncio.Semaphore(at_once)
        self._patience = patience.total_seconds()

    def voices(self) -> Sequence[Voice]:
        return self._installation.voices

    @asynccontextmanager
    async def speak(self, script: Script) -> AsyncIterator[Audio]:
        try:
            async with asyncio.timeout(self._patience):
                await self._turn.acquire()
        except TimeoutError as error:
            raise EngineBusy(OFFLINE_ENGINE, _RETRY_AFTER) from error
        try:
            async with asyncio.timeout(self._patience):
                samples = await self._spoken(script)
        except (TimeoutError, OSError) as error:
            raise VendorFailed(OFFLINE_ENGINE) from error
        finally:
            self._turn.release()
        yield WholeAudio(_wav(samples) if script.format.codec == "wav" else samples)

    async def _spoken(self, script: Script) -> bytes:
        place, pace = self._installation, script.settings.speed or 1.0
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_SPEAKER)),
            *(str(place.library), str(place.data), place.names[script.voice_id]),
            str(round(_WORDS_A_MINUTE * pace)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={},
            cwd="/",
        )
        try:
            samples = await _told(process, script.text)
        finally:
            await asyncio.shield(_ended(process))
        if process.returncode != 0 or not samples:
            raise VendorFailed(OFFLINE_ENGINE)
        return samples


async def _told(process: Process, text: str) -> bytes:
    """All that it says. The text is small enough for a pipe, so nobody waits for the other."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(text.encode())
    process.stdin.close()
    samples = bytearray()
    while piece := await process.stdout.read(_PIECE_BYTES):
        samples += piece
        if len(samples) > _LARGEST_BYTES:
            raise VendorFailed(OFFLINE_ENGINE)
    await process.wait()
    return bytes(samples)


async def _ended(process: Process) -> None:
    """Whatever became of it: no process outlives its speech."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _wav(samples: bytes) -> bytes:
    """The samples with the head that says what they are: one channel of 16 bits."""
    rate, width = _SAMPLES_A_SECOND, 2
    format_ = pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * width, width, 8 * width)
    size = 4 + len(format_) + 8 + len(samples)
    return (
        pack("<4sI4s", b"RIFF", size, b"WAVE") + format_ + pack("<4sI", b"data", len(samples))
    ) + samples


def _languages(data: Path) -> Iterator[tuple[Voice, str]]:
    """Each language that the data hold a file and a dictionary of."""
    for path in (data / "lang").rglob("*"):
        if not path.is_file():
            continue
        language = path.name.lower()
        if not (data / f"{language.partition('-')[0]}_dict").exists():
            continue
        voice_id = VoiceId(OFFLINE_VOICE_PREFIX + language)
        labels = {"language": language, "engine": OFFLINE_ENGINE}
        yield Voice(voice_id, _name_in(path), VoiceCategory.BASIC, labels), path.name


def _name_in(path: Path) -> str:
    for line in path.read_text("utf-8", errors="replace").splitlines():
        word, _, name = line.partition(" ")
        if word == "name" and name.strip():
            return name.strip()
    return path.name
