"""From what a user wishes to what the vendor is asked, within what the tier grants."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, field, replace
from typing import Any

import orjson

from services.voice.domain.audio_format import (
    QUALITIES,
    AudioFormat,
    depends_on_plan,
    instead_of,
)
from services.voice.domain.errors import (
    AudioTooLargeForJson,
    FormatNotInTier,
    FormatNotInVendorPlan,
    FormatNotLive,
    RealtimeNotInTier,
    SpeakerBoostNotInTier,
    SpeechNotInTier,
    TextNotInTier,
    TextNotSpeakable,
    UnknownFormat,
    VoiceModelNotInTier,
    VoiceNotInTier,
)
from services.voice.domain.parts import parts_of
from services.voice.domain.speech_model import speech_model
from services.voice.domain.voice import (
    Voice,
    VoiceCategory,
    VoiceId,
    VoiceSettings,
    voice_id_of,
)
from shared.model_catalogue import ModelCatalogue
from shared.tiers import TIERS, Allowance, Tier, next_tier
from shared.values import dataclass
from shared.vendors.failures import VendorPlanRequired

VENDOR = "elevenlabs"
LONGEST_TEXT = 5_000  # that a live speech is told at once
LONGEST_SPEECH = max(
    allowance.characters_per_text
    for tier in TIERS.values()
    if (allowance := tier.allowance(VENDOR)) is not None
)
REALTIME = "realtime"
_LIVE_MODEL = "elevenlabs.standard"  # the class of the quick models
_LARGEST_DOCUMENT = 64 << 20  # bytes of audio that a replica holds at once for one hearer
_MOST_SECONDS_PER_CHARACTER = 0.08
_CONTEXT = 500  # characters of its neighbours that help a part to sound like one with them
# Orders had none of these at first. One that says nothing of them is still the same request.
_LATER_WISHES = ("language_code", "seed", "strict_format", "extras")
_HOW_IT_TRAVELS = ("with_timestamps", "at_once")

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

    @property
    def named(self) -> dict[str, Any]:
        """Those that are named."""
        values = {name: getattr(self, name) for name in _SETTINGS}
        return {name: value for name, value in values.items() if value is not None}


_SETTINGS = ("stability", "similarity_boost", "style", "use_speaker_boost", "speed")


@dataclass(frozen=True, slots=True)
class Extras:
    """What the vendor's own interface takes beside all this, passed on to it as it was asked: a
    JSON object of fields, and the end of an address."""

    fields: str = "{}"
    query: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MannerWish:
    """Whom a user wants to hear, and how."""

    voice_id: str
    model: str | None = None
    format: str | None = None
    settings: SettingsWish = field(default_factory=SettingsWish)
    language_code: str | None = None
    seed: int | None = None
    extras: Extras | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechOrder(MannerWish):
    """What a user wants to hear, and how."""

    text: str
    with_timestamps: bool = False
    strict_format: bool = False  # rather nothing than another format
    at_once: bool = False  # all of the audio in one document

    @property
    def request_hash(self) -> bytes:
        """What makes two requests the same request; how the answer travels is no part of it."""
        said = {
            name: value
            for name, value in asdict(self).items()
            if name not in _HOW_IT_TRAVELS
            and (name not in _LATER_WISHES or (value is not None and value is not False))
        }
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """Who speaks, and how: all but the text."""

    voice_id: VoiceId
    model: str
    format: AudioFormat
    settings: VoiceSettings
    language_code: str | None = None
    seed: int | None = None
    extras: Extras | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script(Manner):
    """What the vendor is asked to say. `before` and `after` is what is said around it."""

    text: str
    is_timed: bool = False
    before: str = ""
    after: str = ""

    @property
    def characters(self) -> int:
        return len(self.text)

    def in_parts(self) -> Sequence[Script]:
        """One script for each request that the vendor is to be asked; itself when one will do."""
        model = speech_model(self.model)
        if self.characters <= model.longest_part:
            return [self]
        texts = parts_of(self.text, model.longest_part, language=self.language_code)
        before = ["", *(text[-_CONTEXT:] for text in texts[:-1])]
        after = [*(text[:_CONTEXT] for text in texts[1:]), ""]
        return [
            replace(self, text=text, before=said, after=to_say)
            for text, said, to_say in zip(texts, before, after, strict=True)
        ]


def script_for(order: SpeechOrder, tier: Tier, catalogue: ModelCatalogue) -> Script:
    """The order within the tier, with the tier's defaults where it says nothing.

    Raises TextNotSpeakable, VoiceNotFound, UnknownFormat, AudioTooLargeForJson, or what of the
    order is not in the tier.
    """
    text = speakable(order.text, LONGEST_SPEECH)
    most = speech_allowance(tier).characters_per_text
    if len(text) > most:
        larger = smallest_tier_above(tier, lambda a: len(text) <= a.characters_per_text)
        raise TextNotInTier(len(text), most, tier.name, larger)
    script = Script(
        text=text,
        is_timed=order.with_timestamps,
        **_manner(order, tier, catalogue),
    )
    audio = script.characters * _MOST_SECONDS_PER_CHARACTER * script.format.bytes_per_second
    if order.at_once and audio > _LARGEST_DOCUMENT:
        raise AudioTooLargeForJson
    return script


def manner_for(wish: MannerWish, tier: Tier, catalogue: ModelCatalogue) -> Manner:
    """How a live speech is to be spoken; the models made for it come first.

    Raises RealtimeNotInTier, VoiceNotFound, UnknownFormat, FormatNotLive, or what of the wish is
    not in the tier.
    """
    if not tier.allows(VENDOR, REALTIME):
        raise RealtimeNotInTier(
            tier.name, smallest_tier_above(tier, lambda a: REALTIME in a.features)
        )
    _refuse_what_is_not_live(wish.format, tier)
    if wish.model is None:
        wish = replace(wish, model=catalogue.id_of(_LIVE_MODEL))
    return Manner(**_manner(wish, tier, catalogue))


def _refuse_what_is_not_live(wished: str | None, tier: Tier) -> None:
    if wished is None or AudioFormat(wished).is_live:
        return
    if any(AudioFormat(wished) in quality.formats for quality in QUALITIES.values()):
        granted = QUALITIES[speech_allowance(tier).quality].formats
        raise FormatNotLive(sorted(known.name for known in granted if known.is_live))


def _manner(wish: MannerWish, tier: Tier, catalogue: ModelCatalogue) -> dict[str, Any]:
    allowance = speech_allowance(tier)
    return {
        "voice_id": voice_id_of(wish.voice_id),
        "model": _model(wish.model, tier, allowance, catalogue),
        "format": _format(wish.format, tier, allowance),
        "settings": _settings(wish.settings, tier),
        "language_code": wish.language_code,
        "seed": wish.seed,
        "extras": wish.extras,
    }


def speech_allowance(tier: Tier) -> Allowance:
    """What the tier grants at the vendor of voices. Raises SpeechNotInTier."""
    allowance = tier.allowance(VENDOR)
    if allowance is None:
        raise SpeechNotInTier(tier.name, smallest_tier_above(tier, lambda _: True))
    return allowance


def has_every_voice(tier: Tier) -> bool:
    """Whether the tier includes voices of any category, so that none needs to be looked up."""
    return speech_allowance(tier).voice_categories >= set(VoiceCategory)


def has_voices_of_others(tier: Tier) -> bool:
    """Whether the tier includes whatever voices there are, but those that the account itself has
    had trained."""
    categories = speech_allowance(tier).voice_categories
    return categories >= set(VoiceCategory) - {VoiceCategory.ENTERPRISE}


def includes_voice(tier: Tier, voice: Voice) -> bool:
    """Whether the tier includes the voice."""
    return voice.category in speech_allowance(tier).voice_categories


def refuse_outside(tier: Tier, voice: Voice) -> None:
    """Raises VoiceNotInTier unless the tier includes the voice."""
    if not includes_voice(tier, voice):
        larger = smallest_tier_with(tier, voice)
        raise VoiceNotInTier(voice.id, voice.category, tier.name, larger)


def smallest_tier_with(tier: Tier, voice: Voice) -> str | None:
    """The name of the next larger tier that includes the voice."""
    return smallest_tier_above(tier, lambda a: voice.category in a.voice_categories)


def speakable(text: str, most: int = LONGEST_TEXT) -> str:
    """The text without the white space around it. Raises TextNotSpeakable."""
    text = text.replace("\r\n", "\n").strip()
    if not 1 <= len(text) <= most:
        raise TextNotSpeakable(
            f"Send between 1 and {most} characters of text.",
            characters=len(text),
            most_characters=most,
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
    larger = smallest_tier_above(
        tier, lambda a: model in _models(a, catalogue) or "custom_models" in a.features
    )
    raise VoiceModelNotInTier(model, tier.name, larger, granted)


def granted_models(tier: Tier, catalogue: ModelCatalogue) -> Sequence[str]:
    """The vendor's ids of what the tier grants. Raises SpeechNotInTier."""
    return _models(speech_allowance(tier), catalogue)


def _models(allowance: Allowance, catalogue: ModelCatalogue) -> list[str]:
    return [catalogue.id_of(model_class) for model_class in allowance.model_classes]


def _format(wished: str | None, tier: Tier, allowance: Allowance) -> AudioFormat:
    quality = QUALITIES[allowance.quality]
    if wished is None:
        return quality.default
    format_ = AudioFormat(wished)
    if format_ in quality.formats:
        return format_
    larger = smallest_tier_above(tier, lambda a: format_ in QUALITIES[a.quality].formats)
    names = sorted(known.name for known in quality.formats)
    if not any(format_ in known.formats for known in QUALITIES.values()):
        raise UnknownFormat(names)
    raise FormatNotInTier(wished, tier.name, larger, names)


def others_for(refused: VendorPlanRequired, wished: AudioFormat, tier: Tier) -> list[AudioFormat]:
    """What to ask for after the vendor has refused, the best first; nothing where the refusal is
    not about the format. What the vendor refuses costs nothing there, so that it may be asked
    again."""
    if not isinstance(refused, FormatNotInVendorPlan) and not depends_on_plan(wished):
        return []
    return instead_of(wished, QUALITIES[speech_allowance(tier).quality])


def _settings(wish: SettingsWish, tier: Tier) -> VoiceSettings:
    boosted = tier.allows(VENDOR, "speaker_boost")
    if wish.use_speaker_boost and not boosted:
        raise SpeakerBoostNotInTier(
            tier.name, smallest_tier_above(tier, lambda a: "speaker_boost" in a.features)
        )
    return VoiceSettings(**{"use_speaker_boost": boosted, **wish.named})


def smallest_tier_above(tier: Tier, includes: Callable[[Allowance], bool]) -> str | None:
    """The name of the next larger tier that includes it; None when no tier does."""

    def does(larger: Tier) -> bool:
        allowance = larger.allowance(VENDOR)
        return allowance is not None and includes(allowance)

    return next_tier(tier, does)
