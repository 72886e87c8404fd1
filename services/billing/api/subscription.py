"""`/billing/subscription`: the tier that a user has."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from services.billing.api.dependencies import ServiceActions
from services.billing.domain.subscription import Subscription
from shared.http.caller import SignedIn
from shared.http.problems import problems
from shared.money import dollars_text

router = APIRouter(prefix="/billing", tags=["subscription"])


class WantedSubscription(BaseModel):
    """A tier and its seats; without them they stay as they are, where there can be several."""

    model_config = ConfigDict(extra="forbid")

    tier: str = Field(min_length=1, max_length=40)
    seats: int | None = Field(None, ge=1, le=100_000, strict=True)


class SubscriptionBody(BaseModel):
    """The tier that a user has, and what it costs."""

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
            tier=subscription.tier.name,
            seats=subscription.seats,
            revision=subscription.revision,
            changed_at=subscription.changed_at,
            price_microusd_per_month=price,
            price_usd_per_month=dollars_text(price),
        )


@router.get("/subscription", responses=problems(401))
async def show_subscription(actions: ServiceActions, caller: SignedIn) -> SubscriptionBody:
    """The tier that you have now."""
    return SubscriptionBody.of(await actions.show_subscription(caller.identity.user_id))


@router.put("/subscription", responses=problems(401, 402, 422))
async def change_subscription(
    wanted: WantedSubscription, actions: ServiceActions, caller: SignedIn
) -> SubscriptionBody:
    """Choose another tier, in effect at once."""
    subscription = await actions.change_subscription(
        caller.identity.user_id, wanted.tier, wanted.seats
    )
    return SubscriptionBody.of(subscription)
