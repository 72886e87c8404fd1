"""What producers say happened in an hour, beside what of it stands in the ledger."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.billing.domain.completeness import Stream
from shared.events.usage import UsageSums
from shared.values import dataclass

SILENT_AFTER = timedelta(seconds=60)
"""Four manifests have not come then: the producer is broken, and not merely idle."""


@dataclass(frozen=True, slots=True)
class HourManifest:
    """A producer's sums of one closed hour. `recorded` is None until they were compared."""

    stream: Stream
    hour: datetime
    announced_at: datetime
    announced: UsageSums
    recorded: UsageSums | None = None
    compared_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProducerHours:
    """How many hours of a producer agree with the ledger, and how many do not."""

    producer: str
    matched: int
    mismatched: int
