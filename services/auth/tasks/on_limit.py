"""`limit.*`: users hear by mail that a limit is near, or reached."""

from __future__ import annotations

from collections.abc import Sequence

from services.auth.actions import Actions
from services.auth.tasks import listen
from shared.events import Fact
from shared.events.limit import LimitReached


@listen.to(LimitReached, queue="limits")
async def mail_limits(facts: Sequence[Fact[LimitReached]], actions: Actions) -> None:
    """One mail for each, once."""
    await actions.mail_limits(facts)
