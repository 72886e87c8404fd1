"""What a player makes of audio."""

from __future__ import annotations

import io
from typing import Any

import mutagen.mp3
import mutagen.oggopus
import mutagen.wave

_READERS: dict[str, Any] = {
    "mp3": mutagen.mp3.MP3,
    "opus": mutagen.oggopus.OggOpus,
    "wav": mutagen.wave.WAVE,
}


def seconds_of(codec: str, audio: bytes) -> float:
    """How long it plays. Fails for what is no such audio, or for an mp3 that is not one frame after
    another."""
    info = _READERS[codec](io.BytesIO(audio)).info
    assert not getattr(info, "sketchy", False)
    return float(info.length)
