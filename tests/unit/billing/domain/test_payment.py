"""Which payments may still come, and which orders are of terms that were changed meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.billing.domain.payment import (
    BY_HAND,
    Payment,
    PaymentId,
    PaymentKind,
    PaymentState,
)
from services.billing.domain.subscription import Subscription
from shared.ids import UserId
from tests.support.billing import NOON

ADA = UserId(uuid4())
ORDER, RENEWAL, REFUND = PaymentKind.ORDER, PaymentKind.RENEWAL, PaymentKind.REFUND
OPEN, VOID = PaymentState.OPEN, PaymentState.VOID


def a_payment(**facts: Any) -> Payment:
    given: dict[str, Any] = {
        "id": PaymentId(uuid4()),
        "holder": ADA,
        "is_organisation": False,
        "kind": ORDER,
        "state": OPEN,
        "provider": BY_HAND,
        "amount_microusd": 9_000_000,
        "asked_by": ADA,
        "created_at": NOON,
    }
    return Payment(**{**given, **facts})


@pytest.mark.parametrize(
    ("kind", "state", "page", "may_come"),
    [
        (ORDER, OPEN, None, True),
        (ORDER, OPEN, "https://pay.example", True),
        (RENEWAL, OPEN, None, True),
        # Another wish took its place: whoever had a page to pay at finds it closed.
        (ORDER, VOID, None, True),
        (ORDER, VOID, "https://pay.example", False),
        (RENEWAL, VOID, "https://pay.example", True),
        (REFUND, VOID, None, False),
        (ORDER, PaymentState.PAID, None, False),
        (RENEWAL, PaymentState.FAILED, None, False),
        (ORDER, PaymentState.UNUSED, None, False),
    ],
)
def test_a_transfer_may_still_come(
    kind: PaymentKind, state: PaymentState, page: str | None, may_come: bool
) -> None:
    payment = a_payment(kind=kind, state=state, checkout_url=page)
    assert payment.can_be_paid_by_hand is may_come


@pytest.mark.parametrize(
    ("kind", "provider", "page", "collected"),
    [
        (ORDER, "stripe", None, True),
        (ORDER, "stripe", "https://pay.example", False),
        (ORDER, BY_HAND, None, False),
        (RENEWAL, "stripe", None, False),
    ],
)
def test_a_change_is_collected_within_what_is_paid_by_already(
    kind: PaymentKind, provider: str, page: str | None, collected: bool
) -> None:
    payment = a_payment(kind=kind, provider=provider, checkout_url=page)
    assert payment.is_of_change is collected


def test_an_order_is_of_other_terms_once_what_is_held_was_decided_after_it() -> None:
    present = replace(Subscription.initial(ADA), revision=5, terms_revision=3, changed_at=NOON)
    assert a_payment(base_revision=2).is_of_other_terms(present)
    assert not a_payment(base_revision=3).is_of_other_terms(present)
    # A plan or a late payment is a revision, too, but changes nothing that is held.
    assert not a_payment(base_revision=4).is_of_other_terms(present)


def test_an_order_of_an_older_release_is_told_by_its_time() -> None:
    changed = replace(Subscription.initial(ADA), revision=5, changed_at=NOON)
    before = a_payment(created_at=NOON - timedelta(microseconds=1))
    assert before.is_of_other_terms(changed)
    assert not a_payment(created_at=NOON).is_of_other_terms(changed)
    assert not before.is_of_other_terms(Subscription.initial(ADA))
