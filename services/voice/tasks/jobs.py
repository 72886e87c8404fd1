"""What voice does by the clock."""

from __future__ import annotations

from datetime import timedelta

from services.voice.actions import Actions
from services.voice.tasks import listen


@listen.every(timedelta(seconds=10))
async def settle_orphans(actions: Actions) -> None:
    """Settle the speeches of replicas that died."""
    await actions.settle_orphans()
