"""`/billing/subscription`: the tier that a user has."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from services.billing.api.dependencies import ServiceActions
from services.billing.domain.subscription import Subscription
from shared.http.caller import SignedIn, StillSignedIn
from shared.http.problems import problems
from shared.money import dollars_text
from shared.scopes import BILLING

router = APIRouter(prefix="/billing", tags=["subscription"])

_NOT_THEIRS = "organisation_billing_required"


class WantedSubscription(BaseModel):
    """A tier and its seats; without them they stay as they are, where there can be several."""

    model_config = ConfigDict(extra="forbid")

    tier: str = Field(min_length=1, max_length=40)
    seats: int | None = Field(None, ge=1, le=100_000, strict=True)


class ChosenSubscription(WantedSubscription):
    """What to choose, for oneself or for an organisation."""

    organisation_id: UUID | None = None


class SubscriptionBody(BaseModel):
    """The tier that a user or an organisation has, and what it costs."""

    organisation_id: UUID | None
    tier: str
    seats: int
    revision: int
    changed_at: datetime | None
    price_microusd_per_month: int
    price_usd_per_month: str | None

    @classmethod
    def of(cls, subscription: Subscription) -> SubscriptionBody:
        price = subscription.price_microusd_per_month
        return cls(
            organisation_id=subscription.organisation_id,
            tier=subscription.tier.name,
            seats=subscription.seats,
            revision=subscription.revision,
            changed_at=subscription.changed_at,
            price_microusd_per_month=price,
            price_usd_per_month=dollars_text(price),
        )


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
    responses=problems(
        401, 402, 422, _403=f"{_NOT_THEIRS}, scope_missing", _404="subscription_not_found"
    ),
)
async def change_subscription(
    wanted: ChosenSubscription, actions: ServiceActions, caller: StillSignedIn
) -> SubscriptionBody:
    """Choose another tier, for yourself or for your organisation, in effect at once."""
    caller.require(BILLING)
    user_id = caller.identity.user_id
    if wanted.organisation_id is not None:
        subscription = await actions.change_organisation_subscription(
            wanted.organisation_id, wanted.tier, wanted.seats, by=user_id
        )
    else:
        subscription = await actions.change_subscription(user_id, wanted.tier, wanted.seats)
    return SubscriptionBody.of(subscription)
