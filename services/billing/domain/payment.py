"""Who pays, what they are asked for, and what the payer's side tells."""

from __future__ import annotations

from dataclasses import field, replace
from datetime import datetime
from enum import Enum
from typing import NewType, Self
from uuid import UUID

from services.billing.domain.subscription import Subscription
from shared.ids import UserId
from shared.values import dataclass

PaymentId = NewType("PaymentId", UUID)
BY_HAND = "manual"
"""The payment provider of what people collect."""


class PaymentKind(Enum):
    """What a payment is for."""

    ORDER = "order"  # a change that takes effect once it is paid
    RENEWAL = "renewal"
    REFUND = "refund"
    DISPUTE = "dispute"
    RECEIPT = "receipt"  # money that the billing team has seen come


class PaymentState(Enum):
    """How far a payment has come."""

    OPEN = "open"
    FAILED = "failed"
    PAID = "paid"
    VOID = "void"  # another wish took its place, or nobody waits for it any more
    UNUSED = "unused"  # paid, and nothing was left to change: for the billing team


@dataclass(frozen=True, slots=True)
class Payment:
    """An amount that somebody pays, or was paid back. `reference`: the payment provider's name for
    it."""

    id: PaymentId
    holder: UserId
    is_organisation: bool
    kind: PaymentKind
    state: PaymentState
    provider: str
    amount_microusd: int
    asked_by: UserId
    created_at: datetime
    tier_name: str | None = None
    seats: int | None = None
    unit_price_microusd: int | None = None
    price_version: str | None = None
    reference: str | None = None
    checkout_url: str | None = field(default=None, repr=False)
    settled_at: datetime | None = None
    note: str | None = field(default=None, repr=False)
    settles: PaymentId | None = None  # the unused payment that is dealt with by it
    base_revision: int | None = None  # of the subscription, when the order was made
    base_terms_revision: int | None = None  # the one that had decided what was held then

    @property
    def can_be_paid_by_hand(self) -> bool:
        """Whether somebody may still transfer what it asks for: also for a wish that another took
        the place of, unless there was a page to pay at, and for what was written off."""
        if self.state is PaymentState.VOID:
            return self.kind is PaymentKind.RENEWAL or (
                self.kind is PaymentKind.ORDER and self.checkout_url is None
            )
        return self.state is PaymentState.OPEN

    @property
    def is_of_change(self) -> bool:
        """Whether a payment provider collects it within what is paid by already, without a page."""
        is_collected = self.provider != BY_HAND and self.checkout_url is None
        return self.kind is PaymentKind.ORDER and is_collected

    def is_of_other_terms(self, present: Subscription) -> bool:
        """Whether an order was made before what is held now was decided."""
        if self.base_revision is None:
            # Of a release that did not note it.
            return present.changed_at is not None and self.created_at < present.changed_at
        return self.base_revision < present.terms_revision

    def settled(self, state: PaymentState, at: datetime) -> Self:
        return replace(self, state=state, settled_at=at)

    def at_checkout(self, checkout: Checkout) -> Self:
        return replace(self, reference=checkout.reference, checkout_url=checkout.url)


@dataclass(frozen=True, slots=True)
class Booking:
    """Money that the billing team has seen come, or gave back (negative). `reference` is the bank's
    or the team's own; `settles`: the unused payment that was given back or made use of."""

    holder: UserId
    amount_cents: int
    reference: str
    note: str
    settles: PaymentId | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a payment provider should collect for from now on; `ended`: for nothing any more."""

    tier_name: str
    seats: int
    ending: bool  # with the period
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Payer:
    """The payment provider's side of a holder: its customer and its subscription, and what it was
    told."""

    holder: UserId
    is_organisation: bool
    provider: str
    customer: str
    subscription: str | None = None
    item: str | None = None
    told: Wish | None = None
    last_told_at: datetime | None = None  # of the newest fact that the provider told us


class NewsKind(Enum):
    """What a payment provider can tell."""

    ORDER_PAID = "order_paid"
    PAYER_CHANGED = "payer_changed"
    PAYER_ENDED = "payer_ended"
    INVOICE_PAID = "invoice_paid"
    INVOICE_FAILED = "invoice_failed"
    REFUNDED = "refunded"
    DISPUTED = "disputed"
    REINSTATED = "reinstated"  # a dispute was won: the money has come back


@dataclass(frozen=True, slots=True)
class News:
    """A fact that a payment provider tells, in our words. `event_id` makes it one fact however
    often it comes; `happened_at` is the provider's own time of it."""

    provider: str
    event_id: str
    kind: NewsKind
    happened_at: datetime
    customer: str | None = None
    subscription: str | None = None
    item: str | None = None
    order_id: PaymentId | None = None
    reference: str | None = None
    amount_microusd: int = 0
    tier_name: str | None = None
    seats: int | None = None
    ending: bool = False
    is_overdue: bool = False
    is_renewal: bool = False
    is_whole: bool = True  # of what went back: all that had been paid, and not a part of it


@dataclass(frozen=True, slots=True)
class Checkout:
    """Where somebody pays."""

    url: str = field(repr=False)
    reference: str
