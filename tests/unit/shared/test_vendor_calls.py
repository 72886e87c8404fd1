"""What a call to a vendor counts as: a vendor's failure is not ours, and ours is not theirs."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from prometheus_client import REGISTRY

from shared.clients.vendor_calls import CountedCall, VendorConnectionLost
from shared.errors import DependencyUnavailable
from shared.vendors.failures import NoUsableKey, VendorFailed


def counted(outcome: str) -> float:
    labels = {"service": "chat", "provider": "openai", "outcome": outcome}
    return REGISTRY.get_sample_value("companion_vendor_calls_total", labels) or 0.0


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "answered"),
        (101, "answered"),
        (400, "refused"),
        (429, "rate_limited"),
        (503, "failed"),
    ],
)
def test_a_vendors_status_says_what_became_of_it(status: int, outcome: str) -> None:
    before = counted(outcome)
    with CountedCall("chat", "openai") as call:
        call.has_head(status)
    assert counted(outcome) == before + 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (VendorConnectionLost("reset", sent=True), "lost"),
        (NoUsableKey("none", reason="key_not_found"), "key_refused"),
        (DependencyUnavailable("keyvault"), "withheld"),
        (asyncio.CancelledError(), "left"),
    ],
)
def test_without_a_head_it_is_told_by_the_failure(error: BaseException, outcome: str) -> None:
    before = counted(outcome)
    with suppress(type(error)), CountedCall("chat", "openai"):
        raise error
    assert counted(outcome) == before + 1


def test_an_answer_that_breaks_off_is_the_vendors_failure() -> None:
    before = counted("cut")
    with suppress(VendorFailed), CountedCall("chat", "openai") as call:
        call.has_head(200)
        raise VendorFailed("openai") from VendorConnectionLost("reset", sent=True)
    with suppress(VendorConnectionLost), CountedCall("chat", "openai") as call:
        call.has_head(200)
        raise VendorConnectionLost("reset", sent=True)
    assert counted("cut") == before + 2


def test_a_reader_that_leaves_has_had_an_answer() -> None:
    before = counted("answered")
    with suppress(asyncio.CancelledError), CountedCall("chat", "openai") as call:
        call.has_head(200)
        raise asyncio.CancelledError
    assert counted("answered") == before + 1
