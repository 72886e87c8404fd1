"""`/billing/admin`: what tiers cost, who has not paid, and what has come on our own account."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from services.billing.actions.list_past_due import Overdue
from services.billing.actions.list_payments import Asked
from services.billing.api.dependencies import (
    REPLAYED,
    BillingStaff,
    Cursor,
    NearMoment,
    ServiceActions,
)
from services.billing.api.staff_looks import StaffLooking
from services.billing.api.subscription import SubscriptionBody
from services.billing.domain.payment import Booking, Payment, PaymentId
from services.billing.domain.plan_price import MOST_MICROUSD_PER_SEAT, PlanPrice
from services.billing.domain.subscription import Subscription
from services.billing.domain.tax import MICRODOLLARS_A_CENT
from shared.http.dollars import DollarsBeside
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems
from shared.ids import UserId

_MOST_CENTS = 10**12

router = APIRouter(prefix="/billing/admin", tags=["billing team"])


class NewPlanPrice(BaseModel):
    """What a seat of a tier costs a month, from a moment on; without one from now on."""

    model_config = ConfigDict(extra="forbid")

    tier: str = Field(min_length=1, max_length=40)
    microusd_per_seat_month: int = Field(ge=0, le=MOST_MICROUSD_PER_SEAT, strict=True)
    effective_from: NearMoment | None = None


class PlanPriceBody(DollarsBeside):
    """A price as it is kept."""

    version: str
    tier: str
    microusd_per_seat_month: int
    effective_from: datetime
    set_by: UUID
    set_at: datetime

    @classmethod
    def of(cls, price: PlanPrice) -> PlanPriceBody:
        return cls(
            version=price.unit.version,
            tier=price.tier_name,
            microusd_per_seat_month=price.microusd_per_seat_month,
            effective_from=price.effective_from,
            set_by=price.set_by,
            set_at=price.set_at,
        )


class OverdueBody(DollarsBeside):
    """Who has not paid, since when, and by which payment it would be settled. `total_cents`: what
    that is with its tax."""

    holder_id: UUID
    is_organisation: bool
    tier: str
    seats: int
    owed_microusd: int
    total_cents: int | None
    asked_at: datetime | None
    retries: int
    payment_id: UUID | None
    provider: str | None

    @classmethod
    def of(cls, listed: Overdue) -> OverdueBody:
        overdue, payment = listed.subscription, listed.payment
        return cls(
            holder_id=overdue.user_id,
            is_organisation=overdue.is_organisation,
            tier=overdue.tier_name,
            seats=overdue.seats,
            owed_microusd=overdue.owed_microusd,
            total_cents=listed.gross.total_cents if listed.gross else None,
            asked_at=overdue.unpaid_since,
            retries=overdue.dunning_step,
            payment_id=payment.id if payment else None,
            provider=payment.provider if payment else None,
        )


class UnpaidOrderBody(DollarsBeside):
    """A change that waits for its payment. `void`: another wish took its place, and the money for
    it may still come. `total_cents`: what was asked for, with its tax."""

    payment_id: UUID
    holder_id: UUID
    is_organisation: bool
    state: str
    provider: str
    tier: str | None
    seats: int | None
    amount_microusd: int
    total_cents: int
    asked_by: UUID
    asked_at: datetime

    @classmethod
    def of(cls, asked: Asked) -> UnpaidOrderBody:
        order = asked.order
        return cls(
            payment_id=order.id,
            holder_id=order.holder,
            is_organisation=order.is_organisation,
            state=order.state.value,
            provider=order.provider,
            tier=order.tier_name,
            seats=order.seats,
            amount_microusd=order.amount_microusd,
            total_cents=asked.gross.total_cents,
            asked_by=order.asked_by,
            asked_at=order.created_at,
        )


class UnusedBody(DollarsBeside):
    """Money that came and changed nothing, or nothing that lasted: somebody paid twice, or chose
    more meanwhile."""

    payment_id: UUID
    holder_id: UUID
    is_organisation: bool
    provider: str
    reference: str | None
    amount_microusd: int
    settled_at: datetime | None

    @classmethod
    def of(cls, payment: Payment) -> UnusedBody:
        return cls(
            payment_id=payment.id,
            holder_id=payment.holder,
            is_organisation=payment.is_organisation,
            provider=payment.provider,
            reference=payment.reference,
            amount_microusd=payment.amount_microusd,
            settled_at=payment.settled_at,
        )


class PaidBody(SubscriptionBody):
    """What is held after a payment was booked. `payment_state`: `paid`, or `unused` where nothing
    came of it: what it was for is held already, costs more by now, or is gone."""

    payment_id: UUID
    payment_state: str
    received_microusd: int

    @classmethod
    def of_booked(cls, subscription: Subscription, payment: Payment) -> PaidBody:
        return cls(
            **dict(SubscriptionBody.of(subscription)),
            payment_id=payment.id,
            payment_state=payment.state.value,
            received_microusd=payment.amount_microusd,
        )


class ReceivedMoney(BaseModel):
    """What came, where it is not the total with tax that was asked for: less a bank's fee."""

    model_config = ConfigDict(extra="forbid")

    amount_cents: int | None = Field(None, ge=1, le=_MOST_CENTS, strict=True)


# As it is copied out of a statement, with blanks around it, it is the same one.
Reference = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    Field(
        description="The bank's or your own, used once. It stays in the books for good: name"
        " nobody in it.",
    ),
]


class NewPayment(BaseModel):
    """Money that came without a payment provider, or that was given back (negative)."""

    model_config = ConfigDict(extra="forbid")

    holder_id: UUID
    amount_cents: int = Field(
        ge=-_MOST_CENTS,
        le=_MOST_CENTS,
        strict=True,
        description="Zero only with a `payment_id` that was given back in another way.",
    )
    reference: Reference
    note: str = Field(
        min_length=1,
        max_length=300,
        description="Emptied when the user it is about is deleted. What is written after that stays"
        " in the books for good: name nobody in it.",
    )
    payment_id: UUID | None = Field(
        None, description="An unused payment that needs nobody's attention any more by this."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.amount_cents == 0 and self.payment_id is None:
            raise ValueError("an amount, or the unused payment that is settled")
        return self


class BookedBody(DollarsBeside):
    """A payment as it stands in the books."""

    payment_id: UUID
    holder_id: UUID
    is_organisation: bool
    kind: str
    amount_microusd: int
    reference: str | None
    note: str | None
    booked_by: UUID
    booked_at: datetime

    @classmethod
    def of(cls, payment: Payment) -> BookedBody:
        return cls(
            payment_id=payment.id,
            holder_id=payment.holder,
            is_organisation=payment.is_organisation,
            kind=payment.kind.value,
            amount_microusd=payment.amount_microusd,
            reference=payment.reference,
            note=payment.note,
            booked_by=payment.asked_by,
            booked_at=payment.created_at,
        )


@router.post(
    "/plan-prices",
    status_code=201,
    responses=problems(
        401,
        403,
        _409="plan_price_exists",
        _422="unknown_tier, default_plan_is_free, effective_from_past, …",
    ),
)
async def set_plan_price(
    wanted: NewPlanPrice, actions: ServiceActions, staff: BillingStaff
) -> PlanPriceBody:
    """Set what a tier costs, from `effective_from` on, which may lie a minute in the past at most.
    Who has a period goes on at its price until the next one."""
    since = wanted.effective_from.astimezone(UTC) if wanted.effective_from else None
    price = await actions.set_plan_price(
        wanted.tier,
        wanted.microusd_per_seat_month,
        effective_from=since,
        by=staff.identity.user_id,
    )
    return PlanPriceBody.of(price)


@router.get("/subscriptions/past-due", responses=problems(401, 403, _422="bad_cursor"))
async def list_past_due(
    actions: ServiceActions,
    _staff: BillingStaff,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[OverdueBody]:
    """Who has not paid."""
    after = UserId(read_cursor(cursor, UUID)[0]) if cursor else None
    found = await actions.list_past_due(after=after, most=limit + 1)
    page = Page.of(found, limit, lambda one: cursor_of(one.subscription.user_id))
    return page.as_bodies(OverdueBody.of)


@router.get("/payments/orders", responses=problems(401, 403, _422="bad_cursor, …"))
async def list_unpaid_orders(
    actions: ServiceActions,
    look: StaffLooking,
    holder: Annotated[UUID, Query(description="A user, or an organisation.")],
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[UnpaidOrderBody]:
    """What a holder wished for and has not paid, the newest first: each can be marked as paid. That
    you looked is noted."""
    await look.at(holder)
    before = PaymentId(read_cursor(cursor, UUID)[0]) if cursor else None
    found = await actions.list_unpaid_orders(UserId(holder), before=before, most=limit + 1)
    page = Page.of(found, limit, lambda asked: cursor_of(asked.order.id))
    return page.as_bodies(UnpaidOrderBody.of)


@router.get("/payments/unused", responses=problems(401, 403, _422="bad_cursor"))
async def list_unused_payments(
    actions: ServiceActions,
    _staff: BillingStaff,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[UnusedBody]:
    """What has to be paid back, or made use of."""
    after = PaymentId(read_cursor(cursor, UUID)[0]) if cursor else None
    found = await actions.list_unused_payments(after=after, most=limit + 1)
    return Page.of(found, limit, lambda payment: cursor_of(payment.id)).as_bodies(UnusedBody.of)


@router.post(
    "/payments",
    status_code=201,
    responses=problems(
        401, 403, 422, _404="holder_not_found, payment_not_found", _409="payment_reference_used"
    ),
)
async def book_payment(
    wanted: NewPayment, actions: ServiceActions, staff: BillingStaff, response: Response
) -> BookedBody:
    """Book money that came by a transfer, or that you gave back (negative). It changes no tier.
    The same reference again answers with the same payment."""
    booking = Booking(
        holder=UserId(wanted.holder_id),
        amount_cents=wanted.amount_cents,
        reference=wanted.reference,
        note=wanted.note,
        settles=None if wanted.payment_id is None else PaymentId(wanted.payment_id),
    )
    booked, is_known = await actions.book_payment(booking, by=staff.identity.user_id)
    if is_known:
        response.headers.update(REPLAYED)
    return BookedBody.of(booked)


@router.post(
    "/payments/{payment_id}/paid",
    responses=problems(401, 403, 422, _404="payment_not_found", _409="payment_settled"),
)
async def mark_paid(
    payment_id: UUID,
    actions: ServiceActions,
    staff: BillingStaff,
    received: ReceivedMoney | None = None,
) -> PaidBody:
    """The money has come: what waited for it takes effect, also when another wish took its place
    meanwhile. Without a sum it was what was asked for, with its tax. It is booked once: who marks
    it again is told what stands in the books (`state`, `amount_microusd`, `settled_at`)."""
    cents = received.amount_cents if received else None
    microusd = None if cents is None else cents * MICRODOLLARS_A_CENT
    booked = await actions.mark_paid.booked(
        PaymentId(payment_id), by=staff.identity.user_id, received_microusd=microusd
    )
    return PaidBody.of_booked(*booked)
