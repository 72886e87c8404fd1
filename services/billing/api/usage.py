"""`/billing/usage`: totals."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel

from services.billing.api.dependencies import (
    OWN_ONLY,
    AskedPeriod,
    AskedSandbox,
    ServiceActions,
    all_of,
    some_of,
)
from services.billing.domain.usage_report import Dimension, Sums, UsageReport, dimensions_named
from shared.http.caller import SignedIn
from shared.http.problems import problems
from shared.money import dollars_text

router = APIRouter(prefix="/billing", tags=["usage"], dependencies=[OWN_ONLY])


class SumsBody(BaseModel):
    """Sums. The cost covers what has a known price and is null where nothing has;
    `unpriced_requests` tells how many have none. `characters` of speech are credits, as the vendor
    counts them: a character each, with its quick models (flash, turbo) half."""

    requests: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    output_reasoning_tokens: int
    total_tokens: int
    characters: int
    cost_microusd: int | None
    cost_usd: str | None
    unpriced_requests: int


class GroupBody(SumsBody):
    """The sums of one combination of what was grouped by; only those keys are there."""

    day: dt.date | None = None
    provider: str | None = None
    model: str | None = None
    operation: str | None = None


class UsageBody(BaseModel):
    """Usage of a period of whole hours."""

    period_from: dt.datetime
    period_to: dt.datetime
    data: list[GroupBody]
    totals: SumsBody

    @classmethod
    def of(cls, report: UsageReport) -> UsageBody:
        return cls(
            period_from=report.period.begins,
            period_to=report.period.ends,
            data=[
                GroupBody(
                    **{dimension.value: key for dimension, key in group.keys},
                    **numbers_of(group.sums),
                )
                for group in report.groups
            ],
            totals=SumsBody(**numbers_of(report.totals)),
        )


@router.get(
    "/usage",
    response_model=UsageBody,
    response_model_exclude_unset=True,
    responses=problems(401, 422),
)
async def report_usage(
    actions: ServiceActions,
    caller: SignedIn,
    period: AskedPeriod,
    group_by: Annotated[str, some_of(Dimension)] = all_of(Dimension),
    sandbox: AskedSandbox = None,
) -> UsageBody:
    """Your usage, summed up in whole hours; by default of this month."""
    report = await actions.report_usage(
        caller.identity.user_id,
        begins=period.begins,
        ends=period.ends,
        dimensions=dimensions_named(group_by, Dimension),
        sandbox=sandbox,
    )
    return UsageBody.of(report)


def numbers_of(sums: Sums) -> dict[str, Any]:
    """The fields of a `SumsBody`."""
    return {
        "requests": sums.requests,
        "input_tokens": sums.input_tokens,
        "cache_read_tokens": sums.cache_read_tokens,
        "cache_write_tokens": sums.cache_write_tokens,
        "output_tokens": sums.output_tokens,
        "output_reasoning_tokens": sums.output_reasoning_tokens,
        "total_tokens": sums.input_tokens + sums.output_tokens,
        "characters": sums.characters,
        "cost_microusd": sums.cost,
        "cost_usd": dollars_text(sums.cost),
        "unpriced_requests": sums.unpriced_requests,
    }
