"""Usage that services outside the suite tell: what they may tell, and as what it is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

from services.billing.domain.ledger import Counts, Entry
from shared.ids import EventId, UserId, uuid7_of
from shared.values import dataclass

OUTSIDE = "outside"
"""The provider under which its prices are set; no vendor's public list knows it."""

MOST_UNITS_AT_ONCE = 10**6
# Clocks are never quite right. An event from further ahead would count in a month to come.
CLOCK_TOLERANCE = timedelta(minutes=10)
_FIRST_MOMENT = datetime(2020, 1, 1, tzinfo=UTC)

MOST_METADATA_BYTES = 2_048

METERS: Mapping[str, str] = MappingProxyType({"screenshot": "screenshot"})
"""What is counted, and in which unit. An unknown one is held until a release knows it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an event is not counted. `held`: it is kept, for somebody to look at."""

    code: str
    detail: str
    held: bool = False


@dataclass(frozen=True, slots=True)
class OutsideEvent:
    """One event as its reporter wrote it; `reporter` is whose token told it."""

    reporter: UserId
    source: str
    external_id: str
    user_id: UserId
    occurred_at: datetime
    meter: str
    quantity: Decimal
    unit: str | None = None
    model: str | None = None
    request_id: str | None = None
    session_id: UUID | None = None
    sandbox: bool = False
    metadata: Mapping[str, str | int | float | bool] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What makes it unique among what its reporter tells."""
        return self.source, self.external_id

    @property
    def digest(self) -> bytes:
        """The same for the same content, however it was written down."""
        facts: tuple[object, ...] = (
            self.user_id,
            self.occurred_at.astimezone(UTC).isoformat(),
            self.meter,
            format(self.quantity.normalize(), "f"),
            self.unit,
            self.model,
            self.request_id,
            self.session_id,
            self.sandbox,
        )
        if self.metadata is not None:
            facts += (json.dumps(self.metadata, sort_keys=True),)
        return hashlib.sha256(repr([str(fact) for fact in facts]).encode()).digest()

    @property
    def content(self) -> bytes:
        """The same for the same usage, whoever tells it and whatever they say beside it."""
        facts = replace(self, metadata=None).digest.hex()
        return hashlib.sha256(repr([self.source, self.external_id, facts]).encode()).digest()

    def is_what_was_told(self, digest: bytes) -> bool:
        """Whether an event of this digest is the same, or the same before anybody heard what is
        said beside it."""
        return digest in (self.digest, replace(self, metadata=None).digest)

    @property
    def event_id(self) -> EventId:
        """Its identity in the ledger: a version 7 UUID of its time and the digest of its key. Not
        the reporter's own id, even where that is such a UUID: nobody outside chooses which entry of
        the ledger an event stands for."""
        key = repr([str(self.reporter), self.source, self.external_id]).encode()
        return EventId(uuid7_of(int(self.occurred_at.timestamp() * 1000), key))

    def trouble(self, now: datetime) -> Trouble | None:
        """Why it can't be counted as it stands; None when it can."""
        if self.occurred_at < _FIRST_MOMENT:
            return Trouble("time_out_of_range", "`time` is before 2020.", held=True)
        if self.occurred_at > now + CLOCK_TOLERANCE:
            return Trouble("time_ahead", "`time` is more than ten minutes ahead.", held=True)
        if self.meter not in METERS:
            return Trouble("unknown_meter", "No meter of this name is known.", held=True)
        if self.unit is not None and self.unit != METERS[self.meter]:
            return Trouble("unknown_unit", "This meter counts in another unit.", held=True)
        if self.quantity != self.quantity.to_integral_value():
            return Trouble("quantity_not_whole", "`quantity` is a whole number.", held=True)
        if not 1 <= self.quantity <= MOST_UNITS_AT_ONCE:
            words = f"`quantity` is between 1 and {MOST_UNITS_AT_ONCE}."
            return Trouble("quantity_out_of_range", words, held=True)
        return None

    def to_entry(self, tier: str) -> Entry:
        """It as a line of the ledger, not yet rated."""
        return Entry(
            event_id=self.event_id,
            user_id=self.user_id,
            tier=tier,
            operation=self.meter,
            provider=OUTSIDE,
            model=self.model or self.meter,
            source="counted",
            outcome="done",
            counts=Counts(units=int(self.quantity)),
            unit=METERS[self.meter],
            service_tier=None,
            request_id=self.request_id or self.external_id,
            provider_request_id=None,
            session_id=self.session_id,
            sandbox=self.sandbox,
            producer=f"{OUTSIDE}:{self.source}",
            occurred_at=self.occurred_at.astimezone(UTC),
        )


@dataclass(frozen=True, slots=True)
class HeldEvent:
    """One event that is held: whose token told it, why it is not counted, and as what it was told
    (what reporters say beside the facts is for its user alone)."""

    reporter: UserId
    source: str
    external_id: str
    code: str
    meter: str
    occurred_at: datetime
    held_at: datetime
    body: Mapping[str, Any]

    @property
    def place(self) -> tuple[UUID, str, str]:
        """Where it stands among all."""
        return self.reporter, self.source, self.external_id


@dataclass(frozen=True, slots=True)
class HeldCount:
    """How much is held for one reason at one meter."""

    code: str
    meter: str
    events: int
