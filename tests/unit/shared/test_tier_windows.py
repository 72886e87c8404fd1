"""The windows of a tier are those that chat and voice count in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.voice.storage import admission as of_voice
from shared.limits.admission import STREAMS, streams_at_once
from shared.limits.tier_windows import tier_windows, token_window, vendor_of, vendor_windows
from shared.limits.windows import Window, day_window, minute_window, month_window, spend_window
from shared.tiers import COMPATIBLE, TIERS, Allowance, Tier

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MINUTE, DAY, NOVEMBER = timedelta(minutes=1), timedelta(days=1), timedelta(days=30)


def counted(tier: Tier) -> set[tuple[str, int, datetime, datetime]]:
    windows = of_voice._request_windows(tier, NOW) + of_voice._character_windows(tier, 0, NOW)
    for vendor in (*tier.allowances, COMPATIBLE):
        allowance = tier.allowance(vendor)
        if allowance is not None and allowance.tokens_per_minute is not None:
            windows += vendor_windows(allowance, vendor, NOW)
    return {(w.name, w.limit, w.starts_at, w.ends_at) for w in windows}


@pytest.mark.parametrize("tier", TIERS.values(), ids=TIERS)
def test_they_are_named_and_bounded_as_chat_and_voice_do_it(tier: Tier) -> None:
    shown = {(w.name, w.limit, w.starts_at, w.ends_at) for w in tier_windows(tier, NOW)}
    assert shown == counted(tier)


def test_a_window_over_all_vendors_is_nobodys() -> None:
    assert vendor_of(Window("concurrent_streams", 5, NOW, NOW)) is None
    assert vendor_of(Window("openai.requests_per_day", 5, NOW, NOW)) == "openai"


def test_each_lasts_as_long_as_its_name_says_and_what_is_not_granted_has_none() -> None:
    shown = {(w.name, w.limit, w.ends_at - w.starts_at) for w in tier_windows(TIERS["free"], NOW)}
    assert shown == {
        ("openai.requests_per_minute", 5, MINUTE),
        ("openai.requests_per_day", 50, DAY),
        ("openai.tokens_per_minute", 100_000, MINUTE),
        ("elevenlabs.requests_per_minute", 5, MINUTE),
        ("elevenlabs.characters_per_month", 10_000, NOVEMBER),
        ("compatible.requests_per_minute", 5, MINUTE),
        ("compatible.requests_per_day", 50, DAY),
        ("compatible.tokens_per_minute", 100_000, MINUTE),
    }


@pytest.mark.parametrize(
    ("now", "month", "next_month"),
    [
        (datetime(2031, 1, 1, tzinfo=UTC), (2031, 1), (2031, 2)),
        (datetime(2031, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC), (2031, 1), (2031, 2)),
        (datetime(2031, 2, 28, 23, 59, 59, tzinfo=UTC), (2031, 2), (2031, 3)),
        (datetime(2032, 2, 29, 0, 0, tzinfo=UTC), (2032, 2), (2032, 3)),
        (datetime(2031, 12, 31, 23, 59, tzinfo=UTC), (2031, 12), (2032, 1)),
    ],
)
def test_a_month_is_one_of_the_calendar(
    now: datetime, month: tuple[int, int], next_month: tuple[int, int]
) -> None:
    for window in (month_window("x", 5, now), spend_window("x", 5, now, None)):
        assert window.starts_at == datetime(*month, 1, tzinfo=UTC)
        assert window.ends_at == datetime(*next_month, 1, tzinfo=UTC)


def test_days_and_minutes_begin_and_end_with_the_clocks() -> None:
    end = datetime(2031, 3, 1, tzinfo=UTC)
    for now in (end - DAY, end - timedelta(microseconds=1)):
        window = day_window("x", 5, now)
        assert (window.starts_at, window.ends_at) == (end - DAY, end)
    for now in (end - MINUTE, end - timedelta(microseconds=1)):
        window = minute_window("x", 5, now)
        assert (window.starts_at, window.ends_at) == (end - MINUTE, end)


def test_what_is_unlimited_has_no_window() -> None:
    nothing = Allowance(model_classes=("x",))
    assert list(vendor_windows(nothing, "openai", NOW)) == []


@pytest.mark.parametrize(
    ("tokens", "amount"), [(-1, 0), (0, 0), (1, 1), (99, 99), (100, 100), (101, 100)]
)
def test_a_request_that_is_larger_than_the_whole_minute_has_it_to_itself(
    tokens: int, amount: int
) -> None:
    assert token_window("openai", 100, NOW, tokens).amount == amount
    tokens_only = Allowance(model_classes=("x",), tokens_per_minute=100)
    [window] = vendor_windows(tokens_only, "openai", NOW, tokens=tokens)
    assert window.amount == amount


def test_whoever_runs_too_much_at_once_is_told_to_ask_again_soon() -> None:
    streams = streams_at_once(5, NOW)
    assert (streams.name, streams.limit, streams.starts_at) == (STREAMS, 5, NOW)
    assert NOW < streams.ends_at <= NOW + timedelta(seconds=5)
    assert vendor_of(streams) is None
