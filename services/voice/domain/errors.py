"""Failures that voice expects; what a vendor does to us stands in `shared.vendors.failures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from shared.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    NotInTier,
    Unavailable,
)
from shared.vendors.dropins import ModelNotFound
from shared.vendors.failures import VendorFailed, VendorPlanRequired


class VoiceNotFound(NotFound):
    """The user's key reaches no voice of that id."""

    code = "voice_not_found"

    def __init__(self, voice_id: str) -> None:
        super().__init__("No such voice.", voice_id=voice_id)


class TextNotSpeakable(Invalid):
    """A text that is empty, too long, or holds what nobody can say."""

    code = "text_not_speakable"


class SpeechRejected(Invalid):
    """The vendor can't do what was asked, for instance so long a text with that model."""

    code = "speech_rejected"

    def __init__(self, provider: str) -> None:
        super().__init__(f"{provider} does not accept the request.", provider=provider)


class SpeechNotInTier(NotInTier):
    """The tier includes no speech at all."""

    code = "speech_not_in_tier"

    def __init__(self, tier: str, upgrade_tier: str | None) -> None:
        super().__init__(
            f"The {tier} tier does not include speech.", tier=tier, upgrade_tier=upgrade_tier
        )


class RealtimeNotInTier(NotInTier):
    """The tier speaks whole texts alone, not while they are being written."""

    code = "realtime_not_in_tier"

    def __init__(self, tier: str, upgrade_tier: str | None) -> None:
        super().__init__(
            f"The {tier} tier does not include speech in real time.",
            tier=tier,
            upgrade_tier=upgrade_tier,
        )


class TextNotInTier(NotInTier):
    """A text that is longer than what the tier speaks at once."""

    code = "text_not_in_tier"

    def __init__(
        self, characters: int, most_characters: int, tier: str, upgrade_tier: str | None
    ) -> None:
        super().__init__(
            f"The {tier} tier speaks at most {most_characters} characters at once.",
            characters=characters,
            most_characters=most_characters,
            tier=tier,
            upgrade_tier=upgrade_tier,
        )


class FormatNotInTier(NotInTier):
    """An audio format beyond the tier's quality."""

    code = "format_not_in_tier"

    def __init__(
        self, name: str, tier: str, upgrade_tier: str | None, formats: Sequence[str]
    ) -> None:
        super().__init__(
            f"The {tier} tier does not include this audio format.",
            format=name,
            tier=tier,
            upgrade_tier=upgrade_tier,
            formats=list(formats),
        )


class UnknownFormat(Invalid):
    """An audio format that no tier has."""

    code = "unknown_format"

    def __init__(self, formats: Sequence[str]) -> None:
        super().__init__("There is no such audio format.", formats=list(formats))


class FormatNotLive(Invalid):
    """An audio format that no line makes on which text is told while it is spoken."""

    code = "format_not_live"

    def __init__(self, formats: Sequence[str]) -> None:
        super().__init__(
            "Live speech is not made as WAV, whose head tells how long it is. PCM has the same"
            " samples.",
            formats=list(formats),
        )


class VoiceNotInTier(NotInTier):
    """A voice of a category that the tier does not include."""

    code = "voice_not_in_tier"

    def __init__(self, voice_id: str, category: str, tier: str, upgrade_tier: str | None) -> None:
        super().__init__(
            f"The {tier} tier does not include {category} voices.",
            voice_id=voice_id,
            category=category,
            tier=tier,
            upgrade_tier=upgrade_tier,
        )


class VoiceModelNotInTier(NotInTier):
    """A model beyond what the tier grants."""

    code = "voice_model_not_in_tier"

    def __init__(
        self, model: str, tier: str, upgrade_tier: str | None, models: Sequence[str]
    ) -> None:
        super().__init__(
            f"The {tier} tier does not include this model.",
            model=model,
            tier=tier,
            upgrade_tier=upgrade_tier,
            models=list(models),
        )


class SpeakerBoostNotInTier(NotInTier):
    """Speaker boost was asked for; the tier does not have it."""

    code = "speaker_boost_not_in_tier"

    def __init__(self, tier: str, upgrade_tier: str | None) -> None:
        super().__init__(
            f"The {tier} tier does not include speaker boost.",
            tier=tier,
            upgrade_tier=upgrade_tier,
        )


class AlreadySpoken(Conflict):
    """The text was spoken, and charged, for an earlier request with this Idempotency-Key.

    The audio is not kept, so it can't be given again; refusing is what keeps the promise that one
    key is charged once. Who wants to hear it sends another key.
    """

    code = "already_spoken"

    def __init__(self, speech_id: UUID, outcome: str) -> None:
        super().__init__(
            "A request with this Idempotency-Key was answered before; its audio is not kept. With"
            " another key it is spoken, and charged, again.",
            speech_id=str(speech_id),
            outcome=outcome,
        )


class FormatNotInVendorPlan(VendorPlanRequired):
    """The user's plan at the vendor does not make this audio format."""

    code = "format_not_in_vendor_plan"

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"The account's plan at {provider} does not include this audio format.",
            provider=provider,
        )


class AudioTooLargeForJson(Invalid):
    """So much audio as the text would come to does not belong into one JSON document."""

    code = "audio_too_large_for_json"

    def __init__(self) -> None:
        super().__init__(
            "This would be too much audio for one JSON document: take it as bytes, or in lines"
            " with `Accept: application/x-ndjson`, or in a smaller format."
        )


class SpeechStopped(Conflict):
    """The speech was ended early: its key was revoked, or the replica is going down. `usage` is
    what it is charged all the same; None for nothing."""

    code = "speech_stopped"

    def __init__(self, speech_id: UUID, usage: Mapping[str, Any] | None) -> None:
        super().__init__(
            "The speech was ended before its end.", speech_id=str(speech_id), usage=usage
        )


class SpeechEnded(Conflict):
    """The speech takes no more words."""

    code = "speech_ended"

    def __init__(self) -> None:
        super().__init__("This speech has ended.")


class SpeechCut(VendorFailed):
    """The vendor's audio broke off, and what it was asked to say is charged all the same."""

    def __init__(self, provider: str, speech_id: UUID, usage: Mapping[str, Any] | None) -> None:
        super().__init__(provider)
        self.facts = {**self.facts, "speech_id": str(speech_id), "usage": usage}


class CloningNotInTier(NotInTier):
    """The tier includes no voices made from samples."""

    code = "cloning_not_in_tier"

    def __init__(self, tier: str, upgrade_tier: str | None) -> None:
        super().__init__(
            f"The {tier} tier does not include making voices from samples.",
            tier=tier,
            upgrade_tier=upgrade_tier,
        )


class ConsentMissing(Invalid):
    """Nobody's voice is made without saying that they agreed."""

    code = "consent_missing"

    def __init__(self, text: str, version: str) -> None:
        super().__init__(
            "Send `consent: true`, if that is so.", consent_text=text, consent_version=version
        )


class CloneNotDescribed(Invalid):
    """A name, a description or labels that no voice can have."""

    code = "clone_not_described"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message, field=field)


_OF_A_SAMPLE = {
    "empty": "is empty",
    "too_large": "is too large",
    "too_short": "is too short",
    "no_audio": "holds no audio that we know (WAV, MP3, FLAC, Ogg, M4A, WebM)",
    "cut_off": "ends before its own end",
}


class SampleRefused(Invalid):
    """One of the samples can't be used; `reason` says why."""

    code = "sample_refused"

    def __init__(self, position: int, name: str, reason: str) -> None:
        super().__init__(
            f"Sample {position} {_OF_A_SAMPLE[reason]}.",
            sample=position,
            name=name,
            reason=reason,
        )


class SamplesRefused(Invalid):
    """The samples together can't be used; `reason` says why."""

    code = "samples_refused"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason=reason)


class SamplesRejected(Invalid):
    """The vendor can make no voice of these samples."""

    code = "samples_rejected"

    def __init__(self, provider: str) -> None:
        super().__init__(f"{provider} can make no voice of these samples.", provider=provider)


class VoiceSlotsFull(Conflict):
    """The account's plan at the vendor holds no further voice until one is deleted."""

    code = "voice_slots_full"

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"The account's plan at {provider} holds no further voice.", provider=provider
        )


class VoiceNotClonedHere(Conflict):
    """A voice that its user did not have made here, and so can't have deleted here."""

    code = "voice_not_cloned_here"

    def __init__(self, voice_id: str) -> None:
        super().__init__("You did not have this voice made here.", voice_id=voice_id)


class VoiceOnAnotherKey(Conflict):
    """A voice in the account of an organisation's key, which the vendor was not asked with."""

    code = "voice_on_another_key"

    def __init__(self, voice_id: str, organisation_id: UUID) -> None:
        super().__init__(
            "This voice was made with an organisation's key, and the key that is used for you is"
            " another one.",
            voice_id=voice_id,
            organisation_id=str(organisation_id),
        )


class OrganisationVoicesNotFound(NotFound):
    """No organisation that the caller belongs to."""

    code = "organisation_voices_not_found"

    def __init__(self) -> None:
        super().__init__("No such organisation.")


class VoiceAdminRequired(Forbidden):
    """The caller belongs to the organisation, and does not decide about its keys."""

    code = "voice_admin_required"

    def __init__(self) -> None:
        super().__init__("This is for the organisation's owners and admins.")


class TooMuchText(Invalid):
    """More text than one utterance holds."""

    code = "too_much_text"

    def __init__(self, most: int) -> None:
        super().__init__("Begin another utterance for more text.", most_characters=most)


class TooManyUtterances(LimitReached):
    """As many utterances speak and wait at a socket as may."""

    code = "too_many_utterances"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} utterances speak or wait; wait for one to end, or stop them.",
            retry_after=timedelta(seconds=1),
            limit=most,
        )


class UtteranceOpen(Conflict):
    """The last utterance still takes text."""

    code = "utterance_open"

    def __init__(self) -> None:
        super().__init__("End the last utterance first, or stop it.")


class NoUtterance(Conflict):
    """There is none that takes text."""

    code = "no_utterance"

    def __init__(self) -> None:
        super().__init__("Start an utterance first.")


class TooManyVoiceSockets(LimitReached):
    """A user has as many sockets open on this replica as anybody may."""

    code = "too_many_voice_sockets"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"You have {most} sockets open.", retry_after=timedelta(minutes=1), limit=most
        )


class EngineCannot(Invalid):
    """The engine on our own machine has not what was asked for; says what it has."""

    code = "engine_cannot"

    def __init__(self, what: str, engine: str, formats: Sequence[str], model: str) -> None:
        super().__init__(
            f"{engine} does not have {what}.",
            provider=engine,
            formats=list(formats),
            models=[model],
        )


class EngineBusy(Unavailable):
    """As many speeches as may are being made on our own machine; it takes seconds at most."""

    code = "engine_busy"

    def __init__(self, engine: str, retry_after: timedelta) -> None:
        super().__init__(
            f"{engine} is speaking for as many as it may.",
            provider=engine,
            retry_after=retry_after,
        )


class InputTimeout(Invalid):
    """No text came for as long as the client of a vendor's socket had allowed."""

    code = "input_timeout_exceeded"

    def __init__(self) -> None:
        super().__init__("No new text within the time that inactivity_timeout allows.")


class UnreadableWords(Invalid):
    """A message at a vendor's socket that is none of the vendor's."""

    code = "invalid_message"


class SpeechModelNotFound(ModelNotFound):
    """A name that no model of speech has."""

    def __init__(self) -> None:
        super().__init__("There is no such model of speech.")
