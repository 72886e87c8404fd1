"""Tax on an invoice, as a port: which rates apply is the operator's affair and his adviser's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol, Self

from services.billing.domain.billing_details import BillingDetails
from shared.values import dataclass

MICRODOLLARS_A_CENT = 10_000
_WHOLE = 10_000  # basis points


class Taxable(Protocol):
    """Whatever has an amount: the lines of an invoice or of a credit note."""

    @property
    def amount_microusd(self) -> int: ...


@dataclass(frozen=True, slots=True)
class TaxLine:
    """Tax at one rate, on the sum of what is taxed at it. Credits make both negative."""

    name: str
    rate_basis_points: int
    net_cents: int
    tax_cents: int
    # What the law wants to be said, for example why there is no tax.
    note: str | None = None

    @classmethod
    def at_rate(
        cls, name: str, rate_basis_points: int, net_cents: int, note: str | None = None
    ) -> Self:
        """Rounded once, on the sum: the VAT amount of a category is its taxable amount times the
        rate, rounded to two decimals (EN 16931-1, rule BR-CO-17)."""
        tax = divided_half_up(net_cents * rate_basis_points, _WHOLE)
        return cls(name, rate_basis_points, net_cents, tax, note)

    def facts(self) -> dict[str, Any]:
        """As it is kept with an invoice."""
        return {
            "name": self.name,
            "rate_basis_points": self.rate_basis_points,
            "net_cents": self.net_cents,
            "tax_cents": self.tax_cents,
            "note": self.note,
        }


class TaxRules(Protocol):
    """Which taxes are due on an invoice."""

    def tax_for(
        self, details: BillingDetails | None, lines: Sequence[Taxable], at: datetime
    ) -> Sequence[TaxLine]:
        """By whom it is made out to (None: nobody told us yet) and when; every net cent of the
        lines is in one of the answer's lines, or in none where nothing is said about tax."""
        ...


@dataclass(frozen=True, slots=True)
class Gross:
    """What is to be paid for lines: as the invoice will have it."""

    net_cents: int
    tax_cents: int

    @property
    def total_cents(self) -> int:
        return self.net_cents + self.tax_cents


def gross_of(
    rules: TaxRules, details: BillingDetails | None, lines: Sequence[Taxable], at: datetime
) -> Gross:
    """The lines with their taxes."""
    taxes = rules.tax_for(details, lines, at)
    return Gross(net_cents(lines), sum(line.tax_cents for line in taxes))


def net_cents(lines: Iterable[Taxable]) -> int:
    """The sum of an invoice's lines in whole cents, half up."""
    return divided_half_up(sum(line.amount_microusd for line in lines), MICRODOLLARS_A_CENT)


def divided_half_up(amount: int, by: int) -> int:
    """Rounded to the nearest whole, halves away from zero, so that a credit note mirrors its
    invoice to the cent."""
    whole = (2 * abs(amount) + by) // (2 * by)
    return whole if amount >= 0 else -whole
