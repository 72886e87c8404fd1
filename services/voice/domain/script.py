"""From what a user wishes to what the vendor is asked, within what the tier grants."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import orjson

from services.voice.domain.audio_format import QUALITIES, AudioFormat
from services.voice.domain.errors import (
    FormatNotInTier,
    SpeakerBoostNotInTier,
    SpeechNotInTier,
    TextNotSpeakable,
    UnknownFormat,
    VoiceModelNotInTier,
    VoiceNotInTier,
)
from services.voice.domain.voice import (
    Voice,
    VoiceCategory,
    VoiceId,
    VoiceSettings,
    voice_id_of,
)
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS, Allowance, Tier

VENDOR = "elevenlabs"
LONGEST_TEXT = 5_000

# Control characters but tab and newline, and halves of surrogate pairs: nothing says them, and
# vendors answer them with anything from silence to a 500.
_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class SettingsWish:
    """The settings that a user names; None leaves the default."""

    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    use_speaker_boost: bool | None = None
    speed: float | None = None


@dataclass(frozen=True, slots=True)
class SpeechOrder:
    """What a user wants to hear, and how."""

    text: str
    voice_id: str
    model: str | None = None
    format: str | None = None
    settings: SettingsWish = field(default_factory=SettingsWish)

    @property
    def request_hash(self) -> bytes:
        """What makes two requests the same request; how the answer travels is no part of it."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).digest()


@dataclass(frozen=True, slots=True)
class Script:
    """What the vendor is asked to say."""

    text: str
    voice_id: VoiceId
    model: str
    format: AudioFormat
    settings: VoiceSettings

    @property
    def characters(self) -> int:
        return len(self.text)


def script_for(order: SpeechOrder, tier: Tier, catalogue: ModelCatalogue) -> Script:
    """The order within the tier, with the tier's defaults where it says nothing.

    Raises TextNotSpeakable, VoiceNotFound, UnknownFormat, or what of the order is not in the tier.
    """
    allowance = speech_allowance(tier)
    return Script(
        text=_speakable(order.text),
        voice_id=voice_id_of(order.voice_id),
        model=_model(order.model, tier, allowance, catalogue),
        format=_format(order.format, tier, allowance),
        settings=_settings(order.settings, tier),
    )


def speech_allowance(tier: Tier) -> Allowance:
    """What the tier grants at the vendor of voices. Raises SpeechNotInTier."""
    allowance = tier.allowance(VENDOR)
    if allowance is None:
        raise SpeechNotInTier(tier.name, _smallest_above(tier, lambda _: True))
    return allowance


def has_every_voice(tier: Tier) -> bool:
    """Whether the tier includes voices of any category, so that none needs to be looked up."""
    return speech_allowance(tier).voice_categories >= set(VoiceCategory)


def includes_voice(tier: Tier, voice: Voice) -> bool:
    """Whether the tier includes the voice."""
    return voice.category in speech_allowance(tier).voice_categories


def refuse_outside(tier: Tier, voice: Voice) -> None:
    """Raises VoiceNotInTier unless the tier includes the voice."""
    if not includes_voice(tier, voice):
        larger = _smallest_above(tier, lambda a: voice.category in a.voice_categories)
        raise VoiceNotInTier(voice.id, voice.category, tier.name, larger)


def _speakable(text: str) -> str:
    text = text.replace("\r\n", "\n").strip()
    if not 1 <= len(text) <= LONGEST_TEXT:
        raise TextNotSpeakable(
            f"Send between 1 and {LONGEST_TEXT} characters of text.",
            characters=len(text),
            most_characters=LONGEST_TEXT,
        )
    if _UNSPEAKABLE.search(text):
        raise TextNotSpeakable("The text holds control characters; only tab and newline may be.")
    return text


def _model(wished: str | None, tier: Tier, allowance: Allowance, catalogue: ModelCatalogue) -> str:
    granted = _models(allowance, catalogue)
    if wished is None:
        return granted[0]
    model = catalogue.resolve(wished)
    if model in granted or "custom_models" in allowance.features:
        return model
    larger = _smallest_above(
        tier, lambda a: model in _models(a, catalogue) or "custom_models" in a.features
    )
    raise VoiceModelNotInTier(model, tier.name, larger, granted)


def _models(allowance: Allowance, catalogue: ModelCatalogue) -> list[str]:
    return [catalogue.id_of(model_class) for model_class in allowance.model_classes]


def _format(wished: str | None, tier: Tier, allowance: Allowance) -> AudioFormat:
    quality = QUALITIES[allowance.quality]
    if wished is None:
        return quality.default
    format_ = AudioFormat(wished)
    if format_ in quality.formats:
        return format_
    larger = _smallest_above(tier, lambda a: format_ in QUALITIES[a.quality].formats)
    names = sorted(known.name for known in quality.formats)
    if not any(format_ in known.formats for known in QUALITIES.values()):
        raise UnknownFormat(names)
    raise FormatNotInTier(wished, tier.name, larger, names)


def _settings(wish: SettingsWish, tier: Tier) -> VoiceSettings:
    boosted = tier.allows(VENDOR, "speaker_boost")
    if wish.use_speaker_boost and not boosted:
        raise SpeakerBoostNotInTier(
            tier.name, _smallest_above(tier, lambda a: "speaker_boost" in a.features)
        )
    said = {name: value for name, value in asdict(wish).items() if value is not None}
    return VoiceSettings(**{"use_speaker_boost": boosted, **said})


def _smallest_above(tier: Tier, includes: Callable[[Allowance], bool]) -> str | None:
    """The name of the next larger tier that includes it; None when no tier does."""
    for larger in sorted(TIERS.values(), key=lambda t: t.rank):
        allowance = larger.allowance(VENDOR)
        if larger.rank > tier.rank and allowance is not None and includes(allowance):
            return larger.name
    return None
