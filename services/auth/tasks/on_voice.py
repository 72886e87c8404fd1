"""`voice.*`: the audit trail says what was made of whose recordings."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.actions import Actions
from services.auth.tasks import listen
from shared.events import Fact
from shared.events.voice import VoiceCloned, VoiceConsentGiven, VoiceRemoved


@listen.to(VoiceConsentGiven, queue="voices")
async def note_consent(facts: Sequence[Fact[VoiceConsentGiven]], actions: Actions) -> None:
    """Before the recordings leave."""
    await actions.note_voices(facts)


@listen.to(VoiceCloned, queue="voices")
async def note_cloned(facts: Sequence[Fact[VoiceCloned]], actions: Actions) -> None:
    """Once there is a voice."""
    await actions.note_voices(facts)


@listen.to(VoiceRemoved, queue="voices")
async def note_removed(facts: Sequence[Fact[VoiceRemoved]], actions: Actions) -> None:
    """Once there is none any more."""
    await actions.note_voices(facts)
