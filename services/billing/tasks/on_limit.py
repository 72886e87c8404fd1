"""`limit.*`: what was refused elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.actions import Actions
from services.billing.tasks import listen
from shared.events import Fact
from shared.events.limit import LimitRefused


@listen.to(LimitRefused, queue="users")
async def tell_refused(facts: Sequence[Fact[LimitRefused]], actions: Actions) -> None:
    """Tell the user, once a window."""
    await actions.tell_limits.refused(facts)
