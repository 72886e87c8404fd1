"""What usage costs by the vendors' public prices."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TimeOfDateConstraint
from hypothesis import given
from hypothesis import strategies as st

from shared.pricing import price

TODAY = datetime(2026, 11, 24, 12, tzinfo=UTC)
TABLE = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}


@dataclass(frozen=True)
class Tokens:
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0


def cost(provider: str, model: str, tokens: Tokens, **how: Any) -> int | None:
    priced = price(provider, model, tokens, how.pop("at", TODAY), **how)
    return None if priced is None else priced.cost


@pytest.mark.parametrize(
    ("provider", "model", "tokens", "microusd"),
    [
        ("anthropic", "claude-sonnet-5-5", Tokens(1700, 1000, 500, 350), 5250),
        ("openai", "gpt-6-luna", Tokens(1200, 1000, 0, 350), 205),
        ("openai", "gpt-6.1-sol", Tokens(1200, 1000, 0, 350), 4000),
        ("gemini", "gemini-3.8-flash", Tokens(1200, 1000, 0, 350), 1538),  # 1537.5, half to even
        ("gemini", "models/gemini-3.8-flash", Tokens(1200, 1000, 0, 350), 1538),
        ("anthropic", "claude-haiku-5-5", Tokens(150_000, 0, 0, 1000), 77_500),
        ("anthropic", "claude-haiku-5-5", Tokens(100_000, 0, 0, 1000), 10_500),
    ],
)
def test_a_call_costs_what_was_worked_out_by_hand(
    provider: str, model: str, tokens: Tokens, microusd: int
) -> None:
    assert cost(provider, model, tokens) == microusd


@pytest.mark.parametrize(
    ("service_tier", "microusd"),
    [(None, 12_000), ("default", 12_000), ("flex", 6_000), ("priority", 24_000), ("new", 12_000)],
)
def test_the_vendors_tier_of_service_decides(service_tier: str | None, microusd: int) -> None:
    tokens = Tokens(1000, 0, 0, 1000)
    assert cost("openai", "gpt-6.1-sol", tokens, service_tier=service_tier) == microusd


def test_where_a_model_had_to_run_has_its_factor() -> None:
    model, tokens = "claude-sonnet-5-5", Tokens(1700, 1000, 500, 350)
    assert cost("anthropic", model, tokens) == 5_250
    for tier in ("standard/us", "/us"):
        assert cost("anthropic", model, tokens, service_tier=tier) == 5_775
    assert cost("anthropic", model, tokens, service_tier="standard/moon") is None
    assert cost("openai", "gpt-6.1-sol", tokens, service_tier="default/us") is None
    priced = price("anthropic", model, tokens, TODAY, "standard/us")
    assert priced is not None
    assert priced.version == f"genai-prices/{genai_prices.__version__}/us"


def test_anthropics_word_for_the_tier_of_service_is_speed() -> None:
    anthropic = next(p for p in get_snapshot().providers if p.id == "anthropic")
    variants = [
        (model.id, dict(variant.when))
        for model in anthropic.models
        for variant in model.price_variants or ()
    ]
    fast = next(id_ for id_, when in variants if when == {"speed": "fast"})
    tokens = Tokens(1000, 0, 0, 1000)
    plain = cost("anthropic", fast, tokens)
    quick = cost("anthropic", fast, tokens, service_tier="fast")
    assert plain is not None
    assert quick is not None
    assert quick > plain


def test_the_price_of_the_calls_day_holds() -> None:
    tokens = Tokens(1000, 0, 0, 1000)
    assert cost("gemini", "gemini-4-argon", tokens) == 12_000
    later = datetime(2026, 12, 2, tzinfo=UTC)
    assert cost("gemini", "gemini-4-argon", tokens, at=later) == 24_000


def test_the_day_is_utcs_whatever_zone_the_time_is_told_in() -> None:
    tokens = Tokens(1000, 0, 0, 1000)
    still_november = datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    already_december = datetime(2026, 11, 30, 23, tzinfo=timezone(timedelta(hours=-2)))
    assert cost("gemini", "gemini-4-argon", tokens, at=still_november) == 12_000
    assert cost("gemini", "gemini-4-argon", tokens, at=already_december) == 24_000


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-6.2-sol"),
        ("gemini", "gemini-4-carbon"),
        ("elevenlabs", "eleven_flash_v2_5"),
        ("nobody", "gpt-6-luna"),
        ("my-openai-proxy", "gpt-6-luna"),
        ("openai", ""),
        ("openai", "\ud800"),
        ("", ""),
    ],
)
def test_an_unknown_model_costs_an_unknown_amount_and_not_nothing(
    provider: str, model: str
) -> None:
    assert cost(provider, model, Tokens(10, 0, 0, 10)) is None


def test_more_cached_than_there_is_has_no_price() -> None:
    assert cost("openai", "gpt-6-luna", Tokens(10, 11, 0, 1)) is None
    assert cost("anthropic", "claude-sonnet-5-5", Tokens(10, 6, 6, 1)) is None


def test_what_the_model_has_no_price_for_is_unknown() -> None:
    assert cost("openai", "gpt-6-luna", Tokens(10, 0, 0, 1), characters=5) is None


def test_spoken_characters_have_a_price_where_the_table_knows_one() -> None:
    priced = price("openai", "tts-1", Tokens(), TODAY, characters=1_000_000)
    expected = genai_prices.calc_price(
        genai_prices.Usage(input_characters=1_000_000),
        "tts-1",
        provider_id="openai",
        genai_request_timestamp=TODAY,
    )
    assert priced is not None
    assert priced.cost == expected.total_price * 1_000_000 > 0


def test_a_price_names_its_version() -> None:
    priced = price("openai", "gpt-6-luna", Tokens(1, 0, 0, 1), TODAY)
    assert priced is not None
    assert priced.version == f"genai-prices/{genai_prices.__version__}"


MODELS = [
    (ours, model.id)
    for ours, theirs in TABLE.items()
    for provider in get_snapshot().providers
    if provider.id == theirs
    for model in provider.models
]
COUNT = st.one_of(st.integers(0, 2_000), st.integers(0, 10**12))


@given(
    model=st.sampled_from(MODELS),
    uncached=COUNT,
    cache_read=COUNT,
    cache_write=COUNT,
    output=COUNT,
    service_tier=st.sampled_from([None, "default", "flex", "priority", "fast", "batch"]),
    day=st.integers(-400, 400),
)
def test_a_known_cost_is_the_tables_own(
    model: tuple[str, str],
    uncached: int,
    cache_read: int,
    cache_write: int,
    output: int,
    service_tier: str | None,
    day: int,
) -> None:
    """Whatever we resolve and remember, the table's own sum comes out."""
    provider, name = model
    at = TODAY + timedelta(days=day)
    tokens = Tokens(uncached + cache_read + cache_write, cache_read, cache_write, output)
    ours = price(provider, name, tokens, at, service_tier)
    if ours is None:
        return
    word = "speed" if provider == "anthropic" else "service_tier"
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=tokens.input_tokens,
            cache_read_tokens=cache_read,
            cache_write_tokens=cache_write,
            output_tokens=output,
        ),
        name,
        provider_id=TABLE[provider],
        genai_request_timestamp=at,
        price_context={word: service_tier} if service_tier else None,
    )
    assert abs(Decimal(ours.cost) - theirs.total_price * 1_000_000) <= Decimal("0.5")


def test_every_model_that_tiers_grant_for_chat_has_a_price() -> None:
    from shared.model_catalogue import ModelCatalogue
    from shared.tiers import TIERS

    catalogue = ModelCatalogue()
    unpriced = {
        (vendor, model_class)
        for tier in TIERS.values()
        for vendor, allowance in tier.allowances.items()
        for model_class in allowance.model_classes
        if vendor != "elevenlabs"
        and cost(vendor, catalogue.id_of(model_class), Tokens(1000, 0, 0, 1000)) is None
    }
    assert not unpriced


def test_no_vendors_price_changes_within_a_day() -> None:
    """Prices are remembered by the day; a table with hours in it would need another memory."""
    hourly = [
        model.id
        for provider in get_snapshot().providers
        if provider.id in {*TABLE.values(), "elevenlabs"}
        for model in provider.models
        for condition in (model.prices if isinstance(model.prices, list) else ())
        if isinstance(condition.constraint, TimeOfDateConstraint)
    ]
    assert hourly == []


def test_pricing_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("pricing reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert cost("openai", "gpt-6-astra", Tokens(1000, 0, 0, 1000)) is not None


def test_a_process_that_asks_for_no_price_does_not_load_the_table() -> None:
    program = "import sys, shared.pricing; sys.exit('genai_prices' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == 0
