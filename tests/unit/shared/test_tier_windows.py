"""The windows of a tier are those that chat and voice count in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.voice.storage import admission as of_voice
from shared.limits.tier_windows import tier_windows, vendor_of, vendor_windows
from shared.limits.windows import Window
from shared.tiers import COMPATIBLE, TIERS, Tier

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


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
