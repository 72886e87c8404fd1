"""`/billing/limits`."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from services.billing.api.dependencies import OWN_ONLY, ServiceActions
from services.billing.domain.limits import LimitStanding
from shared.http.caller import SignedIn
from shared.http.pages import Page
from shared.http.problems import problems

router = APIRouter(prefix="/billing", tags=["limits"], dependencies=[OWN_ONLY])


class LimitBody(BaseModel):
    """One window of a limit."""

    name: str
    provider: str | None  # null: over all of them
    limit: int | None  # null: your own cap on spending, which your settings in chat tell
    used: int
    reserved: int  # held by requests that still run, and may yet come back
    remaining: int | None
    resets_at: datetime

    @classmethod
    def of(cls, standing: LimitStanding) -> LimitBody:
        return cls(
            name=standing.name,
            provider=standing.provider,
            limit=standing.limit,
            used=standing.used,
            reserved=standing.reserved,
            remaining=standing.remaining,
            resets_at=standing.resets_at,
        )


@router.get("/limits", responses=problems(401, _422="own_usage_only"))
async def show_limits(actions: ServiceActions, caller: SignedIn) -> Page[LimitBody]:
    """Every window of your tier, with what is used of it and what running requests hold. What is
    unlimited is not listed; the month's spending is, in micro-dollars."""
    standings = await actions.show_limits(caller.identity.user_id, claimed=caller.tier)
    return Page(data=[LimitBody.of(standing) for standing in standings])
