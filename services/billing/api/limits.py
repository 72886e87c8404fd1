"""`/billing/limits`."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from services.billing.api.dependencies import ServiceActions
from services.billing.domain.limits import LimitStanding
from shared.http.caller import SignedIn
from shared.http.pages import Page
from shared.http.problems import problems

router = APIRouter(prefix="/billing", tags=["limits"])


class LimitBody(BaseModel):
    """One window of a limit."""

    name: str
    provider: str
    limit: int
    used: int
    reserved: int = 0  # a request is counted as used from its admission on
    remaining: int
    resets_at: datetime

    @classmethod
    def of(cls, standing: LimitStanding) -> LimitBody:
        rule = standing.rule
        return cls(
            name=rule.name,
            provider=rule.provider,
            limit=rule.limit,
            used=standing.used,
            remaining=standing.remaining,
            resets_at=standing.resets_at,
        )


@router.get("/limits", responses=problems(401))
async def show_limits(actions: ServiceActions, caller: SignedIn) -> Page[LimitBody]:
    """Every window of your tier, with what is used of it. What is unlimited is not listed."""
    standings = await actions.show_limits(caller.identity.user_id, claimed=caller.tier)
    return Page(data=[LimitBody.of(standing) for standing in standings])
