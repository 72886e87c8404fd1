"""How VAT ids are written, by country. Whether one is in force only its country's office knows."""

from __future__ import annotations

import re
from collections.abc import Mapping

from services.billing.domain.errors import BillingDetailsNotAcceptable

# After the two letters of the country, without spaces, dots and dashes. The European Commission's
# table: https://ec.europa.eu/taxation_customs/vies/#/faq, question 11.
EU_VAT_IDS: Mapping[str, str] = {
    "AT": r"U\d{8}",
    "BE": r"[01]\d{9}",
    "BG": r"\d{9,10}",
    "CY": r"\d{8}[A-Z]",
    "CZ": r"\d{8,10}",
    "DE": r"\d{9}",
    "DK": r"\d{8}",
    "EE": r"\d{9}",
    "ES": r"(?:[A-Z]\d{7}[A-Z0-9]|\d{8}[A-Z])",
    "FI": r"\d{8}",
    "FR": r"[A-HJ-NP-Z0-9]{2}\d{9}",
    "GR": r"\d{9}",
    "HR": r"\d{11}",
    "HU": r"\d{8}",
    "IE": r"\d[A-Z0-9+*]\d{5}[A-Z]{1,2}",
    "IT": r"\d{11}",
    "LT": r"(?:\d{9}|\d{12})",
    "LU": r"\d{8}",
    "LV": r"\d{11}",
    "MT": r"\d{8}",
    "NL": r"[A-Z0-9+*]{9}B\d{2}",
    "PL": r"\d{10}",
    "PT": r"\d{9}",
    "RO": r"\d{2,10}",
    "SE": r"\d{10}01",
    "SI": r"\d{8}",
    "SK": r"\d{10}",
}
EU = frozenset(EU_VAT_IDS)
_OTHERS: Mapping[str, str] = {
    "GB": r"(?:\d{9}|\d{12}|GD[0-4]\d{2}|HA[5-9]\d{2})",
    "CH": r"E\d{9}(?:MWST|TVA|IVA)?",
    "NO": r"\d{9}MVA",
}
_SYNTAX = {
    country: re.compile(form, re.ASCII) for country, form in {**EU_VAT_IDS, **_OTHERS}.items()
}
# Greece writes `EL`, after its own name; Northern Ireland has a prefix of its own, for goods.
_PREFIXES: Mapping[str, tuple[str, ...]] = {"GR": ("EL",), "GB": ("GB", "XI")}
# These two belong to a neighbour's VAT area and have its ids.
_AREAS: Mapping[str, str] = {"MC": "FR", "IM": "GB"}
_ELSEWHERE = re.compile(r"[A-Z0-9][A-Z0-9/ .-]{1,38}[A-Z0-9]", re.ASCII)


def vat_area(country: str) -> str:
    """Whose VAT law and ids apply there."""
    return _AREAS.get(country, country)


def read_vat_id(text: str, country: str) -> str:
    """As offices write it: in capitals, without spaces. It has to be one of its address's country.
    Raises BillingDetailsNotAcceptable."""
    area = vat_area(country)
    syntax = _SYNTAX.get(area)
    if syntax is None:
        if not _ELSEWHERE.fullmatch(text.upper()):
            raise BillingDetailsNotAcceptable("vat_id", "holds letters and digits only")
        return text.upper()
    written = re.sub(r"[ .\-]", "", text.upper())
    for prefix in _PREFIXES.get(area, (area,)):
        if written.startswith(prefix) and syntax.fullmatch(written[len(prefix) :]):
            return written
    raise BillingDetailsNotAcceptable(
        "vat_id", f"is not written like a VAT id of this country, which begins with {prefix}"
    )
