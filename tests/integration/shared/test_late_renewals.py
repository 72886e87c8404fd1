"""A renewal that Valkey carries out late brings back no stream that has ended meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from shared.limits.admission import Admission, Admissions, minute_window, streams_at_once
from shared.valkey import open_cache
from tests.support.engines import ValkeyServer

NOW = datetime(2030, 5, 17, 12, 30, 30, tzinfo=UTC)


@pytest.fixture
async def cache(valkey_server: ValkeyServer) -> AsyncIterator[Redis]:
    with valkey_server.fresh_database() as url:
        cache = open_cache(url)
        yield cache
        await cache.aclose()


@pytest.mark.parametrize("ending", ["refund", "settle"])
async def test_what_ended_while_its_lease_was_renewed_stays_ended(
    cache: Redis, ending: str
) -> None:
    admissions, reservation = Admissions(cache), str(uuid4())
    window, streams = minute_window("requests", 9, NOW), streams_at_once(9, NOW)

    admitted: dict[str, Admission] = {}

    async def admit(subject: str, reservation: str) -> None:
        admitted[subject] = await admissions.admit(
            subject, [window], reservation=reservation, claimed_tier="free", streams=streams
        )

    # A server that was started anew knows no script: each is sent again, in full and so later.
    # Those of the ending are known.
    await cache.script_flush()
    await admit("grace", str(uuid4()))
    await admissions.refund("grace", admitted["grace"])
    await admissions.settle("grace", str(uuid4()), [])
    await admit("ada", reservation)

    renewing = asyncio.create_task(admissions.renew({"ada": [reservation]}))
    for _ in range(3):  # until it has been sent for the first time
        await asyncio.sleep(0)
    if ending == "refund":
        await admissions.refund("ada", admitted["ada"])
    else:
        await admissions.settle("ada", reservation, [])
    await renewing

    assert (await admissions.standing("ada", [window], streams))[-1].used == 0
