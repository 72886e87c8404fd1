"""Alerts at 80 and 100 percent, of who gets another tier within the window."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

from services.billing.actions import Actions
from shared.db.database import Database
from shared.events import Fact
from shared.events.limit import LimitRefused
from shared.limits.windows import month_window
from tests.support.billing import StoppedClock, a_speech

CHARACTERS = "elevenlabs.characters_per_month"


async def told(actions: Actions, database: Database) -> list[tuple[int, int]]:
    await asyncio.gather(*(actions.tell_limits() for _ in range(3)))
    rows = await database.fetch(
        "select envelope from outbox where stream like 'limit.reached.%' order by created_at"
    )
    data = [row["envelope"]["data"] for row in rows]
    return [(one["percent"], one["limit"]) for one in data]


async def speak(actions: Actions, user: UUID, tier: str, characters: int) -> None:
    at = datetime.now(UTC)
    await actions.record_usage([a_speech(user=user, at=at, characters=characters, tier=tier)])
    await actions.link_ledger()


async def test_who_has_more_since_is_told_of_the_larger_limit_too(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    clock.forward(datetime.now(UTC) - clock.now())
    ada = uuid4()
    await speak(actions, ada, "free", 10_000)
    assert await told(actions, database) == [(100, 10_000)]
    await speak(actions, ada, "pro", 69_999)
    assert len(await told(actions, database)) == 1
    await speak(actions, ada, "pro", 1)
    assert (await told(actions, database))[1:] == [(80, 100_000)]
    await speak(actions, ada, "pro", 20_000)
    assert (await told(actions, database))[2:] == [(100, 100_000)]
    # Back at the smaller limit, there is nothing new to say.
    await speak(actions, ada, "free", 1)
    assert len(await told(actions, database)) == 3


async def test_who_was_refused_and_bought_more_is_told_of_the_larger_limit_too(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    clock.forward(datetime.now(UTC) - clock.now())
    ada = uuid4()
    ends = month_window("", 0, clock.now()).ends_at
    for limit in (10_000, 10_000, 100_000, 100_000, 10_000):
        event = LimitRefused(
            user_id=ada, window=CHARACTERS, limit=limit, used=limit - 7, resets_at=ends
        )
        await actions.tell_limits.refused([Fact(event=event, subject=ada, tier="free")])
    assert await told(actions, database) == [(100, 10_000), (100, 100_000)]
