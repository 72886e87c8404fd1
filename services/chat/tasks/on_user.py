"""`user.*`: accounts that exist no more."""

from __future__ import annotations

from collections.abc import Sequence

from services.chat.actions import Actions
from services.chat.tasks import listen
from shared.erasure import ErasureId
from shared.events import Fact
from shared.events.user import UserDeleted
from shared.ids import UserId


@listen.to(UserDeleted, queue="users")
async def forget(facts: Sequence[Fact[UserDeleted]], actions: Actions) -> None:
    """Forget them; what can't be done at once, a job goes on with."""
    await actions.forget_user.begin(
        [(UserId(fact.event.user_id), ErasureId(fact.event.erasure_id)) for fact in facts]
    )
