"""`/billing/alerts`: at which spending a user wants to be told."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from services.billing.api.dependencies import OWN_ONLY, Payer, ServiceActions
from shared.http.caller import SignedIn
from shared.http.dollars import DollarsAgree, DollarsBeside
from shared.http.problems import problems

router = APIRouter(prefix="/billing/alerts", tags=["limits"], dependencies=[OWN_ONLY])

_MOST_MICROUSD = 10**12
Threshold = Annotated[int, Field(ge=1, le=_MOST_MICROUSD, strict=True)]


class AlertsChoice(DollarsAgree):
    """Spending in a month, by what the vendors charge, at which you are told by mail and webhook:
    each once a month."""

    model_config = ConfigDict(extra="forbid")

    monthly_spend_microusd: list[Threshold] = Field(max_length=10)


class AlertsBody(DollarsBeside):
    """At which spending in a month you are told."""

    monthly_spend_microusd: list[int]


@router.get("", responses=problems(401, _422="own_usage_only"))
async def show_alerts(actions: ServiceActions, caller: SignedIn) -> AlertsBody:
    """What you chose."""
    found = await actions.choose_alerts.show(caller.identity.user_id)
    return AlertsBody(monthly_spend_microusd=list(found))


@router.put("", responses=problems(401, 403, 422))
async def choose_alerts(wanted: AlertsChoice, actions: ServiceActions, caller: Payer) -> AlertsBody:
    """Choose anew; an empty list ends it."""
    kept = await actions.choose_alerts(caller.identity.user_id, wanted.monthly_spend_microusd)
    return AlertsBody(monthly_spend_microusd=list(kept))
