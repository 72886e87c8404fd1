"""One replica of a burst: `python -m … CACHE_URL SUBJECT KIND LIMIT REQUESTS`.

Says `ready`, waits for a line, sends all requests at once and prints how many were admitted.
KIND is the window that is the narrow one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime

from shared.limits.admission import (
    Admissions,
    Window,
    day_window,
    minute_window,
    spend_window,
    streams_at_once,
)
from shared.valkey import open_cache

NOW = datetime(2030, 5, 17, 12, 30, 30, tzinfo=UTC)
KINDS = ("minute", "day", "tokens", "streams", "money")
TOKENS = 7
COST = 11
SPENT = 40


def burst_windows(kind: str, limit: int) -> list[Window]:
    """Every window of a request; the narrow one has room for `limit` of them."""
    room = {name: limit if name == kind else 1_000_000 for name in KINDS}
    return [
        minute_window("minute", room["minute"], NOW),
        day_window("day", room["day"], NOW),
        # A remainder into which no whole request fits.
        minute_window("tokens", room["tokens"] * TOKENS + TOKENS - 1, NOW, TOKENS),
        spend_window("money", SPENT + room["money"] * COST + COST - 1, NOW, COST),
        streams_at_once(room["streams"], NOW),
    ]


async def spent() -> int:
    """What the database knows of this month."""
    return SPENT


async def burst(url: str, subject: str, kind: str, limit: int, requests: int) -> int:
    """All requests at once; answers how many were admitted."""
    cache = open_cache(url)
    admissions = Admissions(cache)
    *windows, streams = burst_windows(kind, limit)
    await admissions.check()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    results = await asyncio.gather(
        *(
            admissions.admit(
                subject,
                windows,
                reservation=f"{os.getpid()}-{number}",
                claimed_tier="free",
                streams=streams,
                spent=spent,
            )
            for number in range(requests)
        )
    )
    await cache.aclose()
    return sum(result.refused is None for result in results)


if __name__ == "__main__":
    url, subject, kind, limit, requests = sys.argv[1:]
    print(asyncio.run(burst(url, subject, kind, int(limit), int(requests))))
