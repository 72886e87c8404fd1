"""`user.*`: accounts come and go."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.actions import Actions
from services.billing.tasks import listen
from shared.erasure import ErasureId
from shared.events import Fact
from shared.events.user import UserDeleted, UserRegistered
from shared.ids import UserId


@listen.to(UserRegistered, queue="users")
async def note_new(facts: Sequence[Fact[UserRegistered]], actions: Actions) -> None:
    """Remember since when they are there."""
    await actions.note_new_users([(UserId(fact.event.user_id), fact.time) for fact in facts])


@listen.to(UserDeleted, queue="users")
async def forget(facts: Sequence[Fact[UserDeleted]], actions: Actions) -> None:
    """Forget them; what can't be done at once, a job goes on with."""
    await actions.forget_user.begin(
        [(UserId(fact.event.user_id), ErasureId(fact.event.erasure_id)) for fact in facts]
    )
