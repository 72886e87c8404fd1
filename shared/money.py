"""Money is an integer of micro-dollars: one US dollar is 1,000,000."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import NewType

MicroDollars = NewType("MicroDollars", int)

_MICRO = Decimal(1_000_000)


def micro_dollars(dollars: Decimal) -> MicroDollars:
    """Dollars as micro-dollars, half to even (most calls cost less than one cent)."""
    return MicroDollars(int((dollars * _MICRO).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)))


def rounded(amount: int, parts: int) -> MicroDollars:
    """So many parts of a micro-dollar as whole ones, half to even as above."""
    whole, rest = divmod(amount, parts)
    return MicroDollars(whole + (2 * rest > parts or (2 * rest == parts and whole & 1)))


def dollars_text(amount: int | None) -> str | None:
    """Micro-dollars as a decimal string of dollars with six places; unknown stays unknown."""
    if amount is None:
        return None
    return f"{Decimal(amount) / _MICRO:.6f}"
