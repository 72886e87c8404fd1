"""`user.*`: the rest of a deleted account, and who has forgotten its user."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.actions import Actions
from services.auth.actions.note_forgotten import Forgotten
from services.auth.tasks import listen
from shared.erasure import ErasureId
from shared.events import Fact
from shared.events.user import UserDeleted, UserForgotten
from shared.ids import UserId


@listen.to(UserDeleted, queue="users")
async def forget(facts: Sequence[Fact[UserDeleted]], actions: Actions) -> None:
    """Forget what the deletion itself has left."""
    for fact in facts:
        await actions.forget_user(UserId(fact.event.user_id), ErasureId(fact.event.erasure_id))


@listen.to(UserForgotten, queue="users")
async def note_forgotten(facts: Sequence[Fact[UserForgotten]], actions: Actions) -> None:
    """Write down who has forgotten whom."""
    await actions.note_forgotten(
        [
            Forgotten(ErasureId(fact.event.erasure_id), fact.event.service, fact.time)
            for fact in facts
        ]
    )
