"""Unpaid use waits while what is used can't be told to billing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from shared.errors import Unavailable
from shared.tiers import Tier, TierChanged

_RETRY_AFTER = timedelta(seconds=30)


class UsageBacklog(Unavailable):
    """Nothing new of this tier is begun: its usage waits in the outbox for too long already."""

    code = "usage_backlog"

    def __init__(self) -> None:
        super().__init__(
            "What your tier uses can't be recorded at the moment. Try again in a while.",
            retry_after=_RETRY_AFTER,
        )


def _nobody(_tier: str) -> None:
    """There is nobody to be told."""


class Shedding:
    """The tiers whose new paid calls are refused at the moment; of those that nobody pays for, and
    mostly none. `refused` hears of each call."""

    def __init__(self, refused: Callable[[str], None] = _nobody) -> None:
        self.tiers: frozenset[str] = frozenset()
        self._refused = refused

    async def refuse(self, tier: Tier, told: Callable[[], Awaitable[str | None]]) -> None:
        """Raises UsageBacklog for a tier that is shed; TierChanged, if auth has `told` lately that
        the user has another one."""
        if tier.name not in self.tiers:
            return
        current = await told()
        if current is not None and current != tier.told_as:
            raise TierChanged(current)
        self._refused(tier.name)
        raise UsageBacklog
