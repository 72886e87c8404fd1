"""The audit trail says what was made of whose recordings."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from services.auth.actions.note_voices import NoteVoices, VoiceFact
from shared.events import Fact
from shared.events.voice import VoiceCloned, VoiceConsentGiven, VoiceRemoved
from tests.support.auth import Memory, a_user

ADA = a_user("ada")
CLONE = uuid4()
SAMPLES = ("9f86d081",)


def told(event: Any) -> Any:
    return Fact(event=event, subject=ADA.id, tier="pro", source="voice")


async def test_each_fact_is_noted_once_with_what_it_says() -> None:
    memory = Memory().keep(ADA)
    note = NoteVoices(memory.work)
    made: dict[str, Any] = {"user_id": ADA.id, "clone_id": CLONE, "provider": "elevenlabs"}
    consent: dict[str, Any] = {"consent_version": "2026-11", "sample_sha256s": SAMPLES}
    facts: list[VoiceFact] = [
        told(VoiceConsentGiven(**made, **consent)),
        told(VoiceCloned(**made, **consent, voice_id="v1")),
        told(VoiceRemoved(**made, voice_id="v1")),
    ]
    for fact in facts:
        await note([fact, fact])
        await note([fact])
    assert [entry.action for entry in memory.audited] == [fact.event.type for fact in facts]
    for entry, fact in zip(memory.audited, facts, strict=True):
        assert (entry.user_id, entry.actor_id, entry.at) == (ADA.id, ADA.id, fact.time)
        assert entry.facts["clone_id"] == str(CLONE)
        assert "user_id" not in entry.facts
    assert memory.audited[0].facts["sample_sha256s"] == list(SAMPLES)
    assert memory.audited[1].facts["voice_id"] == "v1"


async def test_who_had_it_removed_is_who_acted() -> None:
    memory, admin = Memory().keep(ADA), uuid4()
    removed = VoiceRemoved(
        user_id=ADA.id, clone_id=CLONE, provider="elevenlabs", voice_id="v1", removed_by=admin
    )
    await NoteVoices(memory.work)([told(removed)])
    [entry] = memory.audited
    assert (entry.user_id, entry.actor_id) == (ADA.id, admin)
    assert "removed_by" not in entry.facts
