"""What Prometheus is told about turns, by tier. Labels are looked up once: counting is on the hot
path."""

from __future__ import annotations

from functools import cache, partial

from prometheus_client import Counter, Gauge, Histogram

from services.chat.domain.running_turn import RunningTurns
from services.chat.domain.turn import Hold, Settlement
from shared.limits.pace import Paces
from shared.tiers import TIERS

TURNS = Counter(
    "companion_chat_turns",
    "Turns that were settled, by the vendor that answered and how they ended.",
    ["tier", "provider", "outcome"],
)
ADMISSION_SECONDS = Histogram(
    "companion_chat_admission_seconds",
    "Time of letting a turn in: its place in the limits, and its hold in the database.",
    ["tier"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
)
FIRST_TOKEN_SECONDS = Histogram(
    "companion_chat_first_token_seconds",
    "Time from a turn's admission to the first of its answer, the vendor's share included.",
    ["tier", "provider"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60),
)
WAIT_SECONDS = Histogram(
    "companion_chat_turn_wait_seconds",
    "How long turns waited that could not begin at once, by the pace of their tier.",
    ["tier"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60),
)
TURNED_AWAY = Counter(
    "companion_chat_turns_turned_away",
    "Turns that were refused since too many of their tier waited on this replica.",
    ["tier"],
)
WAITING = Gauge(
    "companion_chat_turns_waiting", "Turns that wait on this replica to begin.", ["tier"]
)
RUNNING = Gauge("companion_chat_turns_running", "Turns that run on this replica.", ["tier"])


def watch_running(turns: RunningTurns) -> None:
    """Show how many run whenever somebody looks; it costs nothing in between."""
    for tier in TIERS:
        RUNNING.labels(tier).set_function(partial(turns.of_tier, tier))


def watch_waiting(paces: Paces) -> None:
    """Show how many wait whenever somebody looks."""
    for tier in TIERS:
        WAITING.labels(tier).set_function(partial(paces.waiting, tier))


def waited(tier: str, seconds: float) -> None:
    """Count a turn that had to wait."""
    WAIT_SECONDS.labels(tier).observe(seconds)


def turned_away(tier: str) -> None:
    """Count a turn that found too many waiting."""
    TURNED_AWAY.labels(tier).inc()


def settled(hold: Hold, settlement: Settlement) -> None:
    """Count a turn that has ended."""
    _turns(hold.tier, settlement.provider, settlement.outcome.value).inc()


def let_in(tier: str, seconds: float) -> None:
    """Count a turn that got in."""
    _admission(tier).observe(seconds)


def answering(hold: Hold, seconds: float) -> None:
    """Count how long the first of an answer took."""
    _first_token(hold.tier, hold.provider).observe(seconds)


# Few tiers, vendors and outcomes exist.
@cache
def _turns(tier: str, provider: str, outcome: str) -> Counter:
    return TURNS.labels(tier, provider, outcome)


@cache
def _admission(tier: str) -> Histogram:
    return ADMISSION_SECONDS.labels(tier)


@cache
def _first_token(tier: str, provider: str) -> Histogram:
    return FIRST_TOKEN_SECONDS.labels(tier, provider)
