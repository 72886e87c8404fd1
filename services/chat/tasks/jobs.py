"""Work that chat gives itself by the clock."""

from __future__ import annotations

from datetime import timedelta

from services.chat.actions import Actions
from services.chat.tasks import listen


@listen.every(timedelta(seconds=10))
async def settle_orphans(actions: Actions) -> None:
    """Settle the turns of replicas that died."""
    await actions.settle_orphans()
