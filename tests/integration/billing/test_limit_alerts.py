"""Alerts at 80 and 100 percent, of who gets another tier within the window."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from services.billing.actions import Actions
from services.billing.domain.ports import NewUnitOfWork
from services.billing.domain.price_book import UnitPrices
from shared.db.database import Database
from shared.events import Fact
from shared.events.limit import LimitRefused
from shared.ids import UserId
from shared.limits.windows import month_window
from tests.support.billing import StoppedClock, a_speech, a_usage

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


async def test_what_waited_long_for_its_link_is_told_once_it_has_it(
    actions: Actions, database: Database, clock: StoppedClock
) -> None:
    ada = UserId(uuid4())
    await actions.choose_alerts(ada, [1])
    await speak(actions, uuid4(), "free", 1)
    now = datetime.now(UTC)
    await actions.record_usage(
        [a_usage(user=ada, at=now), a_speech(user=ada, at=now, characters=10_000, tier="free")]
    )
    # A quarter of an hour, and a moment, before anybody looks.
    clock.forward(datetime.now(UTC) + timedelta(minutes=15) - clock.now())
    assert (await told(actions, database), await actions.tell_spending()) == ([], 0)
    await actions.link_ledger()
    assert await told(actions, database) == [(100, 10_000)]
    assert [await actions.tell_spending() for _ in range(2)] == [1, 0]


async def test_it_is_looked_back_as_far_as_what_was_linked_had_waited(
    actions: Actions, work: NewUnitOfWork, database: Database
) -> None:
    async def linked_from(since: datetime) -> datetime | None:
        async with work() as looking:
            return await looking.chain.linked_from(since)

    before = datetime.now(UTC)
    assert await linked_from(before) is None
    speech = a_speech(at=before)
    for usage in (speech, a_usage(at=before)):
        await actions.record_usage([usage])
    between = datetime.now(UTC)
    await actions.link_ledger()
    first = await database.fetchrow("select min(received_at) as at from ledger_entry")
    assert first is not None
    assert await linked_from(between) == await linked_from(before) == first["at"] < between
    # A price that comes later is no use of today's.
    linked = datetime.now(UTC)
    await actions.set_price(
        ("elevenlabs", "eleven_flash_v2_5"),
        UnitPrices(characters=1),
        effective_from=before - timedelta(days=1),
        by=UserId(uuid4()),
    )
    assert (await actions.rate_unpriced_usage(), await actions.link_ledger()) == (1, 1)
    assert await linked_from(linked) is None
