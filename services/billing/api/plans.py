"""`/billing/plans`: the tiers that there are."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from services.billing.api.dependencies import ServiceActions
from services.billing.domain.plan_price import UnitPrice
from shared.http.caller import SignedIn
from shared.http.dollars import DollarsBeside
from shared.http.pages import Page
from shared.http.problems import problems
from shared.tiers import TIERS, Allowance, Tier

router = APIRouter(prefix="/billing", tags=["subscription"])


class AllowanceBody(BaseModel):
    """What a plan grants at one vendor; a limit that is null is none. `characters_per_month` are
    credits of speech, as the vendor counts them: a character each, with its quick models half."""

    model_classes: list[str]
    max_output_tokens: int
    requests_per_minute: int | None
    requests_per_day: int | None
    characters_per_month: int | None
    quality: str
    voice_categories: list[str]
    features: list[str]

    @classmethod
    def of(cls, allowance: Allowance) -> AllowanceBody:
        return cls(
            model_classes=list(allowance.model_classes),
            max_output_tokens=allowance.max_output_tokens,
            requests_per_minute=allowance.requests_per_minute,
            requests_per_day=allowance.requests_per_day,
            characters_per_month=allowance.characters_per_month,
            quality=allowance.quality,
            voice_categories=sorted(allowance.voice_categories),
            features=sorted(allowance.features),
        )


class PlanBody(DollarsBeside):
    """A tier that can be had."""

    tier: str
    rank: int
    price_microusd_per_seat_month: int
    price_version: str
    many_seats: bool
    allowances: dict[str, AllowanceBody]

    @classmethod
    def of(cls, tier: Tier, unit: UnitPrice) -> PlanBody:
        price = unit.microusd
        return cls(
            tier=tier.name,
            rank=tier.rank,
            price_microusd_per_seat_month=price,
            price_version=unit.version,
            many_seats=tier.many_seats,
            allowances={name: AllowanceBody.of(a) for name, a in tier.allowances.items()},
        )


@router.get("/plans", responses=problems(401))
async def list_plans(actions: ServiceActions, _caller: SignedIn) -> Page[PlanBody]:
    """The tiers, from the smallest to the largest, at the prices of this moment."""
    prices, now = await actions.show_plan_prices()
    tiers = sorted(TIERS.values(), key=lambda tier: tier.rank)
    return Page(data=[PlanBody.of(tier, prices.at(tier.name, now)) for tier in tiers])
