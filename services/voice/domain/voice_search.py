"""Looking for voices: what is looked for, and a page of what was found."""

from __future__ import annotations

from collections.abc import Sequence

from services.voice.domain.voice import Voice, VoiceCategory
from shared.values import dataclass

LARGEST_PAGE = 100


@dataclass(frozen=True, slots=True)
class VoiceQuery:
    """What a user looks for; None is anything. `page_token` is the vendor's."""

    search: str | None = None
    category: VoiceCategory | None = None
    language: str | None = None
    gender: str | None = None
    page_size: int = LARGEST_PAGE
    page_token: str | None = None


@dataclass(frozen=True, slots=True)
class VoicePage:
    """Some voices, and where the next ones begin; None at the end."""

    voices: Sequence[Voice]
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class FoundVoice:
    """A voice as a user may have it. `upgrade_tier` is the smallest that includes it, for a tier
    that does not."""

    voice: Voice
    included: bool
    upgrade_tier: str | None = None
    cloned_here: bool = False


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A page of what a user looked for."""

    found: Sequence[FoundVoice]
    next_token: str | None = None
