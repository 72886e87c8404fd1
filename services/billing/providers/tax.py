"""Rules of tax: none, or an operator's own table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.countries import COUNTRIES
from services.billing.domain.errors import BillingDetailsNotAcceptable
from services.billing.domain.tax import Taxable, TaxLine, net_cents
from services.billing.domain.vat_id import EU, read_vat_id, vat_area
from shared.settings import SettingsRefused

_SETTING = "BILLING_TAX_FILE"
_REVERSE_CHARGE = (
    "Reverse charge: the recipient owes the VAT (Articles 44 and 196 of Directive 2006/112/EC)."
)
_NOT_TAXED = "Not subject to VAT: the place of supply is outside the seller's VAT area."


class UnusableTaxFile(SettingsRefused):
    """The operator's table of taxes can't be read, or says what can't be."""


class NoTax:
    """Nothing is said about tax; the default."""

    def tax_for(
        self,
        details: BillingDetails | None,  # noqa: ARG002 - the port's
        lines: Sequence[Taxable],  # noqa: ARG002 - the port's
        at: datetime,  # noqa: ARG002 - the port's
    ) -> Sequence[TaxLine]:
        return ()


def _is_country(code: str) -> str:
    if code not in COUNTRIES:
        raise ValueError("is no code of a country (ISO 3166-1, two letters)")
    return code


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    _known = field_validator("country", check_fields=False)(_is_country)


class _Rate(_Written):
    country: str
    since: date = Field(alias="from")
    basis_points: int = Field(ge=0, le=10_000, strict=True)
    name: str = Field("VAT", min_length=1, max_length=40)


class _Seller(_Written):
    country: str
    vat_id: str

    @model_validator(mode="after")
    def _fits(self) -> _Seller:
        try:
            read_vat_id(self.vat_id, self.country)
        except BillingDetailsNotAcceptable as error:
            raise ValueError("the VAT id is not written like one of its country") from error
        return self


_Text = Annotated[str, Field(min_length=1, max_length=500)]


class _Notes(_Written):
    reverse_charge: _Text = _REVERSE_CHARGE
    not_taxed: _Text = _NOT_TAXED


class _Table(_Written):
    seller: _Seller
    rates: list[_Rate] = Field(min_length=1, max_length=5_000)
    notes: _Notes = _Notes()

    @model_validator(mode="after")
    def _adds_up(self) -> _Table:
        known = {(rate.country, rate.since) for rate in self.rates}
        if len(known) < len(self.rates):
            raise ValueError("rates: one country has two from the same day on")
        if self.seller.country not in {rate.country for rate in self.rates}:
            raise ValueError("rates: the seller's own country has none")
        return self


class TaxTable:
    """VAT by the operator's table: where the customer is, and whether they are a business.

    A business with a VAT id of another country of the EU owes the tax itself. Everybody else pays
    the rate of their own country where the table has one. Without one, customers in the EU of a
    seller in the EU pay the seller's rate, and customers elsewhere none. Who never told where they
    are pays the seller's rate.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        """Raises UnusableTaxFile."""
        try:
            self._table = _Table.model_validate(table)
        except ValidationError as error:
            raise UnusableTaxFile(_sentence(error)) from error

    @classmethod
    def from_file(cls, path: Path) -> TaxTable:
        """Raises UnusableTaxFile, in one sentence that names the setting and the place."""
        try:
            table = _Table.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UnusableTaxFile(f"{_SETTING} can't be read: {path}") from error
        except ValidationError as error:
            raise UnusableTaxFile(_sentence(error)) from error
        made = cls.__new__(cls)
        made._table = table
        return made

    def tax_for(
        self, details: BillingDetails | None, lines: Sequence[Taxable], at: datetime
    ) -> Sequence[TaxLine]:
        """One line: everything that is sold is taxed alike. Days are those of UTC."""
        net = net_cents(lines)
        notes = self._table.notes
        if details is not None and self._owes_it_themselves(details):
            return (TaxLine.at_rate("VAT", 0, net, notes.reverse_charge),)
        rate = self._rate(details, at.astimezone(UTC).date())
        if rate is None:
            return (TaxLine.at_rate("VAT", 0, net, notes.not_taxed),)
        abroad = rate.country != self._table.seller.country
        name = f"{rate.name} {rate.country}" if abroad else rate.name
        return (TaxLine.at_rate(name, rate.basis_points, net),)

    def _owes_it_themselves(self, details: BillingDetails) -> bool:
        area = vat_area(details.country)
        return (
            details.vat_id is not None
            and area in EU
            and area != vat_area(self._table.seller.country)
        )

    def _rate(self, details: BillingDetails | None, day: date) -> _Rate | None:
        home = self._table.seller.country
        if details is None:
            return self._rate_in(home, day)
        there = self._rate_in(vat_area(details.country), day)
        if there is not None:
            return there
        # Small sellers tax customers in other countries of the EU like those at home
        # (Article 59c of Directive 2006/112/EC).
        both_in_eu = {vat_area(details.country), vat_area(home)} <= EU
        return self._rate_in(home, day) if both_in_eu else None

    def _rate_in(self, country: str, day: date) -> _Rate | None:
        begun = [r for r in self._table.rates if r.country == country and r.since <= day]
        return max(begun, key=lambda rate: rate.since, default=None)


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{_SETTING}: {place + ': ' if place else ''}{reason}"
