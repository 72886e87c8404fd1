"""What users see of their limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.clock import SystemClock
from shared.limits.admission import (
    Admissions,
    day_window,
    minute_window,
    month_window,
    spend_window,
    streams_at_once,
)
from shared.valkey import open_cache
from tests.integration.billing.harness import Billing
from tests.support.billing import a_speech, a_usage


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The moment at which billing's clock stands: no window turns while a test counts in it."""
    # Ahead of the machine's clock, by which counters are dropped some time after their window.
    moment = datetime.now(UTC) + timedelta(minutes=2)
    monkeypatch.setattr(SystemClock, "now", lambda _clock: moment)
    return moment


async def test_limits_are_those_that_chat_and_voice_count(
    billing: Billing, ada: UUID, engines: dict[str, str], stopped_at: datetime
) -> None:
    now = stopped_at
    cache = open_cache(engines["cache_url"])
    windows = [
        minute_window("openai.requests_per_minute", 5, now),
        day_window("openai.requests_per_day", 50, now),
        month_window("elevenlabs.characters_per_month", 10_000, now, 1234),
        minute_window("openai.tokens_per_minute", 100_000, now, 700),
    ]
    streams = streams_at_once(5, now)
    admissions = Admissions(cache)
    ended = str(uuid4())
    for reservation in (ended, str(uuid4())):
        await admissions.admit(
            str(ada), windows, reservation=reservation, claimed_tier="free", streams=streams
        )
    # One has ended, the other still runs: what it holds may yet come back.
    await admissions.settle(str(ada), ended, [(windows[3], 650)])
    limits = (await billing.get("limits", ada)).json()["data"]
    await cache.aclose()
    by_name = {limit["name"]: limit for limit in limits}
    assert by_name["openai.requests_per_day"] == {
        "name": "openai.requests_per_day",
        "provider": "openai",
        "limit": 50,
        "used": 1,
        "reserved": 1,
        "remaining": 48,
        "resets_at": windows[1].ends_at.isoformat().replace("+00:00", "Z"),
    }
    assert by_name["elevenlabs.characters_per_month"]["remaining"] == 10_000 - 2 * 1234
    assert by_name["elevenlabs.requests_per_minute"]["used"] == 0
    tokens = by_name["openai.tokens_per_minute"]
    assert (tokens["used"], tokens["reserved"], tokens["remaining"]) == (650, 700, 98_650)
    running = by_name["concurrent_streams"]
    assert (running["provider"], running["used"], running["limit"]) == (None, 1, 5)
    assert set(by_name) == {
        "openai.requests_per_minute",
        "openai.requests_per_day",
        "elevenlabs.requests_per_minute",
        "elevenlabs.characters_per_month",
        "openai.tokens_per_minute",
        "concurrent_streams",
        "monthly_spend",
    }


async def test_the_months_money_comes_from_the_counter_or_else_from_the_ledger(
    billing: Billing, ada: UUID, engines: dict[str, str], stopped_at: datetime
) -> None:
    async def spending() -> dict[str, Any]:
        limits = (await billing.get("limits", ada)).json()["data"]
        return next(limit for limit in limits if limit["name"] == "monthly_spend")

    await billing.record(a_usage(user=ada, at=stopped_at), a_speech(user=ada, at=stopped_at))
    told = await spending()
    assert (told["used"], told["limit"], told["remaining"]) == (205, None, None)

    async def spent() -> int:
        return 300

    cache = open_cache(engines["cache_url"])
    window = spend_window("monthly_spend", 10_000, stopped_at, 45)
    await Admissions(cache).admit(
        str(ada), [window], reservation=str(uuid4()), claimed_tier="free", spent=spent
    )
    await cache.aclose()
    told = await spending()
    assert told["used"] + told["reserved"] == 345


async def test_limits_follow_the_tier_and_not_the_token(sandbox: Billing, ada: UUID) -> None:
    await sandbox.send("PUT", "subscription", ada, json={"tier": "pro"})
    limits = (await sandbox.get("limits", ada)).json()["data"]
    assert {limit["provider"] for limit in limits} == {
        None,
        "openai",
        "gemini",
        "anthropic",
        "elevenlabs",
    }
