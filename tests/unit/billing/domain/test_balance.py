"""What somebody owes by the books."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.billing.domain.balance import Account, balance_of
from services.billing.domain.tax import divided_half_up

_CENTS = st.integers(min_value=0, max_value=10**9)
_MICRO = st.integers(min_value=0, max_value=10**12)


def test_who_paid_ahead_has_a_negative_balance_and_expects_none() -> None:
    balance = balance_of(Account(paid_microusd=15_000_000, uninvoiced_microusd=15_000_000))
    assert (balance.owed_microusd, balance.expected_microusd) == (-15_000_000, 0)


def test_what_was_paid_in_cents_and_charged_in_parts_of_them_is_not_rounded_away() -> None:
    # Charged 7.345678, of which 7.35 is invoiced; the provider's own proration said 7.34.
    account = Account(invoiced_cents=735, carried_microusd=-4_322, paid_microusd=7_340_000)
    balance = balance_of(account)
    assert balance.owed_microusd == 10_000
    assert balance.expected_microusd == 7_345_678 - 7_340_000


@given(_CENTS, _CENTS, _MICRO, _MICRO)
def test_every_cent_counts_once(invoiced: int, credited: int, paid: int, returned: int) -> None:
    balance = balance_of(Account(invoiced, credited, paid, returned))
    assert balance.owed_microusd + paid + credited * 10_000 == returned + invoiced * 10_000


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_a_cent_is_as_near_above_as_below(amount: int) -> None:
    cents = divided_half_up(amount, 10_000)
    assert abs(cents * 10_000 - amount) <= 5_000
    assert divided_half_up(-amount, 10_000) == -cents
