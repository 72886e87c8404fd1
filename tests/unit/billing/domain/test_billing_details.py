"""Whom invoices are made out to: what may be written there, and what not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.billing_details import BillingDetails
from services.billing.domain.countries import COUNTRIES
from services.billing.domain.errors import BillingDetailsNotAcceptable
from services.billing.domain.vat_id import EU
from tests.support.billing_documents import some_details


def test_they_are_kept_as_they_are_told_but_for_space_and_composition() -> None:
    details = some_details(name="  Zoe\u0308 & Sons ", city="Bu\u0308ren", purchase_order="")
    assert (details.name, details.city) == ("Zoë & Sons", "Büren")
    assert details.purchase_order is None
    assert details.vat_id == "DE123456789"
    assert BillingDetails.of_facts(details.facts()) == details


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", " \t "),
        ("name", "x" * 201),
        ("name", "two\nlines"),
        ("name", "escape\x1b[31m"),
        ("name", "nothing\x00"),
        ("name", "turned \u202etxt.exe"),
        ("name", "invisible\u2066"),
        ("name", "half \ud800"),
        ("name", "private \ue000"),
        ("city", "c\u2028d"),
        ("city", ""),
        ("postal_code", "1" * 21),
        ("country", "ZZ"),
        ("country", "de"),
        ("country", "UK"),
        ("country", ""),
        ("email", "nobody"),
        ("email", "a@b"),
        ("email", "a@b.com\r\nBcc: c@d.com"),
        ("email", "<a@b.com>"),
        ("purchase_order", "x" * 101),
        ("purchase_order", "a\u0085b"),
        ("vat_id", "DE12345678"),
        ("vat_id", "FR12345678901"),
        ("address_lines", []),
        ("address_lines", ["a"] * 5),
        ("address_lines", ["a", ""]),
        ("address_lines", ["x" * 101]),
    ],
)
def test_what_cannot_stand_on_an_invoice_names_its_field_and_not_its_text(
    field: str, value: Any
) -> None:
    with pytest.raises(BillingDetailsNotAcceptable) as failure:
        some_details(**{field: value})
    assert failure.value.facts == {"field": field}
    texts = [value] if isinstance(value, str) else value
    assert not any(text in str(failure.value) for text in texts if len(text.strip()) > 2)


def test_names_of_other_scripts_are_welcome() -> None:
    for name in ("Ελληνική Εταιρεία", "日本株式会社", "شرکت نمونه\u200cای", "Nguyễn & Đỗ"):
        assert some_details(name=name).name == name


@pytest.mark.parametrize(
    ("country", "written", "kept"),
    [
        ("AT", "ATU12345678", "ATU12345678"),
        ("BE", "BE 0123.456.789", "BE0123456789"),
        ("CY", "CY12345678X", "CY12345678X"),
        ("CZ", "CZ1234567890", "CZ1234567890"),
        ("DE", "de 123-456-789", "DE123456789"),
        ("ES", "ESX1234567X", "ESX1234567X"),
        ("FR", "FR XX 123456789", "FRXX123456789"),
        ("GR", "EL123456789", "EL123456789"),
        ("IE", "IE1234567FA", "IE1234567FA"),
        ("IE", "IE1+23456A", "IE1+23456A"),
        ("LT", "LT123456789012", "LT123456789012"),
        ("MC", "FR12345678901", "FR12345678901"),
        ("NL", "NL123456789B01", "NL123456789B01"),
        ("RO", "RO12", "RO12"),
        ("SE", "SE123456789001", "SE123456789001"),
        ("GB", "GB 123 4567 89", "GB123456789"),
        ("GB", "XI123456789", "XI123456789"),
        ("GB", "GBGD123", "GBGD123"),
        ("CH", "CHE-123.456.789 MWST", "CHE123456789MWST"),
        ("CH", "CHE-123.456.789", "CHE123456789"),
        ("NO", "NO 123 456 789 MVA", "NO123456789MVA"),
        ("US", "12-3456789", "12-3456789"),
        ("AU", "51 824 753 556", "51 824 753 556"),
    ],
)
def test_vat_ids_are_written_like_their_countrys(country: str, written: str, kept: str) -> None:
    assert some_details(country=country, vat_id=written).vat_id == kept


@pytest.mark.parametrize(
    ("country", "written"),
    [
        ("AT", "AT12345678"),
        ("DE", "123456789"),
        ("ES", "ES123456789"),
        ("FR", "FRIO123456789"),
        ("GR", "GR123456789"),
        ("NL", "NL123456789C01"),
        ("SE", "SE123456789002"),
        ("GB", "EU123456789"),
        ("CH", "CH123456789"),
        ("NO", "NO123456789"),
        ("DE", "DE１２３４５６７８９"),
        ("US", "<script>"),
        ("US", "1"),
    ],
)
def test_others_are_refused(country: str, written: str) -> None:
    with pytest.raises(BillingDetailsNotAcceptable) as failure:
        some_details(country=country, vat_id=written)
    assert failure.value.facts == {"field": "vat_id"}


def test_the_list_of_countries_is_whole() -> None:
    assert len(COUNTRIES) == 249  # ISO 3166-1 has so many officially assigned codes
    assert set(COUNTRIES) >= EU
    assert len(EU) == 27


@given(st.text(max_size=60), st.sampled_from(sorted(COUNTRIES)))
def test_any_text_is_kept_or_refused(text: str, country: str) -> None:
    try:
        details = some_details(
            name=text, city=text, vat_id=text, email=text, purchase_order=text, country=country
        )
    except BillingDetailsNotAcceptable:
        return
    assert BillingDetails.checked(**details.facts()) == details
