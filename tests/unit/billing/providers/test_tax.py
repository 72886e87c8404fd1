"""Tax by an operator's table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.tax import TaxLine, net_cents
from services.billing.domain.vat_id import EU
from services.billing.providers.tax import NoTax, TaxTable, UnusableTaxFile
from tests.support.billing_documents import some_details

NOW = datetime(2026, 12, 1, tzinfo=UTC)
TABLE: dict[str, Any] = {
    "seller": {"country": "IE", "vat_id": "IE1234567FA"},
    "rates": [
        {"country": "IE", "from": "2012-01-01", "basis_points": 2_300},
        {"country": "DE", "from": "2007-01-01", "basis_points": 1_900, "name": "USt."},
        {"country": "DE", "from": "2020-07-01", "basis_points": 1_600, "name": "USt."},
        {"country": "DE", "from": "2021-01-01", "basis_points": 1_900, "name": "USt."},
        {"country": "NO", "from": "2005-01-01", "basis_points": 2_500},
    ],
    "notes": {"reverse_charge": "Steuerschuldnerschaft des Leistungsempfängers"},
}


@dataclass(frozen=True)
class Line:
    amount_microusd: int


def tax(details: BillingDetails | None, *amounts: int, at: datetime = NOW) -> TaxLine:
    [line] = TaxTable(TABLE).tax_for(details, [Line(amount) for amount in amounts], at)
    return line


def consumer(country: str) -> BillingDetails:
    return some_details(country=country, vat_id=None)


def test_without_a_table_nothing_is_said_about_tax() -> None:
    assert NoTax().tax_for(some_details(), [Line(1)], NOW) == ()


def test_at_home_businesses_and_consumers_pay_the_sellers_rate() -> None:
    for details in (consumer("IE"), some_details(country="IE", vat_id="IE7654321A")):
        assert tax(details, 100_000_000) == TaxLine("VAT", 2_300, 10_000, 2_300)


def test_consumers_in_the_eu_pay_their_own_countrys_rate() -> None:
    assert tax(consumer("DE"), 100_000_000) == TaxLine("USt. DE", 1_900, 10_000, 1_900)


def test_without_a_row_they_pay_the_sellers() -> None:
    assert tax(consumer("FR"), 100_000_000) == TaxLine("VAT", 2_300, 10_000, 2_300)


def test_businesses_with_a_vat_id_abroad_in_the_eu_owe_the_tax_themselves() -> None:
    line = tax(some_details(), 100_000_000)
    assert (line.rate_basis_points, line.net_cents, line.tax_cents) == (0, 10_000, 0)
    assert line.note == "Steuerschuldnerschaft des Leistungsempfängers"


def test_a_vat_id_outside_the_eu_reverses_nothing() -> None:
    line = tax(some_details(country="NO", vat_id="NO123456789MVA"), 100_000_000)
    assert (line.name, line.tax_cents) == ("VAT NO", 2_500)


def test_elsewhere_there_is_no_tax_and_the_document_says_why() -> None:
    line = tax(some_details(country="US", vat_id=None), 100_000_000)
    assert (line.tax_cents, line.net_cents) == (0, 10_000)
    assert line.note is not None
    assert "outside" in line.note


def test_monaco_belongs_to_france() -> None:
    business = some_details(country="MC", vat_id="FR12345678901")
    assert tax(business, 1_000_000).note is not None
    assert tax(consumer("MC"), 1_000_000).rate_basis_points == 2_300


def test_who_told_nothing_pays_the_sellers_rate() -> None:
    assert tax(None, 1_000_000).rate_basis_points == 2_300


@pytest.mark.parametrize(
    ("at", "rate"),
    [
        (datetime(2020, 6, 30, 23, 59, tzinfo=UTC), 1_900),
        (datetime(2020, 7, 1, tzinfo=UTC), 1_600),
        (datetime(2020, 12, 31, 23, 59, tzinfo=UTC), 1_600),
        (datetime(2021, 1, 1, tzinfo=UTC), 1_900),
    ],
)
def test_rates_hold_from_their_day_on(at: datetime, rate: int) -> None:
    assert tax(consumer("DE"), 1_000_000, at=at).rate_basis_points == rate


def test_tax_is_rounded_once_on_the_sum_half_up() -> None:
    # Each line alone would be taxed with 0.115 cents: nothing, thrice. Together they are not.
    assert tax(consumer("IE"), 5_000, 5_000, 5_000) == TaxLine("VAT", 2_300, 2, 0)
    assert tax(consumer("NO"), 20_000).tax_cents == 1  # 0.5 cents
    assert tax(consumer("NO"), -20_000).tax_cents == -1


@given(
    st.lists(st.integers(min_value=-(10**12), max_value=10**12), max_size=30),
    st.sampled_from(["IE", "DE", "FR", "NO", "US", "GB"]),
)
def test_every_net_cent_is_taxed_once_and_credits_mirror_debits(
    amounts: list[int], country: str
) -> None:
    details, table = consumer(country), TaxTable(TABLE)
    lines = [Line(amount) for amount in amounts]
    taxes = table.tax_for(details, lines, NOW)
    assert sum(one.net_cents for one in taxes) == net_cents(lines)
    for one in taxes:
        assert abs(one.tax_cents * 10_000 - one.net_cents * one.rate_basis_points) <= 5_000
    mirrored = table.tax_for(details, [Line(-amount) for amount in amounts], NOW)
    assert [one.tax_cents for one in mirrored] == [-one.tax_cents for one in taxes]


@given(st.sampled_from(sorted(EU - {"IE"})))
def test_reverse_charge_is_never_taxed(country: str) -> None:
    details = BillingDetails(**{**consumer(country).facts(), "vat_id": f"{country}1"})
    assert tax(details, 99_999_999).tax_cents == 0


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in TABLE.items() if key != name}


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (_without("seller"), "BILLING_TAX_FILE: seller: Field required"),
        ({**TABLE, "rates": []}, "rates: List should have at least 1 item"),
        ({**TABLE, "rates": TABLE["rates"][1:]}, "rates: the seller's own country has none"),
        ({**TABLE, "rates": TABLE["rates"] * 2}, "two from the same day on"),
        (
            {**TABLE, "seller": {"country": "IE", "vat_id": "IE1"}},
            "the VAT id is not written like one of its country",
        ),
        (
            {**TABLE, "seller": {"country": "XX", "vat_id": "IE1"}},
            "seller.country: is no code of a country",
        ),
        ({**TABLE, "rate": 5}, "rate: Extra inputs are not permitted"),
        (
            {**TABLE, "rates": [{"country": "IE", "from": "2020-13-01", "basis_points": 1}]},
            "rates.0.from:",
        ),
        (
            {**TABLE, "rates": [{"country": "IE", "from": "2020-01-01", "basis_points": 23.5}]},
            "rates.0.basis_points: Input should be a valid integer",
        ),
    ],
)
def test_a_table_that_cannot_be_right_stops_the_start_with_one_sentence(
    table: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "taxes.json"
    path.write_text(json.dumps(table))
    with pytest.raises(UnusableTaxFile) as failure:
        TaxTable.from_file(path)
    assert sentence in str(failure.value)
    assert str(failure.value).startswith("BILLING_TAX_FILE: ")
    assert "\n" not in str(failure.value)


def test_so_does_one_that_is_not_there_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(UnusableTaxFile, match="BILLING_TAX_FILE can't be read"):
        TaxTable.from_file(tmp_path / "none.json")
    path = tmp_path / "taxes.json"
    path.write_text("{")
    with pytest.raises(UnusableTaxFile, match="BILLING_TAX_FILE: Invalid JSON"):
        TaxTable.from_file(path)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "taxes.json"
    path.write_text(json.dumps(TABLE), encoding="utf-8")
    [line] = TaxTable.from_file(path).tax_for(consumer("DE"), [Line(1_000_000)], NOW)
    assert line.tax_cents == 19
