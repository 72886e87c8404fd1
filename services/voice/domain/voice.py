"""A voice that can speak, and how it should."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import NewType

from services.voice.domain.errors import VoiceNotFound
from shared.values import dataclass

VoiceId = NewType("VoiceId", str)

# The speeds that every way to the vendor takes; some take more.
SLOWEST, FASTEST = 0.7, 1.2

_VOICE_ID = re.compile(r"[A-Za-z0-9]{1,64}\Z")


def voice_id_of(text: str) -> VoiceId:
    """The text as a voice's id, safe to stand in a path.

    Raises VoiceNotFound for anything that can't be one.
    """
    if not _VOICE_ID.match(text):
        raise VoiceNotFound(text[:64])
    return VoiceId(text)


class VoiceCategory(StrEnum):
    """What the tier table grants voices by.

    `basic`: the vendor's stock voices. `custom`: the user's own, cloned or designed. `premium`:
    voices of professionals, out of the vendor's library. `enterprise`: professional voices that the
    account itself has had trained, such as the voice of a brand.
    """

    BASIC = "basic"
    CUSTOM = "custom"
    PREMIUM = "premium"
    ENTERPRISE = "enterprise"


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that the user's key can reach."""

    id: VoiceId
    name: str
    category: VoiceCategory
    labels: Mapping[str, str] = field(default_factory=dict)
    preview_url: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class VoiceSettings:
    """How a voice speaks. `speed` is left to the voice when None."""

    stability: float = 0.75
    similarity_boost: float = 0.75
    style: float = 0.0
    use_speaker_boost: bool = False
    speed: float | None = None
