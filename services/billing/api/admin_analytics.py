"""`/billing/admin/revenue`, `…/usage`, `…/analytics`: figures that decisions are made by."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BaseModel, ConfigDict

from services.billing.api.dependencies import AskedPeriod, BillingStaff, ServiceActions
from services.billing.api.export import CSV
from services.billing.api.table import as_csv, wants_csv
from services.billing.domain.analytics import (
    Facet,
    Split,
    TotalUsage,
    facets_named,
    grain_named,
    split_named,
)
from shared.http.dollars import DollarsBeside
from shared.http.problems import problems
from shared.money import dollars_text
from shared.values import dataclass

router = APIRouter(prefix="/billing/admin", tags=["billing team"])

_ALL_FACETS = ", ".join(f"`{facet}`" for facet in Facet)
_BY_TIER = (Split.TIER, Split.TOTAL)
_BY_ANY = (Split.TIER, Split.SERVICE, Split.TOTAL)

TierOrTotal = Annotated[str, Query(max_length=20, description="`tier` or `total`.")]
Facets = Annotated[str, Query(max_length=100, description=f"Some of {_ALL_FACETS}.")]


class _Row(DollarsBeside):
    model_config = ConfigDict(from_attributes=True)


class RevenueRow(_Row):
    """A month and tier. Charged: what was written down in the month; recognised: what was earned in
    it, by the second; recurring: what the subscriptions at its end bring each month."""

    month: dt.date
    tier: str
    charged_microusd: int
    recognised_microusd: int
    mrr_microusd: int
    subscriptions: int
    seats: int


class UsageRow(_Row):
    """What all users used together, by what was asked for; without the sandbox. `characters` are
    credits of speech, as the vendor counts them."""

    month: dt.date | None = None
    day: dt.date | None = None
    tier: str | None = None
    service: str | None = None
    provider: str | None = None
    model: str | None = None
    operation: str | None = None
    requests: int
    input_tokens: int
    output_tokens: int
    characters: int


class CostRow(_Row):
    """What vendors charge on the users' own keys, as far as prices are known (null: of none), and
    what the operator charges beside them."""

    month: dt.date | None = None
    day: dt.date | None = None
    tier: str | None = None
    service: str | None = None
    provider: str | None = None
    model: str | None = None
    operation: str | None = None
    requests: int
    unpriced_requests: int
    vendor_cost_microusd: int | None
    vendor_cost_usd: str | None
    usage_fee_microusd: int


class ActiveRow(_Row):
    """Users with at least one request in a day, week (from Monday) or month. A user's tier is that
    of their last request in it."""

    begins: dt.date
    tier: str
    service: str
    users: int


class ConversionRow(_Row):
    """Users first seen in a month, and those of them who paid within so many days. An incomplete
    cohort has not had that long yet."""

    cohort: dt.date
    users: int
    converted: int
    share: float
    is_complete: bool


class ChurnRow(_Row):
    """What became of the subscriptions that were paid for when the month began, by their tier then.
    Of those that left unpaid a period was written off."""

    month: dt.date
    tier: str
    at_start: int
    left_voluntary: int
    left_unpaid: int
    new: int
    logo_churn: float
    mrr_at_start_microusd: int
    lost_voluntary_microusd: int
    lost_unpaid_microusd: int
    contraction_microusd: int
    expansion_microusd: int
    new_microusd: int
    revenue_churn: float


class MarginRow(_Row):
    """Recognised subscriptions and fees for usage, less what the requests cost the operator."""

    month: dt.date
    tier: str
    subscriptions_microusd: int
    usage_fees_microusd: int
    revenue_microusd: int
    requests: int
    cost_microusd: int
    margin_microusd: int
    share: float


class CohortRow(_Row):
    """Of the users first seen in a month, how many were active so many months later."""

    cohort: dt.date
    users: int
    months_later: int
    active: int
    share: float


Row = TypeVar("Row", bound=_Row)


class Table(BaseModel, Generic[Row]):
    """All rows; there are no pages."""

    data: list[Row]


_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {CSV: {}}}}
_REFUSALS = problems(401, 403, _422="bad_period, bad_analysis") | _CSV


@dataclass(frozen=True, slots=True)
class AskedTable:
    """Rows of a period, and whether they are to be a file."""

    begins: dt.datetime | None
    ends: dt.datetime | None
    is_file: bool

    @property
    def bounds(self) -> tuple[dt.datetime | None, dt.datetime | None]:
        """From when to when; None: as far as is usual for it."""
        return self.begins, self.ends

    def of(self, name: str, row: type[Row], found: Iterable[object]) -> Response | Table[Row]:
        """The table of what was found, with all columns of such a row."""
        rows = [row.model_validate(one) for one in found]
        return self._answer(name, list(row.model_fields), rows)

    def by_facets(
        self, name: str, row: type[Row], found: Iterable[TotalUsage], facets: Sequence[Facet]
    ) -> Response | Table[Row]:
        """The same, of columns with the facets that were asked for and no others."""
        measures = [column for column in row.model_fields if column not in set(Facet)]
        rows = [
            row(
                **{facet.value: key for facet, key in one.keys.items()},
                **{measure: _measure(one, measure) for measure in measures},
            )
            for one in found
        ]
        return self._answer(name, [*(facet.value for facet in facets), *measures], rows)

    def _answer(self, name: str, columns: Sequence[str], rows: list[Row]) -> Response | Table[Row]:
        return as_csv(name, columns, rows) if self.is_file else Table(data=rows)


async def _asked(
    period: AskedPeriod,
    accept: Annotated[str | None, Header(description="`text/csv` for a file.")] = None,
) -> AskedTable:
    return AskedTable(period.begins, period.ends, is_file=wants_csv(accept))


Asked = Annotated[AskedTable, Depends(_asked)]


def _measure(usage: TotalUsage, name: str) -> int | str | None:
    if name == "vendor_cost_usd":
        return dollars_text(usage.vendor_cost_microusd)
    found: int | None = getattr(usage, name)
    return found


@router.get("/revenue", response_model=Table[RevenueRow], responses=_REFUSALS)
async def show_revenue(
    actions: ServiceActions,
    _staff: BillingStaff,
    asked: Asked,
    by: TierOrTotal = "tier",
) -> Response | Table[RevenueRow]:
    """Revenue of whole months, by default of the last six."""
    found = await actions.analyse.revenue(*asked.bounds, split_named(by, _BY_TIER))
    return asked.of("revenue", RevenueRow, found)


@router.get(
    "/usage",
    response_model=Table[UsageRow],
    response_model_exclude_unset=True,
    responses=_REFUSALS,
)
async def show_usage(
    actions: ServiceActions,
    _staff: BillingStaff,
    asked: Asked,
    by: Facets = "day,tier",
) -> Response | Table[UsageRow]:
    """What all users used together, in whole days; by default in the last thirty."""
    facets = facets_named(by)
    found = await actions.analyse.usage(*asked.bounds, facets)
    return asked.by_facets("usage", UsageRow, found, facets)


@router.get(
    "/analytics/costs",
    response_model=Table[CostRow],
    response_model_exclude_unset=True,
    responses=_REFUSALS,
)
async def show_costs(
    actions: ServiceActions,
    _staff: BillingStaff,
    asked: Asked,
    by: Facets = "provider,model,operation",
) -> Response | Table[CostRow]:
    """What vendors charge the users, and the operator's fee, in whole days."""
    facets = facets_named(by)
    found = await actions.analyse.usage(*asked.bounds, facets)
    return asked.by_facets("costs", CostRow, found, facets)


@router.get("/analytics/users", response_model=Table[ActiveRow], responses=_REFUSALS)
async def show_active_users(
    actions: ServiceActions,
    _staff: BillingStaff,
    asked: Asked,
    grain: Annotated[str, Query(max_length=20, description="`day`, `week` or `month`.")] = "day",
    by: Annotated[str, Query(max_length=20, description="`tier`, `service` or `total`.")] = "total",
) -> Response | Table[ActiveRow]:
    """Active users by day, week or month."""
    found = await actions.analyse.users(*asked.bounds, grain_named(grain), split_named(by, _BY_ANY))
    return asked.of("users", ActiveRow, found)


@router.get("/analytics/conversion", response_model=Table[ConversionRow], responses=_REFUSALS)
async def show_conversion(
    actions: ServiceActions,
    _staff: BillingStaff,
    asked: Asked,
    within_days: Annotated[int, Query(ge=0, le=365)] = 30,
) -> Response | Table[ConversionRow]:
    """Who came and paid, by the month in which they were first seen."""
    found = await actions.analyse.conversion(*asked.bounds, dt.timedelta(days=within_days))
    return asked.of("conversion", ConversionRow, found)


@router.get("/analytics/churn", response_model=Table[ChurnRow], responses=_REFUSALS)
async def show_churn(
    actions: ServiceActions,
    _staff: BillingStaff,
    asked: Asked,
    by: TierOrTotal = "total",
) -> Response | Table[ChurnRow]:
    """Who left, who paid less or more, and who is new, by month."""
    found = await actions.analyse.churn(*asked.bounds, split_named(by, _BY_TIER))
    return asked.of("churn", ChurnRow, found)


@router.get("/analytics/margin", response_model=Table[MarginRow], responses=_REFUSALS)
async def show_margin(
    actions: ServiceActions,
    _staff: BillingStaff,
    asked: Asked,
    by: TierOrTotal = "tier",
) -> Response | Table[MarginRow]:
    """Revenue less the operator's own cost per request."""
    found = await actions.analyse.margin(*asked.bounds, split_named(by, _BY_TIER))
    return asked.of("margin", MarginRow, found)


@router.get("/analytics/cohorts", response_model=Table[CohortRow], responses=_REFUSALS)
async def show_cohorts(
    actions: ServiceActions, _staff: BillingStaff, asked: Asked
) -> Response | Table[CohortRow]:
    """Which share of the users of a month is still active in later ones."""
    found = await actions.analyse.cohorts(*asked.bounds)
    return asked.of("cohorts", CohortRow, found)
