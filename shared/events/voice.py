"""`voice.*`: voices that were made of somebody's recordings. Published by voice.

They are what auth's audit trail says of them; the recordings themselves are kept nowhere.
"""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from shared.events.base import Event


class VoiceConsentGiven(Event):
    """A user said that the speaker agrees, and these recordings are about to go to the vendor."""

    type = "voice.consent_given"

    user_id: UUID
    clone_id: UUID
    provider: str
    consent_version: str
    sample_sha256s: tuple[str, ...] = Field(min_length=1)


class VoiceCloned(Event):
    """The vendor has made a voice of them."""

    type = "voice.cloned"

    user_id: UUID
    clone_id: UUID
    provider: str
    voice_id: str
    consent_version: str
    sample_sha256s: tuple[str, ...] = Field(min_length=1)


class VoiceRemoved(Event):
    """The vendor has said that the voice is gone. `removed_by`: who asked for it, its user or
    somebody who decides about the organisation's keys; None: nobody says."""

    type = "voice.removed"

    user_id: UUID
    clone_id: UUID
    provider: str
    voice_id: str
    removed_by: UUID | None = None
