"""How a user wants a voice to speak, when they don't say otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias, TypeVar

from services.voice.domain.errors import SpeakerBoostNotInTier
from services.voice.domain.script import (
    VENDOR,
    MannerWish,
    SettingsWish,
    smallest_tier_above,
)
from services.voice.domain.voice import VoiceId, VoiceSettings
from shared.tiers import Tier
from shared.values import dataclass

W = TypeVar("W", bound=MannerWish)

BOOST = "speaker_boost"

SettingsChange: TypeAlias = Mapping[str, float | bool | None]
"""Settings by their names in SettingsWish; None gives one back to its default."""


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """What a user has said once for all about a voice."""

    voice_id: VoiceId
    settings: SettingsWish
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SettingsOverview:
    """How a voice speaks for a user, and what that follows from."""

    effective: VoiceSettings
    defaults: VoiceSettings
    recommended: VoiceSettings
    own: SettingsWish


def defaults_of(tier: Tier) -> VoiceSettings:
    """How voices speak for whom nobody has said anything."""
    return VoiceSettings(use_speaker_boost=tier.allows(VENDOR, BOOST))


def effective(own: SettingsWish, tier: Tier) -> VoiceSettings:
    """The tier's defaults, with the user's own in their place."""
    return replace(defaults_of(tier), **_within(own, tier).named)


def filled(wish: W, own: SettingsWish, tier: Tier) -> W:
    """The wish with the user's own settings where it names none."""
    settings = replace(_within(own, tier), **wish.settings.named)
    return replace(wish, settings=settings)


def _within(own: SettingsWish, tier: Tier) -> SettingsWish:
    """What was said under a larger tier, and is no more included, is left out: it was not asked for
    this time, so that it is no reason to refuse."""
    if tier.allows(VENDOR, BOOST):
        return own
    return replace(own, use_speaker_boost=None)


def refuse_settings_outside(tier: Tier, change: SettingsChange) -> None:
    """Raises SpeakerBoostNotInTier when the change turns on what the tier does not include."""
    if change.get("use_speaker_boost") and not tier.allows(VENDOR, BOOST):
        larger = smallest_tier_above(tier, lambda a: BOOST in a.features)
        raise SpeakerBoostNotInTier(tier.name, larger)
