"""Who sells, as it stands on documents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Seller:
    """The operator from a day on. One that moves or is renamed adds another: documents show who
    the seller was when they were issued, so that they stay the same."""

    name: str
    address_lines: tuple[str, ...] = ()
    country: str | None = None
    tax_ids: tuple[tuple[str, str], ...] = ()  # what each is called, and the id
    bank_lines: tuple[str, ...] = ()
    contact_lines: tuple[str, ...] = ()
    since: date = date.min


# Says no more than is known before an operator has set anything up.
NOBODY = Seller("ToolTip Companion")


def seller_on(day: date, sellers: Sequence[Seller]) -> Seller:
    """Whoever began last by that day; before the first one began, the first."""
    begun = [seller for seller in sellers if seller.since <= day]
    if begun:
        return max(begun, key=lambda seller: seller.since)
    return min(sellers, key=lambda seller: seller.since, default=NOBODY)
