"""Whom invoices are made out to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, Self

from services.billing.domain.countries import COUNTRIES
from services.billing.domain.errors import BillingDetailsNotAcceptable
from services.billing.domain.subscription import Holder
from services.billing.domain.vat_id import read_vat_id
from shared.ids import UserId
from shared.values import dataclass

MOST_NAME = 200
MOST_ADDRESS_LINES = 4
MOST_LINE = 100
MOST_POSTAL_CODE = 20
MOST_VAT_ID = 40
MOST_EMAIL = 254
MOST_PURCHASE_ORDER = 100

_EMAIL = re.compile(r"[^@\s<>\"(),:;\\\[\]]+@[^@\s<>\"(),:;\\\[\]]+\.[^@\s<>\"(),:;\\\[\]]{2,}")
# Control characters, halves of surrogate pairs, private and unassigned code points, and separators
# of lines: nothing that a printed address has.
_REFUSED = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
# Format characters turn the direction of what follows, or can't be seen at all. Two of them belong
# to how names are written in Persian and in several scripts of India.
_JOINERS = frozenset("\u200c\u200d")


@dataclass(frozen=True, slots=True)
class BillingDetails:
    """A name and an address as they stand on an invoice; made by `checked`, or read from one."""

    name: str
    address_lines: tuple[str, ...]
    city: str
    postal_code: str
    country: str
    vat_id: str | None = None
    email: str | None = None
    purchase_order: str | None = None

    @classmethod
    def checked(
        cls,
        *,
        name: str,
        address_lines: Sequence[str],
        city: str,
        postal_code: str,
        country: str,
        vat_id: str | None = None,
        email: str | None = None,
        purchase_order: str | None = None,
    ) -> Self:
        """What somebody typed. Raises BillingDetailsNotAcceptable, which names the field."""
        if not 1 <= len(address_lines) <= MOST_ADDRESS_LINES:
            raise BillingDetailsNotAcceptable(
                "address_lines", f"has one to {MOST_ADDRESS_LINES} lines"
            )
        where = _country(country)
        return cls(
            name=_text("name", name, MOST_NAME),
            address_lines=tuple(_text("address_lines", line, MOST_LINE) for line in address_lines),
            city=_text("city", city, MOST_LINE),
            postal_code=_text("postal_code", postal_code, MOST_POSTAL_CODE, empty=True),
            country=where,
            vat_id=_vat_id(vat_id, where),
            email=_email(email),
            purchase_order=_optional("purchase_order", purchase_order, MOST_PURCHASE_ORDER),
        )

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self:
        """As an invoice keeps them."""
        return cls(**{**facts, "address_lines": tuple(facts["address_lines"])})

    def facts(self) -> dict[str, Any]:
        """The copy that an invoice keeps."""
        return {
            "name": self.name,
            "address_lines": list(self.address_lines),
            "city": self.city,
            "postal_code": self.postal_code,
            "country": self.country,
            "vat_id": self.vat_id,
            "email": self.email,
            "purchase_order": self.purchase_order,
        }


class DetailsBook(Protocol):
    """The details of users and of organisations, one of each."""

    async def of(self, holder_id: UserId) -> BillingDetails | None: ...

    async def keep(self, holder: Holder, details: BillingDetails, at: datetime) -> None:
        """In place of those before."""
        ...

    async def forget(self, holder_id: UserId, at: datetime) -> None:
        """Invoices keep what stands on them. A business, by its VAT id or as an organisation, that
        was charged for what is on none yet has a name and an address until it is; nobody but the
        invoice, and its preview for the billing team, shows those any more."""
        ...

    async def drop_left(self, *, before: datetime) -> int:
        """Drop what was kept for a last invoice that was made since, or that did not come until
        then; answers how many."""
        ...


def _text(field: str, text: str, most: int, *, empty: bool = False) -> str:
    composed = unicodedata.normalize("NFC", text).strip()
    if not composed and not empty:
        raise BillingDetailsNotAcceptable(field, "is empty")
    if len(composed) > most:
        raise BillingDetailsNotAcceptable(field, f"has at most {most} characters")
    for character in composed:
        kind = unicodedata.category(character)
        if kind in _REFUSED or (kind == "Cf" and character not in _JOINERS):
            raise BillingDetailsNotAcceptable(field, "holds a character that can't be printed")
    return composed


def _optional(field: str, text: str | None, most: int) -> str | None:
    return _text(field, text, most, empty=True) or None if text is not None else None


def _country(text: str) -> str:
    if text not in COUNTRIES:
        raise BillingDetailsNotAcceptable(
            "country", "is a code of two letters of ISO 3166-1, for example `DE`"
        )
    return text


def _vat_id(text: str | None, country: str) -> str | None:
    written = _optional("vat_id", text, MOST_VAT_ID)
    return None if written is None else read_vat_id(written, country)


def _email(text: str | None) -> str | None:
    address = _optional("email", text, MOST_EMAIL)
    if address is not None and not _EMAIL.fullmatch(address):
        raise BillingDetailsNotAcceptable("email", "is no e-mail address")
    return address
