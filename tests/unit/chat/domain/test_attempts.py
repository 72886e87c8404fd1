"""How long a turn waits before it asks again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.chat.domain.attempts import AttemptPolicy
from shared.errors import ExpectedFailure
from shared.vendors.failures import NoUsableKey, VendorFailed, VendorOverloaded

POLICY = AttemptPolicy()
TROUBLE = VendorOverloaded("In trouble.", provider="openai")


@pytest.mark.parametrize(("retry", "seconds"), [(0, 0.5), (1, 1), (2, 2), (4, 8), (9, 8)])
def test_the_wait_doubles_up_to_its_cap(retry: int, seconds: float) -> None:
    assert POLICY.wait_before(retry, TROUBLE, 0.0) == timedelta(seconds=seconds)


def test_luck_shortens_it_by_a_quarter_at_most() -> None:
    assert POLICY.wait_before(4, TROUBLE, 1.0) == timedelta(seconds=6)
    assert POLICY.wait_before(4, TROUBLE, 0.5) == timedelta(seconds=7)


def test_what_the_vendor_asks_for_is_kept_to_the_letter() -> None:
    asked = VendorOverloaded("x", provider="openai", retry_after=timedelta(seconds=12))
    assert POLICY.wait_before(0, asked, 1.0) == timedelta(seconds=12)


@pytest.mark.parametrize("failure", [VendorFailed("openai", billed=False), NoUsableKey("None.")])
def test_a_failure_that_names_no_wait_gets_ours(failure: ExpectedFailure) -> None:
    assert POLICY.wait_before(0, failure, 0.0) == timedelta(seconds=0.5)
