"""`key.*`: what becomes of the keys that speeches run on."""

from __future__ import annotations

from collections.abc import Sequence

from services.voice.actions import Actions
from services.voice.tasks import listen
from shared.events import Fact
from shared.events.key import KeyRevoked
from shared.ids import UserId
from shared.revocation import Revocation


@listen.to(KeyRevoked, queue="keys")
async def end_speeches(facts: Sequence[Fact[KeyRevoked]], actions: Actions) -> None:
    """Hearing it twice ends nothing twice, so no ids are kept."""
    await actions.announce_revocations([_revocation(fact) for fact in facts])


def _revocation(fact: Fact[KeyRevoked]) -> Revocation:
    event = fact.event
    return Revocation(UserId(event.user_id), event.provider, fact.time, event.key_version)
