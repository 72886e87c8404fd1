"""What a file is, told by what is in it: a recording of some length, or nothing of use."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import BinaryIO

import structlog

from services.voice.domain.clone import Recording, Upload
from services.voice.domain.errors import SampleRefused
from services.voice.providers.recording_lengths import (
    CutOff,
    NoAudio,
    flac_seconds,
    m4a_seconds,
    mp3_seconds,
    ogg_seconds,
    wav_seconds,
    webm_seconds,
)
from shared.values import dataclass

log = structlog.get_logger(__name__)

_PIECE = 1 << 18
# Beyond a day it is no length but a mistake.
_LONGEST_SECONDS = 86_400.0
# Looking into files takes the interpreter from those who speak: few at once.
_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class _Kind:
    content_type: str
    suffix: str
    seconds: Callable[[BinaryIO, int], float]


class Recordings:
    """Looks into files, in threads: reading them keeps nobody else waiting."""

    def __init__(self) -> None:
        self._looking = asyncio.Semaphore(_AT_ONCE)

    async def examine(self, position: int, upload: Upload) -> Recording:
        """Raises SampleRefused for what is no recording."""
        try:
            async with self._looking:
                return await asyncio.to_thread(_examine, upload)
        except CutOff as error:
            raise SampleRefused(position, upload.name, "cut_off") from error
        except NoAudio as error:
            raise SampleRefused(position, upload.name, "no_audio") from error


def _examine(upload: Upload) -> Recording:
    content = upload.content
    content.seek(0)
    kind = _kind_of(content.read(64))
    seconds = _seconds(kind, content, upload.size)
    return Recording(
        kind.content_type, kind.suffix, timedelta(seconds=seconds), _digest_of(content)
    )


def _seconds(kind: _Kind, content: BinaryIO, size: int) -> float:
    content.seek(0)
    try:
        seconds = float(kind.seconds(content, size))
    except (CutOff, NoAudio):
        raise
    except Exception as error:
        # Whatever a reader makes of bytes that anybody may have written is their doing, not ours.
        log.info("sample_unreadable", kind=kind.content_type, error=type(error).__name__)
        raise NoAudio from error
    if not 0 < seconds < _LONGEST_SECONDS:
        raise NoAudio
    return seconds


def _digest_of(content: BinaryIO) -> str:
    content.seek(0)
    digest = hashlib.sha256()
    while piece := content.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


_WAV = _Kind("audio/wav", ".wav", wav_seconds)
_MP3 = _Kind("audio/mpeg", ".mp3", mp3_seconds)
_M4A = _Kind("audio/mp4", ".m4a", m4a_seconds)
_BEGINNINGS: Mapping[bytes, _Kind] = {
    b"fLaC": _Kind("audio/flac", ".flac", flac_seconds),
    b"OggS": _Kind("audio/ogg", ".ogg", ogg_seconds),
    b"ID3": _MP3,
    b"\x1a\x45\xdf\xa3": _Kind("audio/webm", ".webm", webm_seconds),
}


def _kind_of(beginning: bytes) -> _Kind:
    if beginning[:4] == b"RIFF" and beginning[8:12] == b"WAVE":
        return _WAV
    if beginning[4:8] == b"ftyp":
        return _M4A
    for mark, kind in _BEGINNINGS.items():
        if beginning.startswith(mark):
            return kind
    # A frame's eleven bits of one, and a layer: MP3 without anything before it.
    if len(beginning) > 1 and beginning[0] == 0xFF and beginning[1] & 0xE6 in (0xE2, 0xE4, 0xE6):
        return _MP3
    raise NoAudio
