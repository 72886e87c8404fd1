"""Who is refused near the end of the month's characters is told once for each limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any
from uuid import uuid4

from services.voice.actions.tell_refused import TellRefused
from shared.errors import LimitReached
from shared.ids import UserId
from shared.tiers import TIERS


class Outbox:
    """A unit of work that publishes, and nothing else."""

    def __init__(self) -> None:
        self.limits: list[int] = []

    async def __aenter__(self) -> Outbox:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def publish(self, event: Any, **_about: Any) -> None:
        self.limits.append(event.limit)


def refused(used: int, limit: int) -> LimitReached:
    return LimitReached(
        "The limit of your tier is reached.",
        retry_after=timedelta(days=3),
        scope="elevenlabs.characters_per_month",
        used=used,
        limit=limit,
        resets_at=datetime(2026, 12, 1, tzinfo=UTC),
    )


async def test_after_an_upgrade_the_larger_limit_is_told_too() -> None:
    outbox, ada = Outbox(), UserId(uuid4())
    tell = TellRefused(lambda: outbox)  # type: ignore[arg-type, return-value]
    for used, limit, tier in (
        (9_500, 10_000, "free"),
        (9_600, 10_000, "free"),
        (20_000, 100_000, "pro"),  # not near its end
        (95_000, 100_000, "pro"),
        (96_000, 100_000, "pro"),
    ):
        await tell(ada, TIERS[tier], refused(used, limit))
    assert outbox.limits == [10_000, 100_000]
