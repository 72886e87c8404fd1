"""Work that auth gives itself by the clock."""

from __future__ import annotations

from datetime import timedelta

from services.auth.actions import Actions
from services.auth.tasks import listen


# More often than daily, so that it runs even where the process restarts every day.
@listen.every(timedelta(hours=6))
async def forget_expired(actions: Actions) -> None:
    """Delete sign-ins that are long over, and what else nobody needs any more."""
    await actions.forget_expired()
