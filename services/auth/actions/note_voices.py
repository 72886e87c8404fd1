"""Note what users had made of recordings, and that they said the speaker agrees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from services.auth.domain.audit import AuditEntry
from services.auth.domain.ports import NewUnitOfWork
from shared.events import Fact
from shared.events.voice import VoiceCloned, VoiceConsentGiven, VoiceRemoved
from shared.ids import UserId, uuid7
from shared.values import dataclass

VoiceFact: TypeAlias = Fact[VoiceConsentGiven] | Fact[VoiceCloned] | Fact[VoiceRemoved]


@dataclass(frozen=True, slots=True)
class NoteVoices:
    """An entry for each fact that was not heard before: it happened when the fact says so."""

    unit_of_work: NewUnitOfWork

    async def __call__(self, facts: Sequence[VoiceFact]) -> None:
        async with self.unit_of_work() as work:
            unseen = await work.unseen(fact.id for fact in facts)
            for fact in {fact.id: fact for fact in facts if fact.id in unseen}.values():
                await work.audit.note(_entry(fact))


def _entry(fact: VoiceFact) -> AuditEntry:
    user_id = UserId(fact.event.user_id)
    actor_id = UserId(getattr(fact.event, "removed_by", None) or user_id)
    facts = fact.event.model_dump(mode="json", exclude={"user_id", "removed_by"})
    return AuditEntry(uuid7(), fact.time, fact.event.type, user_id, actor_id, None, facts)
