"""Usage that a service outside the suite tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from services.billing.domain.outside_usage import METERS, OutsideEvent, Trouble
from services.billing.domain.ports import NewUnitOfWork, UnitOfWork
from services.billing.domain.price_book import ListPrices, PriceBook
from shared.clock import Clock
from shared.events.usage import UsageReported
from shared.ids import UserId
from shared.tiers import DEFAULT_TIER
from shared.values import dataclass

_NOT_YOURS = Trouble("subject_not_yours", "This token tells only its own user's usage.")
_ARCHIVED = Trouble("time_archived", "The ledger of this `time` is archived.", held=True)
_REUSED = Trouble("id_reused", "This id was told before, with other content.")


@dataclass(frozen=True, slots=True)
class Told:
    """One event, where it stood in the report, and how it was written."""

    index: int
    event: OutsideEvent
    body: Mapping[str, Any]


@dataclass(slots=True)
class ReportResult:
    """What became of a report: every event is in exactly one of the four."""

    accepted: int = 0
    duplicates: int = 0
    held: list[tuple[Told, Trouble]] = field(default_factory=list)
    rejected: list[tuple[Told, Trouble]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ReportOutsideUsage:
    """Write a report into the ledger, each event once, and hold what can't be counted as it is.

    All in one transaction: whoever got no answer tells the same again.
    """

    unit_of_work: NewUnitOfWork
    list_prices: ListPrices
    clock: Clock

    async def __call__(
        self, told: Sequence[Told], *, reporter: UserId, for_anybody: bool
    ) -> ReportResult:
        """`for_anybody`: the reporter is a service, and not a person who tells their own usage."""
        result = ReportResult()
        good = self._good(told, reporter, result, for_anybody=for_anybody)
        async with self.unit_of_work() as work:
            too_late = await work.outside.too_late(reporter, [one.event for one in good])
            result.held += [(one, _ARCHIVED) for one in good if one.event.key in too_late]
            good = [one for one in good if one.event.key not in too_late]
            await work.outside.take_turn(reporter, alone=bool(result.held))
            await self._record(work, reporter, good, result)
            await _hold(work, reporter, result)
        result.rejected.sort(key=lambda one: one[0].index)
        result.held.sort(key=lambda one: one[0].index)
        return result

    def _good(
        self, told: Sequence[Told], reporter: UserId, result: ReportResult, *, for_anybody: bool
    ) -> list[Told]:
        now = self.clock.now()
        good = []
        for one in told:
            trouble = one.event.trouble(now)
            if one.event.user_id != reporter and not for_anybody:
                result.rejected.append((one, _NOT_YOURS))
            elif trouble is not None:
                result.held.append((one, trouble))
            else:
                good.append(one)
        return good

    async def _record(
        self, work: UnitOfWork, reporter: UserId, good: Sequence[Told], result: ReportResult
    ) -> None:
        # Of several under one id in a report the first one counts, unless there was one before.
        firsts = {one.event.key: one.event for one in reversed(good)}
        known = await work.outside.note(reporter, list(firsts.values()))
        fresh = [event for key, event in firsts.items() if key not in known]
        for one in good:
            first = firsts[one.event.key]
            if one.event.key not in known and one.event is first:
                continue
            if one.event.is_what_was_told(known.get(one.event.key, first.digest)):
                result.duplicates += 1
            else:
                result.rejected.append((one, _REUSED))
        if not fresh:
            return
        tiers = await work.outside.tiers_of(fresh)
        entries = [
            event.to_entry(tier or DEFAULT_TIER.name)
            for event, tier in zip(fresh, tiers, strict=True)
        ]
        models = {(entry.provider, entry.model) for entry in entries}
        book = PriceBook.of(self.list_prices, await work.prices.of(models))
        await work.ledger.record([entry.rated(book.rate(entry)) for entry in entries])
        await work.outside.keep_metadata(fresh)
        for event, entry in zip(fresh, entries, strict=True):
            work.publish(_told(event), subject=event.user_id, tier=entry.tier, id_=entry.event_id)
        result.accepted += len(fresh)


async def _hold(work: UnitOfWork, reporter: UserId, result: ReportResult) -> None:
    """Keep what is to be held, but for a repeat of what counts: nobody waits for that. One that
    would be held by now (a meter was given up, a clock was set right) is the same event still."""
    if not result.held:
        return
    counted = await work.outside.counted(reporter, [one.event for one, _ in result.held])
    for one, _ in result.held:
        digest = counted.get(one.event.key)
        if digest is not None and one.event.is_what_was_told(digest):
            result.duplicates += 1
        elif digest is not None:
            result.rejected.append((one, _REUSED))
    result.held = [(one, why) for one, why in result.held if one.event.key not in counted]
    await work.outside.hold(reporter, [(one.event, why, one.body) for one, why in result.held])


def _told(event: OutsideEvent) -> UsageReported:
    return UsageReported(
        user_id=event.user_id,
        meter=event.meter,
        model=event.model or event.meter,
        units=int(event.quantity),
        unit=METERS[event.meter],
        occurred_at=event.occurred_at,
        reported_source=event.source,
        reported_id=event.external_id,
        request_id=event.request_id,
        session_id=event.session_id,
        sandbox=event.sandbox,
    )
