"""What `GET /billing/limits` tells, by the counters in the real Valkey and the real ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from services.billing.actions import Actions
from services.billing.actions.show_limits import ShowLimits
from services.billing.actions.show_subscription import ShowSubscription
from services.billing.domain.limits import LimitStanding
from services.billing.domain.ports import NewUnitOfWork
from services.billing.storage.limit_counters import ValkeyLimitCounters
from shared.ids import UserId
from shared.limits.windows import month_window
from shared.tiers import TIERS
from shared.valkey import open_cache
from tests.support.billing import NOON, StoppedClock, a_speech, a_usage

ADA = UserId(uuid4())
CHARACTERS = "elevenlabs.characters_per_month"


@pytest_asyncio.fixture
async def counters(valkey_url: str) -> AsyncIterator[ValkeyLimitCounters]:
    async with open_cache(valkey_url) as cache:
        yield ValkeyLimitCounters(cache)


@pytest.fixture
def show(counters: ValkeyLimitCounters, work: NewUnitOfWork) -> ShowLimits:
    return ShowLimits(ShowSubscription(work), counters, work, StoppedClock())


async def characters(show: ShowLimits) -> LimitStanding:
    [found] = [one for one in await show(ADA, claimed=TIERS["pro"]) if one.name == CHARACTERS]
    return found


async def test_without_a_counter_the_months_characters_are_those_of_the_ledger(
    actions: Actions, show: ShowLimits, counters: ValkeyLimitCounters
) -> None:
    assert (await characters(show)).used == 0
    spoken = a_speech(user=ADA, characters=9_003, tier="enterprise", sequence=1, at=NOON)
    await actions.record_usage([spoken, a_usage(user=ADA, sequence=2, at=NOON)])
    await actions.link_ledger()
    told = await characters(show)
    assert (told.provider, told.limit, told.used) == ("elevenlabs", 100_000, 9_003)
    assert told.remaining == 90_997
    # A counter tells what comes to be used, before the ledger has heard of it.
    window = month_window(CHARACTERS, 100_000, NOON)
    await counters._cache.set(window.key(str(ADA)), 9_500)
    assert (await characters(show)).used == 9_500
