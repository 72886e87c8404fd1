"""Work that chat gives itself by the clock."""

from __future__ import annotations

from datetime import timedelta

from services.chat.actions import Actions
from services.chat.tasks import listen


@listen.every(timedelta(seconds=10))
async def settle_orphans(actions: Actions) -> None:
    """Settle the turns of replicas that died."""
    await actions.settle_orphans()


@listen.every(timedelta(minutes=10))
async def forget_answers(actions: Actions) -> None:
    """Free idempotency keys a day after their use."""
    await actions.forget_answers()


@listen.every(timedelta(seconds=5))
async def forget_users(actions: Actions) -> None:
    """Go on forgetting deleted users of whom something was left."""
    await actions.forget_user.go_on()


@listen.every(timedelta(minutes=5))
async def watch_forgotten_users(actions: Actions) -> None:
    """Erase what has come late of users who were forgotten."""
    await actions.forget_user.watch()
