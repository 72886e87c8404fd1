"""A ledger entry as its user sees it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from services.billing.domain.ledger import Entry
from shared.money import dollars_text


class RecordBody(BaseModel):
    """One paid call. Its cost is null while its price is unknown. `characters` of speech are
    credits, as the vendor counts them. `key_organisation_id`: the organisation whose key at the
    vendor it ran on, which sees it too; null on a key of your own, or on none."""

    event_id: UUID
    occurred_at: datetime
    received_at: datetime | None
    tier: str
    operation: str
    provider: str
    model: str
    source: str
    outcome: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    output_reasoning_tokens: int
    characters: int
    units: int
    unit: str | None
    service_tier: str | None
    request_id: str
    provider_request_id: str | None
    session_id: UUID | None
    request_metadata: dict[str, Any]
    sandbox: bool
    cached: bool  # answered from what the user had before, so no vendor was asked
    key_organisation_id: UUID | None
    pricing_status: str
    cost_microusd: int | None
    cost_usd: str | None
    price_version: str | None

    @classmethod
    def of(cls, entry: Entry) -> RecordBody:
        counts, rating = entry.counts, entry.rating
        return cls(
            event_id=entry.event_id,
            occurred_at=entry.occurred_at,
            received_at=entry.received_at,
            tier=entry.tier,
            operation=entry.operation,
            provider=entry.provider,
            model=entry.model,
            source=entry.source,
            outcome=entry.outcome,
            input_tokens=counts.input_tokens,
            cache_read_tokens=counts.cache_read_tokens,
            cache_write_tokens=counts.cache_write_tokens,
            output_tokens=counts.output_tokens,
            output_reasoning_tokens=counts.output_reasoning_tokens,
            characters=counts.characters,
            units=counts.units,
            unit=entry.unit,
            service_tier=entry.service_tier,
            request_id=entry.request_id,
            provider_request_id=entry.provider_request_id,
            session_id=entry.session_id,
            request_metadata=_metadata_of(entry),
            sandbox=entry.sandbox,
            cached=entry.cached,
            key_organisation_id=entry.key_organisation_id,
            pricing_status="rated" if rating else "unknown_price",
            cost_microusd=rating.cost if rating else None,
            cost_usd=dollars_text(rating.cost) if rating else None,
            price_version=rating.price_version if rating else None,
        )


def _metadata_of(entry: Entry) -> dict[str, Any]:
    """What is known of the request itself; `reported`: what a service outside the suite said."""
    facts = {
        "request_id": entry.request_id,
        "provider_request_id": entry.provider_request_id,
        "session_id": entry.session_id,
        "service_tier": entry.service_tier,
        "source": entry.source,
        "outcome": entry.outcome,
        "producer": entry.producer,
        "cached": entry.cached,
        "sandbox": entry.sandbox,
        "reported": None if entry.metadata is None else dict(entry.metadata),
    }
    return {name: value for name, value in facts.items() if value is not None}
