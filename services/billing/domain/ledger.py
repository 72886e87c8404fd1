"""The ledger's noun: one paid call, as it was reported and as it was rated."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

from services.billing.domain.errors import UsageNotAcceptable
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import EventId, UserId
from shared.money import MicroDollars
from shared.values import dataclass

LAST_SEQUENCE = 2**62


@dataclass(frozen=True, slots=True)
class Counts:
    """What was used. `input_tokens` includes the cached ones, `output_tokens` the reasoning."""

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    output_reasoning_tokens: int = 0
    characters: int = 0
    units: int = 0  # of a meter outside the suite; `Entry.unit` says of what


@dataclass(frozen=True, slots=True)
class Rating:
    """A cost, and the price it was worked out with."""

    cost: MicroDollars
    price_version: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its producer's stream an event stands: numbers count up without a gap."""

    producer: str
    epoch: UUID
    stream: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. Its facts never change; a rating, once given, stands.

    `rating` is None while the price is unknown, which is not the same as costing nothing.
    """

    event_id: EventId
    user_id: UserId
    tier: str
    operation: str
    provider: str
    model: str
    source: str
    outcome: str
    counts: Counts
    service_tier: str | None
    request_id: str
    provider_request_id: str | None
    session_id: UUID | None
    sandbox: bool
    producer: str
    occurred_at: datetime
    place: Place | None = None
    rating: Rating | None = None
    received_at: datetime | None = None
    rated_at: datetime | None = None
    unit: str | None = None
    cached: bool = False
    key_organisation_id: UUID | None = None  # whose key it ran on; None: their own, none, not told
    # What a reporter outside the suite says beside the facts; not a part of the ledger.
    metadata: Mapping[str, str | int | float | bool] | None = None

    @classmethod
    def reported(cls, fact: Fact[UsageRecorded]) -> Self:
        """A usage event as a line, not yet rated. Raises UsageNotAcceptable."""
        reason = _refusal(fact)
        if reason is not None:
            raise UsageNotAcceptable(reason)
        usage = fact.event
        return cls(
            event_id=fact.id,
            user_id=UserId(usage.user_id),
            tier=fact.tier,
            operation=usage.operation,
            provider=usage.provider,
            model=usage.model,
            source=usage.source,
            outcome=usage.outcome,
            counts=_counts(usage),
            service_tier=usage.service_tier,
            request_id=usage.request_id,
            provider_request_id=usage.provider_request_id,
            session_id=usage.session_id,
            sandbox=usage.sandbox,
            producer=fact.source,
            occurred_at=fact.time.astimezone(UTC),
            place=_place(fact),
            cached=usage.cached,
            key_organisation_id=usage.key_organisation_id,
        )

    def rated(self, rating: Rating | None) -> Self:
        """The same line with its rating; None leaves it unknown."""
        if rating is None:
            return self
        # By place, in the order of the fields above: `replace` takes four times as long, which
        # is a tenth of an event's way into the ledger.
        return type(self)(
            self.event_id,
            self.user_id,
            self.tier,
            self.operation,
            self.provider,
            self.model,
            self.source,
            self.outcome,
            self.counts,
            self.service_tier,
            self.request_id,
            self.provider_request_id,
            self.session_id,
            self.sandbox,
            self.producer,
            self.occurred_at,
            self.place,
            rating,
            self.received_at,
            self.rated_at,
            self.unit,
            self.cached,
            self.key_organisation_id,
        )


def _counts(usage: UsageRecorded) -> Counts:
    return Counts(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.output_reasoning_tokens,
        characters=usage.characters,
    )


def _place(fact: Fact[UsageRecorded]) -> Place | None:
    if fact.epoch is None or fact.sequence is None:
        return None
    return Place(fact.source, fact.epoch, fact.stream, fact.sequence)


def _refusal(fact: Fact[UsageRecorded]) -> str | None:
    """Why this event can't stand in the ledger; None when it can."""
    # The ledger is partitioned by the time in the id, and the id is what makes an event unique.
    if fact.id.version != 7:
        return "its id is no version 7 UUID"
    if not datetime.min.year < fact.time.year < datetime.max.year:
        return "its time is out of range"
    if fact.sequence is not None and not 0 < fact.sequence < LAST_SEQUENCE:
        return "its sequence number is out of range"
    return None
