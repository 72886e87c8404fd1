"""What Prometheus is told about speeches, by tier."""

from __future__ import annotations

from functools import cache, partial

from prometheus_client import Counter, Gauge

from services.voice.domain.running_speech import RunningSpeeches
from services.voice.domain.speech import Hold, Settlement
from shared.tiers import TIERS

SPEECHES = Counter(
    "companion_voice_speeches",
    "Speeches that were settled, by how they ended.",
    ["tier", "provider", "outcome"],
)
CHARACTERS = Counter(
    "companion_voice_characters", "Credits that vendors charge for speech.", ["tier"]
)
RUNNING = Gauge("companion_voice_speeches_running", "Speeches that run on this replica.", ["tier"])


def watch_running(speeches: RunningSpeeches) -> None:
    """Show how many run whenever somebody looks; it costs nothing in between."""
    for tier in TIERS:
        RUNNING.labels(tier).set_function(partial(speeches.of_tier, tier))


def settled(hold: Hold, settlement: Settlement) -> None:
    """Count a speech that has ended."""
    speeches, characters = _of(hold.tier, hold.provider, settlement.outcome.value)
    speeches.inc()
    if settlement.used is not None:
        characters.inc(settlement.used.characters)


# Few tiers, vendors and outcomes exist.
@cache
def _of(tier: str, provider: str, outcome: str) -> tuple[Counter, Counter]:
    return SPEECHES.labels(tier, provider, outcome), CHARACTERS.labels(tier)
