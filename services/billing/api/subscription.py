"""`/billing/subscription`: the tier that a user has."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from services.billing.actions.change_subscription import Outcome, Wanted
from services.billing.api.dependencies import Payer, ServiceActions
from services.billing.domain.charge import Charge
from services.billing.domain.subscription import Holder, Subscription
from shared.http.caller import Caller, SignedIn
from shared.http.dollars import DollarsBeside
from shared.http.problems import problems
from shared.ids import UserId

router = APIRouter(prefix="/billing", tags=["subscription"])

_NOT_THEIRS = "organisation_billing_required"
_NOT_ALLOWED = f"{_NOT_THEIRS}, scope_missing"


class WantedSubscription(BaseModel):
    """A tier and its seats; without them they stay as they are, where there can be several."""

    model_config = ConfigDict(extra="forbid")

    tier: str = Field(min_length=1, max_length=40)
    seats: int | None = Field(None, ge=1, le=100_000, strict=True)


class ForWhom(BaseModel):
    """For oneself, or for an organisation."""

    model_config = ConfigDict(extra="forbid")

    organisation_id: UUID | None = None


class ChosenSubscription(WantedSubscription):
    """What to choose, for oneself or for an organisation; `trial` begins the one trial that
    everybody has."""

    organisation_id: UUID | None = None
    trial: bool = Field(False, strict=True)


class TermsBody(BaseModel):
    """What holds from the next period on."""

    tier: str
    seats: int


class SubscriptionBody(DollarsBeside):
    """The tier that a user or an organisation has, what it costs, and what becomes of it.

    `state`: `none`, `trialing`, `active`, `past_due` (not paid for; the tier holds for some days),
    `cancelled` (until the end of the period) or `ended`. Without a period nobody pays for it.
    """

    organisation_id: UUID | None
    tier: str
    seats: int
    revision: int
    changed_at: datetime | None
    price_microusd_per_month: int
    state: str
    period_begins: datetime | None
    period_ends: datetime | None
    cancels_at_period_end: bool
    from_next_period: TermsBody | None
    owed_microusd: int

    @classmethod
    def of(cls, subscription: Subscription) -> SubscriptionBody:
        return cls(**_fields_of(subscription))


class LineBody(DollarsBeside):
    """Something that is charged, for a span of time; a credit is negative."""

    kind: str
    tier: str
    seats: int
    price_microusd_per_seat_month: int
    price_version: str
    begins: datetime
    ends: datetime
    amount_microusd: int

    @classmethod
    def of(cls, charge: Charge) -> LineBody:
        return cls(**fields_of_line(charge))


class ChoiceBody(SubscriptionBody):
    """What becomes of a choice, from when on, and what is charged for it now. In a preview, and
    while `checkout_url` waits for somebody to pay there, nothing has changed yet."""

    effective_at: datetime
    charges: list[LineBody]
    amount_microusd: int
    checkout_url: str | None

    @classmethod
    def of_outcome(cls, outcome: Outcome) -> ChoiceBody:
        return cls(
            **_fields_of(outcome.subscription),
            effective_at=outcome.effective_at,
            charges=[LineBody.of(charge) for charge in outcome.charges],
            amount_microusd=sum(charge.amount_microusd for charge in outcome.charges),
            checkout_url=outcome.checkout_url,
        )


def _fields_of(subscription: Subscription) -> dict[str, Any]:
    price, later = subscription.price_microusd_per_month, subscription.next_tier_name
    return {
        "organisation_id": subscription.organisation_id,
        "tier": subscription.tier.name,
        "seats": subscription.seats,
        "revision": subscription.revision,
        "changed_at": subscription.changed_at,
        "price_microusd_per_month": price,
        "state": subscription.shown_state.value,
        "period_begins": subscription.period_begins,
        "period_ends": subscription.period_ends,
        "cancels_at_period_end": subscription.cancels,
        "from_next_period": TermsBody(tier=later, seats=subscription.next_seats or 1)
        if later
        else None,
        "owed_microusd": subscription.owed_microusd,
    }


def fields_of_line(charge: Charge) -> dict[str, Any]:
    """A charge without its id."""
    return {
        "kind": charge.kind.value,
        "tier": charge.tier_name,
        "seats": charge.seats,
        "price_microusd_per_seat_month": charge.unit_price_microusd,
        "price_version": charge.price_version,
        "begins": charge.begins,
        "ends": charge.ends,
        "amount_microusd": charge.amount_microusd,
    }


def holder_of(caller: Caller, organisation_id: UUID | None) -> Holder:
    """Whose subscription a request is about."""
    if organisation_id is None:
        return Holder(caller.identity.user_id)
    return Holder(UserId(organisation_id), is_organisation=True)


@router.get(
    "/subscription",
    responses=problems(401, _403=_NOT_THEIRS, _404="subscription_not_found"),
)
async def show_subscription(
    actions: ServiceActions,
    caller: SignedIn,
    organisation_id: Annotated[UUID | None, Query(description="Yours, to see its own.")] = None,
) -> SubscriptionBody:
    """The subscription that you have now, or that your organisation has."""
    user_id = caller.identity.user_id
    if organisation_id is None:
        return SubscriptionBody.of(await actions.show_subscription(user_id))
    subscription = await actions.show_organisation_subscription(organisation_id, by=user_id)
    return SubscriptionBody.of(subscription)


@router.put(
    "/subscription",
    responses={
        202: {"model": ChoiceBody, "description": "Pay at `checkout_url`; then it takes effect."},
        **problems(
            401,
            422,
            _402="subscription_not_paid, payment_declined",
            _403=_NOT_ALLOWED,
            _404="subscription_not_found",
            _409="seats_assigned, trial_used, payment_outstanding",
            _503="dependency_unavailable, payments_unavailable",
        ),
    },
)
async def change_subscription(
    wanted: ChosenSubscription,
    actions: ServiceActions,
    caller: Payer,
    response: Response,
    preview: Annotated[bool, Query(description="Only say what it would do and cost.")] = False,
) -> ChoiceBody:
    """Choose a tier, for yourself or for your organisation. More takes effect at once, against the
    price of the rest of the period; less from the next period on."""
    user_id = caller.identity.user_id
    holder = holder_of(caller, wanted.organisation_id)
    choice = Wanted(wanted.tier, wanted.seats, trial=wanted.trial)
    if preview:
        outcome = await actions.change_subscription.preview(holder, choice, by=user_id)
    else:
        outcome = await actions.change_subscription(holder, choice, by=user_id)
    if outcome.checkout_url is not None:
        response.status_code = 202
    return ChoiceBody.of_outcome(outcome)


@router.post(
    "/subscription/cancel",
    responses=problems(
        401, 422, _403=_NOT_ALLOWED, _404="subscription_not_found", _409="nothing_to_cancel"
    ),
)
async def cancel_subscription(
    actions: ServiceActions, caller: Payer, whom: ForWhom | None = None
) -> SubscriptionBody:
    """End it with its period. What is not paid for ends at once."""
    holder = holder_of(caller, whom.organisation_id if whom else None)
    cancelled = await actions.cancel_subscription(holder, by=caller.identity.user_id)
    return SubscriptionBody.of(cancelled)


@router.post(
    "/subscription/resume",
    responses=problems(
        401, 422, _403=_NOT_ALLOWED, _404="subscription_not_found", _409="nothing_to_resume"
    ),
)
async def resume_subscription(
    actions: ServiceActions, caller: Payer, whom: ForWhom | None = None
) -> SubscriptionBody:
    """Take a cancellation back while the period lasts."""
    holder = holder_of(caller, whom.organisation_id if whom else None)
    resumed = await actions.resume_subscription(holder, by=caller.identity.user_id)
    return SubscriptionBody.of(resumed)
