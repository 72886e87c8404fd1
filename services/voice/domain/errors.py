"""Failures that voice expects; what a vendor does to us stands in `shared.vendors.failures`."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from shared.errors import Conflict, Invalid, NotFound, NotInTier


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
    key is charged once.
    """

    code = "already_spoken"

    def __init__(self, speech_id: UUID, outcome: str) -> None:
        super().__init__(
            "A request with this Idempotency-Key was answered before; its audio is not kept.",
            speech_id=str(speech_id),
            outcome=outcome,
        )


class SpeechStopped(Conflict):
    """The speech was ended early: its key was revoked, or the replica is going down."""

    code = "speech_stopped"

    def __init__(self, speech_id: UUID) -> None:
        super().__init__("The speech was ended before its end.", speech_id=str(speech_id))
