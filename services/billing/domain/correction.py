"""What is said later about an entry: it was not to be charged at all, or it was another amount."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Literal
from uuid import UUID

from services.billing.domain.errors import (
    AdjustmentNotAcceptable,
    UsageNotPriced,
    UsageVoidedAlready,
)
from services.billing.domain.ledger import Entry
from shared.events.usage import MOST_UNITS
from shared.ids import EventId, UserId
from shared.values import dataclass

Kind = Literal["voided", "adjusted"]


@dataclass(frozen=True, slots=True)
class Deltas:
    """What is added to an entry's numbers; negative for what is taken away."""

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    output_reasoning_tokens: int = 0
    characters: int = 0
    cost_microusd: int = 0

    def __add__(self, other: Deltas) -> Deltas:
        return Deltas(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __neg__(self) -> Deltas:
        return Deltas(*(-getattr(self, f.name) for f in fields(self)))

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))

    @property
    def is_sane(self) -> bool:
        """Whether an entry may have these numbers."""
        return all(0 <= value <= MOST_UNITS for value in self.values[:-1]) and (
            0 <= self.cost_microusd < 2**63
        )


@dataclass(frozen=True, slots=True)
class Correction:
    """A row of the ledger of its own: it refers to an entry and never changes it."""

    id: EventId
    event_id: EventId
    kind: Kind
    requests: int
    unpriced_requests: int
    deltas: Deltas
    reason: str
    made_by: UserId | None
    source: str
    made_at: datetime
    key: str | None = None  # by which somebody asks for it again


@dataclass(frozen=True, slots=True)
class Occasion:
    """Who corrects, when and why; `id` is that of the event that says so."""

    id: EventId
    reason: str
    by: UserId | None
    source: str
    at: datetime
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Corrected:
    """An entry with all that was said about it later."""

    entry: Entry
    corrections: Sequence[Correction]

    @property
    def is_voided(self) -> bool:
        return any(one.kind == "voided" for one in self.corrections)

    def has(self, correction_id: UUID) -> bool:
        return any(one.id == correction_id for one in self.corrections)

    def by_key(self, key: str | None) -> Correction | None:
        """What was said under this key before."""
        if key is None:
            return None
        return next((one for one in self.corrections if one.key == key), None)

    @property
    def standing(self) -> Deltas:
        """The numbers as they are now."""
        counts, rating = self.entry.counts, self.entry.rating
        original = Deltas(
            counts.input_tokens,
            counts.cache_read_tokens,
            counts.cache_write_tokens,
            counts.output_tokens,
            counts.output_reasoning_tokens,
            counts.characters,
            rating.cost if rating else 0,
        )
        return sum((one.deltas for one in self.corrections), start=original)

    def voided(self, occasion: Occasion) -> Correction:
        """Takes away all that is left of it. Raises UsageVoidedAlready."""
        self._must_stand()
        unpriced = self.entry.rating is None
        return self._correction("voided", -self.standing, occasion, requests=-1, unpriced=-unpriced)

    def adjusted(self, deltas: Deltas, occasion: Occasion) -> Correction:
        """Another amount. Raises UsageVoidedAlready, UsageNotPriced, AdjustmentNotAcceptable."""
        self._must_stand()
        if self.entry.rating is None:
            # Its price would later be worked out from the counts that it came with.
            raise UsageNotPriced(self.entry.event_id)
        if not any(deltas.values) or not (self.standing + deltas).is_sane:
            raise AdjustmentNotAcceptable
        return self._correction("adjusted", deltas, occasion)

    def _must_stand(self) -> None:
        if self.is_voided:
            raise UsageVoidedAlready(self.entry.event_id)

    def _correction(
        self,
        kind: Kind,
        deltas: Deltas,
        occasion: Occasion,
        *,
        requests: int = 0,
        unpriced: int = 0,
    ) -> Correction:
        return Correction(
            id=occasion.id,
            event_id=self.entry.event_id,
            kind=kind,
            requests=requests,
            unpriced_requests=unpriced,
            deltas=deltas,
            reason=occasion.reason,
            made_by=occasion.by,
            source=occasion.source,
            made_at=occasion.at,
            key=occasion.key,
        )
