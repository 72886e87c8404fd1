"""One replica of a burst: `python -m … CACHE_URL SUBJECT LIMIT REQUESTS`.

Says `ready`, waits for a line, sends all requests at once and prints how many were admitted.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from shared.limits.admission import Admissions, day_window, minute_window, open_cache

NOW = datetime(2030, 5, 17, 12, 30, 30, tzinfo=UTC)


async def burst(url: str, subject: str, limit: int, requests: int) -> int:
    """All requests at once; answers how many were admitted."""
    cache = open_cache(url)
    admissions = Admissions(cache)
    windows = [minute_window("minute", limit, NOW), day_window("day", 2 * limit, NOW)]
    await admissions.check()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    results = await asyncio.gather(
        *(
            admissions.admit(
                subject, windows, reservation=f"{id(cache)}-{number}", claimed_tier="free"
            )
            for number in range(requests)
        )
    )
    await cache.aclose()
    return sum(result.refused is None for result in results)


if __name__ == "__main__":
    url, subject, limit, requests = sys.argv[1:]
    print(asyncio.run(burst(url, subject, int(limit), int(requests))))
