"""Say later what an entry should have been."""

from __future__ import annotations

from collections.abc import Sequence

from services.billing.domain.correction import Corrected, Correction, Deltas, Occasion
from services.billing.domain.errors import (
    AdjustmentKeyReused,
    CorrectionNotAllowed,
    UsageRecordNotFound,
)
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from shared.clock import Clock
from shared.events import Event, Fact
from shared.events.usage import UsageAdjusted, UsageVoided
from shared.ids import EventId, UserId, uuid7
from shared.values import dataclass

_ME = "billing"


@dataclass(frozen=True, slots=True)
class CorrectUsage:
    """A row of its own that takes from an entry or adds to it; counters follow, listeners hear.

    Without deltas the entry is voided. Raises UsageRecordNotFound, UsageVoidedAlready,
    UsageNotPriced, AdjustmentNotAcceptable, AdjustmentKeyReused.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(
        self, event_id: EventId, deltas: Deltas | None, *, reason: str, by: UserId
    ) -> Correction:
        made, _is_known = await self.once(event_id, deltas, reason=reason, by=by, key=None)
        return made

    async def once(
        self, event_id: EventId, deltas: Deltas | None, *, reason: str, by: UserId, key: str | None
    ) -> tuple[Correction, bool]:
        """The same under the same key is made once: the first one again, and that it is that."""
        occasion = _by_us(reason, by, self.clock, key)
        async with self.unit_of_work() as work:
            return await _correct(work, event_id, deltas, occasion)


async def void_in(
    work: UnitOfWork, event_id: EventId, *, reason: str, by: UserId, clock: Clock
) -> Correction:
    """Void an entry within somebody's work. Raises UsageRecordNotFound, UsageVoidedAlready."""
    made, _is_known = await _correct(work, event_id, None, _by_us(reason, by, clock))
    return made


@dataclass(frozen=True, slots=True)
class ApplyCorrections:
    """Corrections that others report, each applied once; ours come back here and change nothing.

    Raises UsageRecordNotFound, CorrectionNotAllowed and what CorrectUsage raises.
    """

    unit_of_work: NewUnitOfWork
    clock: Clock

    async def __call__(self, facts: Sequence[Fact[UsageVoided] | Fact[UsageAdjusted]]) -> int:
        """Answers how many of them were new."""
        new = 0
        async with self.unit_of_work() as work:
            # Our own come back here, a great many after a price was applied anew.
            known = await work.corrections.known([fact.id for fact in facts])
            unknown = [fact for fact in facts if fact.id not in known]
            await work.corrections.hold([EventId(fact.event.event_id) for fact in unknown])
            for fact in unknown:
                event = fact.event
                corrected = await work.corrections.corrected(EventId(event.event_id))
                if corrected is None:
                    raise UsageRecordNotFound(event.event_id)
                if corrected.has(fact.id):
                    continue
                if fact.source != corrected.entry.producer:
                    raise CorrectionNotAllowed(event.event_id)
                occasion = Occasion(fact.id, event.reason, None, fact.source, self.clock.now())
                deltas = _deltas(event) if isinstance(event, UsageAdjusted) else None
                new += await work.corrections.add(_correction(corrected, deltas, occasion))
        return new


def _by_us(reason: str, by: UserId, clock: Clock, key: str | None = None) -> Occasion:
    return Occasion(EventId(uuid7()), reason, by, _ME, clock.now(), key)


async def _correct(
    work: UnitOfWork, event_id: EventId, deltas: Deltas | None, occasion: Occasion
) -> tuple[Correction, bool]:
    corrected = await work.corrections.corrected(event_id)
    if corrected is None:
        raise UsageRecordNotFound(event_id)
    known = corrected.by_key(occasion.key)
    if known is not None:
        if not _is_same(known, deltas, occasion.reason):
            raise AdjustmentKeyReused
        return known, True
    correction = _correction(corrected, deltas, occasion)
    await work.corrections.add(correction)
    entry = corrected.entry
    work.publish(
        _told(correction, entry.user_id), subject=entry.user_id, tier=entry.tier, id_=correction.id
    )
    return correction, False


def _is_same(known: Correction, deltas: Deltas | None, reason: str) -> bool:
    if known.reason != reason:
        return False
    return known.kind == "voided" if deltas is None else known.deltas == deltas


def _correction(corrected: Corrected, deltas: Deltas | None, occasion: Occasion) -> Correction:
    if deltas is None:
        return corrected.voided(occasion)
    return corrected.adjusted(deltas, occasion)


def _deltas(event: UsageAdjusted) -> Deltas:
    return Deltas(
        event.input_tokens,
        event.cache_read_tokens,
        event.cache_write_tokens,
        event.output_tokens,
        event.output_reasoning_tokens,
        event.characters,
        event.cost_microusd,
    )


def _told(correction: Correction, user_id: UserId) -> Event:
    if correction.kind == "voided":
        return UsageVoided(user_id=user_id, event_id=correction.event_id, reason=correction.reason)
    deltas = correction.deltas
    return UsageAdjusted(
        user_id=user_id,
        event_id=correction.event_id,
        reason=correction.reason,
        input_tokens=deltas.input_tokens,
        cache_read_tokens=deltas.cache_read_tokens,
        cache_write_tokens=deltas.cache_write_tokens,
        output_tokens=deltas.output_tokens,
        output_reasoning_tokens=deltas.output_reasoning_tokens,
        characters=deltas.characters,
        cost_microusd=deltas.cost_microusd,
    )
