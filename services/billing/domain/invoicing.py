"""How an invoice comes about: what a run covers, and the lines that are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid5

from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.charge import Charge, ChargeKind
from services.billing.domain.closing import ClosedPeriod, Month
from services.billing.domain.giving_back import (
    GIVEN_BACK,
    Family,
    FamilyBooks,
    FamilyId,
    family_of_period,
)
from services.billing.domain.invoice import (
    Invoice,
    InvoiceId,
    InvoiceLine,
    LineId,
    LineKind,
    Source,
    Status,
)
from services.billing.domain.subscription import Holder
from services.billing.domain.tax import TaxRules, divided_half_up
from shared.ids import UserId
from shared.values import dataclass

# Before anything that could be covered.
NEVER = datetime(1, 1, 1, tzinfo=UTC)
# After anything that has come by now, whatever the database's clock says of when.
UNTIL_NOW = datetime(9999, 12, 31, tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)
_WHOLE = 10_000  # basis points
_ROUNDING = UUID("0198c0de-0000-7000-8000-000000000006")
_TOKENS = ("input_tokens", "output_tokens")

_KINDS = {
    ChargeKind.PERIOD_FEE: LineKind.FEE,
    ChargeKind.PRORATION_DEBIT: LineKind.PRORATION,
    ChargeKind.PRORATION_CREDIT: LineKind.PRORATION,
    ChargeKind.WRITE_OFF: LineKind.WRITE_OFF,
}


def month_after(month: Month) -> Month:
    """The next one."""
    return Month((month.first_day + timedelta(days=32)).replace(day=1))


def month_before(month: Month) -> Month:
    """The last one."""
    return Month((month.first_day - timedelta(days=1)).replace(day=1))


@dataclass(frozen=True, slots=True)
class Scope:
    """What the invoices of a month cover: what was used up to its end and received up to
    `received_until`, without what earlier runs covered: what was used before `previous_ends` and
    received up to `received_after`.

    A month is closed while nothing can enter the ledger, so the same scope always holds the same.
    `by_itself`: a month before is not invoiced yet, and what waits for that invoice is left to it.
    """

    month: Month
    previous_ends: datetime
    received_after: datetime
    received_until: datetime
    by_itself: bool = False

    @classmethod
    def following(cls, before: Scope | None, month: Month, until: datetime) -> Self:
        """After an earlier one, or the first of all."""
        if before is None:
            return cls(month, NEVER, NEVER, until)
        # Months may have been closed in another order than theirs.
        until = max(until, before.received_until)
        return cls(month, before.month.period.ends, before.received_until, until)

    @classmethod
    def of(cls, before: Scope | None, closed: ClosedPeriod) -> Self:
        return cls.following(before, closed.month, closed.closed_at)


@dataclass(frozen=True, slots=True)
class Run:
    """How far the invoices of a month have come. `holders` get one; `left` still wait for it."""

    scope: Scope
    begun_at: datetime
    begun_by: UserId | None
    holders: int
    invoices: int = 0
    finished_at: datetime | None = None

    @property
    def month(self) -> Month:
        return self.scope.month

    @property
    def left(self) -> int:
        return self.holders - self.invoices


@dataclass(frozen=True, slots=True)
class Due:
    """Somebody who gets an invoice, and the late entries that it has to cover."""

    holder: Holder
    late: Sequence[UUID] = ()


@dataclass(frozen=True, slots=True)
class CoveredUsage:
    """Entries or corrections of one holder that make one line. `cost` is None where none of their
    prices is known; `family`: of corrections, that of the line which they correct."""

    line_id: LineId
    holder: UserId
    kind: LineKind
    tier: str
    provider: str
    model: str
    operation: str
    month: date
    unit: str | None
    basis_points: int
    priced_later: bool
    requests: int
    counts: Mapping[str, int]
    cost: int | None
    source: Source
    family: FamilyId | None = None

    @property
    def amount_microusd(self) -> int:
        """The operator's fee; an unknown price comes to nothing until it is known."""
        return divided_half_up((self.cost or 0) * self.basis_points, _WHOLE)

    @property
    def line(self) -> InvoiceLine:
        quantity, unit = self._quantity
        return InvoiceLine(
            id=self.line_id,
            position=0,
            kind=self.kind,
            facts=self._facts,
            quantity=quantity,
            unit=unit,
            vendor_cost_microusd=self.cost,
            amount_microusd=self.amount_microusd,
            source=self.source,
            family=self.family,
        )

    @property
    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "month": f"{self.month:%Y-%m}",
            "tier": self.tier,
            "provider": self.provider,
            "model": self.model,
            "operation": self.operation,
            "requests": self.requests,
            "fee_basis_points": self.basis_points,
            **{name: count for name, count in self.counts.items() if count},
        }
        if self.unit is not None:
            facts["unit"] = self.unit
        if self.priced_later:
            # What was used stands on an earlier invoice already.
            facts["priced_later"] = True
        return facts

    @property
    def _quantity(self) -> tuple[int, str]:
        if self.unit is not None:
            return self.counts.get("units", 0), self.unit
        tokens = sum(self.counts.get(name, 0) for name in _TOKENS)
        characters = self.counts.get("characters", 0)
        return (characters, "characters") if characters and not tokens else (tokens, "tokens")


@dataclass(frozen=True, slots=True)
class CoveredCharge:
    """A charge, which is one line."""

    charge: Charge
    digest: str

    @property
    def line(self) -> InvoiceLine:
        charge = self.charge
        return InvoiceLine(
            id=LineId(charge.id),
            position=0,
            kind=_KINDS[charge.kind],
            facts={
                "charge": charge.kind.value,
                "tier": charge.tier_name,
                "seats": charge.seats,
                "unit_price_microusd": charge.unit_price_microusd,
                "price_version": charge.price_version,
                "begins": charge.begins.isoformat(),
                "ends": charge.ends.isoformat(),
            },
            quantity=charge.seats,
            unit="seats",
            vendor_cost_microusd=None,
            amount_microusd=charge.amount_microusd,
            source=Source(1, self.digest),
            family=family_of_period(charge.holder, charge.ends),
        )


@dataclass(frozen=True, slots=True)
class Carried:
    """What earlier documents left over of whole cents."""

    holder: UserId
    amount_microusd: int
    source: Source


@dataclass(frozen=True, slots=True)
class Covered:
    """All that some invoices are made of. `families`: what stands on invoices and credit notes
    already of those that are added to."""

    charges: Sequence[CoveredCharge]
    usages: Sequence[CoveredUsage]
    carried: Sequence[Carried]
    families: Mapping[FamilyId, Family] = field(default_factory=dict)

    def lines_of(self, month: Month) -> Mapping[UserId, Sequence[InvoiceLine]]:
        """The lines of each holder in their order: fees, usage, what came late, the rest. What
        credit notes gave back of them already is given back no more."""
        found: dict[UserId, list[InvoiceLine]] = {}
        books = FamilyBooks.of(self.families)
        charged = [one.line for one in self.charges]
        back = books.charge([(line.family_id, line.amount_microusd) for line in charged])
        for one, line, given in zip(self.charges, charged, back, strict=True):
            found.setdefault(one.charge.holder, []).append(_lessened(line, given))
        # What is corrected comes before its corrections, which may stand on the same invoice.
        for usage in sorted(self.usages, key=_what_is_corrected_first):
            line, given = usage.line, 0
            if usage.kind is not LineKind.CORRECTION:
                books.add(line.family_id, line.amount_microusd)
            elif usage.family is not None:
                given = books.correct(usage.family, line.amount_microusd)
            found.setdefault(usage.holder, []).append(_lessened(line, given))
        for rest in self.carried:
            found.setdefault(rest.holder, []).append(_rounding(rest, month))
        return {holder: _in_order(lines) for holder, lines in found.items()}


def _what_is_corrected_first(usage: CoveredUsage) -> tuple[bool, str]:
    return usage.kind is LineKind.CORRECTION, str(usage.line_id)


def _lessened(line: InvoiceLine, given: int) -> InvoiceLine:
    if not given:
        return line
    facts = {**line.facts, GIVEN_BACK: given}
    return replace(line, facts=facts, amount_microusd=line.amount_microusd + given)


def rounding_line_id(holder: UserId, month: Month) -> LineId:
    """The same whenever it is asked for, like the ids of all lines."""
    return LineId(uuid5(_ROUNDING, f"{holder}/{month.name}"))


def _rounding(rest: Carried, month: Month) -> InvoiceLine:
    return InvoiceLine(
        id=rounding_line_id(rest.holder, month),
        position=0,
        kind=LineKind.ROUNDING,
        facts={},
        quantity=rest.source.count,
        unit="documents",
        vendor_cost_microusd=None,
        amount_microusd=rest.amount_microusd,
        source=rest.source,
    )


def _in_order(lines: Sequence[InvoiceLine]) -> Sequence[InvoiceLine]:
    ordered = sorted(lines, key=_order)
    return tuple(replace(line, position=position) for position, line in enumerate(ordered, 1))


_ORDER = {kind: place for place, kind in enumerate(LineKind)}


def _order(line: InvoiceLine) -> tuple[Any, ...]:
    names = ("month", "begins", "tier", "provider", "model", "operation")
    return (_ORDER[line.kind], *(str(line.facts.get(name, "")) for name in names), str(line.id))


@dataclass(frozen=True, slots=True)
class Terms:
    """How the operator makes out invoices. `aged_after`: how long after it was used what is told
    waits for two people; None: it never does."""

    prefix: str
    due_after: timedelta
    tax_rules: TaxRules
    aged_after: timedelta | None = None

    @property
    def invoice_series(self) -> str:
        return self.prefix

    @property
    def credit_series(self) -> str:
        return f"{self.prefix}-CN"

    def draft(
        self,
        id_: InvoiceId,
        holder: Holder,
        month: Month,
        lines: Sequence[InvoiceLine],
        details: BillingDetails | None,
    ) -> Invoice:
        """Worked out, not issued. Its tax is what held at the month's end, as payments were told
        it: when it is made, another rate may be in effect."""
        supplied_at = month.period.ends - _INSTANT
        return Invoice(
            id=id_,
            number=None,
            holder=holder.id,
            is_organisation=holder.is_organisation,
            month=month,
            status=Status.DRAFT,
            lines=lines,
            tax_lines=tuple(self.tax_rules.tax_for(details, lines, supplied_at)),
            billed_to=details,
            issued_at=None,
            due_at=None,
        )

    def issued(self, draft: Invoice, number: int, at: datetime) -> Invoice:
        """Final, with its number."""
        return replace(
            draft,
            number=numbered(self.invoice_series, at.year, number),
            status=Status.FINAL,
            issued_at=at,
            due_at=at + self.due_after,
        )


def numbered(series: str, year: int, number: int) -> str:
    """`TT-2026-000001`."""
    return f"{series}-{year}-{number:06}"
