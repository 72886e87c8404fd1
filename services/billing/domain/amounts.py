"""Amounts and numbers as people read them on an invoice."""

from __future__ import annotations

_MICRO = 1_000_000
_MINUS = "\u2212"


def dollars_read(microusd: int) -> str:
    """Dollars with two decimals at least and as many as the amount has: `0.000205`, `1,234.50`."""
    whole, rest = divmod(abs(microusd), _MICRO)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{_MINUS if microusd < 0 else ''}{whole:,}.{decimals}"


def cents_read(cents: int) -> str:
    """Whole cents: `1,234.50`."""
    whole, rest = divmod(abs(cents), 100)
    return f"{_MINUS if cents < 0 else ''}{whole:,}.{rest:02d}"


def count_read(count: int) -> str:
    """Thousands are parted by commas."""
    return f"{_MINUS if count < 0 else ''}{abs(count):,}"


def percent_read(basis_points: int) -> str:
    """A rate: `19 %`, `8.1 %`."""
    whole, rest = divmod(basis_points, 100)
    decimals = f"{rest:02d}".rstrip("0")
    return f"{whole}.{decimals} %" if decimals else f"{whole} %"
