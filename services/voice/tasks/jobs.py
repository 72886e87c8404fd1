"""What voice does by the clock."""

from __future__ import annotations

from datetime import timedelta

from services.voice.actions import Actions
from services.voice.tasks import listen


@listen.every(timedelta(seconds=10))
async def settle_orphans(actions: Actions) -> None:
    """Settle the speeches of replicas that died."""
    await actions.settle_orphans()


@listen.every(timedelta(minutes=10))
async def forget_keys(actions: Actions) -> None:
    """Free idempotency keys a day after their use."""
    await actions.forget_idempotency_keys()


@listen.every(timedelta(minutes=5))
async def forget_lost_clones(actions: Actions) -> None:
    """Let go of voices whose making nobody saw to its end."""
    await actions.forget_lost_clones()


@listen.every(timedelta(seconds=5))
async def forget_users(actions: Actions) -> None:
    """Go on forgetting deleted users of whom something was left."""
    await actions.forget_user.go_on()


@listen.every(timedelta(minutes=5))
async def watch_forgotten_users(actions: Actions) -> None:
    """Erase what has come late of users who were forgotten."""
    await actions.forget_user.watch()


@listen.every(timedelta(hours=1))
async def drop_old_utterances(actions: Actions) -> None:
    """Let go the audio that is kept to be said again, once it is old."""
    await actions.drop_old_speech()
