"""Many lines of the ledger at once, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import repeat
from typing import NamedTuple, Self

from services.billing.domain.ledger import Entry
from services.billing.domain.price_book import CACHED, Model, PriceBook, Tariff
from shared.values import dataclass

Texts = Sequence[str]
PerhapsTexts = Sequence[str | None]
Numbers = Sequence[int]
PerhapsNumbers = Sequence[int | None]
_LENGTH_OF_DAY = len("2026-11-28")
_MIDNIGHT = "T00:00:00+00:00"


class Run(NamedTuple):
    """Numbers of a producer's stream that came without a gap between them."""

    producer: str
    epoch: str
    stream: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class UsageColumns:
    """Entries that are to be recorded, as a sequence for each field: what is done with each of
    hundreds is cheap when it is done with all of them at once.

    Ids and times (UTC) are canonical texts; nobody looks into them on their way.
    """

    event_id: Texts
    user_id: Texts
    tier: Texts
    operation: Texts
    provider: Texts
    model: Texts
    source: Texts
    outcome: Texts
    input_tokens: Numbers
    cache_read_tokens: Numbers
    cache_write_tokens: Numbers
    output_tokens: Numbers
    output_reasoning_tokens: Numbers
    characters: Numbers
    service_tier: PerhapsTexts
    request_id: Texts
    provider_request_id: PerhapsTexts
    session_id: PerhapsTexts
    sandbox: Sequence[bool]
    cached: Sequence[bool]
    key_organisation_id: PerhapsTexts
    producer: Texts
    producer_epoch: PerhapsTexts
    stream: PerhapsTexts
    sequence: PerhapsNumbers
    occurred_at: Texts
    units: Numbers
    unit: PerhapsTexts
    cost_microusd: PerhapsNumbers
    price_version: PerhapsTexts

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Self:
        """At least one entry, rated or not."""
        return cls(*zip(*map(_row, entries), strict=True))

    @property
    def models(self) -> set[Model]:
        return set(zip(self.provider, self.model, strict=True))

    def rated(self, book: PriceBook) -> Self:
        """The same with what each costs; None where that is unknown."""
        costs, versions = _ratings(self, book)
        return replace(self, cost_microusd=costs, price_version=versions)

    @property
    def runs(self) -> list[Run]:
        """The numbers of all streams that came, in runs without a gap."""
        whole = self._one_run()
        return [whole] if whole else self._several_runs()

    def _one_run(self) -> Run | None:
        """All of it, as nearly every message is: of one stream, and each number the next one."""
        producer, epoch, stream = self.producer[0], self.producer_epoch[0], self.stream[0]
        first = self.sequence[0]
        if epoch is None or stream is None or first is None:
            return None
        last = first + len(self.sequence) - 1
        is_one = all(map(_is_of_one_value, (self.producer, self.producer_epoch, self.stream)))
        if not is_one or tuple(self.sequence) != tuple(range(first, last + 1)):
            return None
        return Run(producer, epoch, stream, first, last)

    def _several_runs(self) -> list[Run]:
        runs: list[Run] = []
        places = zip(self.producer, self.producer_epoch, self.stream, self.sequence, strict=True)
        of, first, last = ("", "", ""), 0, -1
        for producer, epoch, stream, sequence in places:
            if epoch is None or stream is None or sequence is None:
                continue
            if sequence == last + 1 and of == (producer, epoch, stream):
                last = sequence
                continue
            if last >= 0:
                runs.append(Run(*of, first, last))
            of, first, last = (producer, epoch, stream), sequence, sequence
        if last >= 0:
            runs.append(Run(*of, first, last))
        return runs


def _ratings(usage: UsageColumns, book: PriceBook) -> tuple[list[int | None], list[str | None]]:
    """What each costs, and by which price."""
    calls = zip(usage.provider, usage.model, usage.service_tier, _moments(usage, book), strict=True)
    tariffs = list(map(_Tariffs(book).__getitem__, calls))
    costs: list[int | None] = [
        None if tariff is None else tariff.cost(*used)
        for tariff, used in zip(tariffs, _used(usage), strict=True)
    ]
    versions = [
        None if tariff is None or cost is None else tariff.version
        for tariff, cost in zip(tariffs, costs, strict=True)
    ]
    if any(usage.cached):
        _rate_cached(usage, costs, versions)
    return costs, versions


def _rate_cached(usage: UsageColumns, costs: list[int | None], versions: list[str | None]) -> None:
    counts = zip(_used(usage), usage.output_reasoning_tokens, usage.units, strict=True)
    for place, (cached, (used, *others)) in enumerate(zip(usage.cached, counts, strict=True)):
        if cached and not any((*used, *others)):
            costs[place], versions[place] = CACHED.cost, CACHED.price_version


def _used(usage: UsageColumns) -> Iterable[tuple[int, int, int, int, int]]:
    """What each is charged for."""
    return zip(
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.characters,
        strict=True,
    )


def _moments(usage: UsageColumns, book: PriceBook) -> Iterable[str]:
    """When each call was made, as far as its price depends on it: a price of the operator's holds
    from a moment on, the vendors' change by the day."""
    times = usage.occurred_at
    if book.overrides:
        return times
    day = min(times)[:_LENGTH_OF_DAY]
    if max(times).startswith(day):
        return repeat(day, len(times))
    return [at[:_LENGTH_OF_DAY] for at in times]


class _Tariffs(dict[tuple[str, str, str | None, str], Tariff | None]):
    """What calls cost, looked up once for all that are alike."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book

    def __missing__(self, call: tuple[str, str, str | None, str]) -> Tariff | None:
        provider, model, service_tier, at = call
        moment = datetime.fromisoformat(at + _MIDNIGHT if len(at) == _LENGTH_OF_DAY else at)
        self[call] = tariff = self._book.tariff((provider, model), service_tier, moment)
        return tariff


def _is_of_one_value(values: Sequence[object]) -> bool:
    return values.count(values[0]) == len(values)


def _row(entry: Entry) -> tuple[object, ...]:
    """An entry's values in the order of the columns."""
    counts, place, rating = entry.counts, entry.place, entry.rating
    return (
        str(entry.event_id),
        str(entry.user_id),
        entry.tier,
        entry.operation,
        entry.provider,
        entry.model,
        entry.source,
        entry.outcome,
        counts.input_tokens,
        counts.cache_read_tokens,
        counts.cache_write_tokens,
        counts.output_tokens,
        counts.output_reasoning_tokens,
        counts.characters,
        entry.service_tier,
        entry.request_id,
        entry.provider_request_id,
        None if entry.session_id is None else str(entry.session_id),
        entry.sandbox,
        entry.cached,
        None if entry.key_organisation_id is None else str(entry.key_organisation_id),
        entry.producer,
        str(place.epoch) if place else None,
        place.stream if place else None,
        place.sequence if place else None,
        entry.occurred_at.isoformat(),
        counts.units,
        entry.unit,
        rating.cost if rating else None,
        rating.price_version if rating else None,
    )
