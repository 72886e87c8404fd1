"""Money is an integer of micro-dollars: one US dollar is 1,000,000."""

from __future__ import annotations

from decimal import Decimal
from typing import NewType

MicroDollars = NewType("MicroDollars", int)

_MICRO = Decimal(1_000_000)


def rounded(amount: int, parts: int) -> MicroDollars:
    """So many parts of a micro-dollar as whole ones, half to even (most calls cost less than one
    cent)."""
    whole, rest = divmod(amount, parts)
    twice = 2 * rest
    up = twice > parts or (twice == parts and whole & 1)
    return whole + up  # type: ignore[return-value]  # to say so by calling it takes as long again


def dollars_text(amount: int | None) -> str | None:
    """Micro-dollars as a decimal string of dollars with six places; unknown stays unknown."""
    if amount is None:
        return None
    return f"{Decimal(amount) / _MICRO:.6f}"
