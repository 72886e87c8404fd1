"""The dashboard as a page: HTML without a script, in the reader's own light or dark."""

from __future__ import annotations

import hashlib
import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from services.billing.actions.analyse import CONVERTED_WITHIN, Overview
from services.billing.api.dashboard_charts import (
    Drawing,
    Series,
    bars,
    lines,
    lying_bars,
    stacked_bars,
)
from services.billing.domain.analytics import (
    Active,
    Churn,
    Facet,
    Months,
    Retention,
    TotalUsage,
    share,
    together,
)
from shared.tiers import TIERS
from shared.values import dataclass

_HERE = Path(__file__).parent
_STYLE = (_HERE / "dashboard.css").read_text("utf-8")
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGES = Environment(
    loader=FileSystemLoader(_HERE),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_MILLION = 1_000_000
_MOST_MODELS = 8
_HEATS = 10
_FREE = 5  # a quiet colour
_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure at the top, and what it is compared with."""

    name: str
    figure: str
    note: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with the table that says the same."""

    title: str
    meaning: str
    chart: Markup | None
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Cell:
    """A share in the cohort table; the more, the warmer."""

    text: str = ""
    heat: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """What the template is filled with."""

    months: Months
    tiles: Sequence[Tile] = ()
    figures: Sequence[Figure] = ()
    cohort_head: Sequence[str] = ()
    cohorts: Sequence[tuple[str, str, Sequence[Cell]]] = field(default=())


def dashboard(overview: Overview) -> HTMLResponse:
    """The page with all its charts."""
    head, cohorts = _cohorts(overview.retention)
    page = Page(overview.months, _tiles(overview), _figures(overview), head, cohorts)
    first, last = overview.months.first, overview.months.last
    return _answer("dashboard.html", page=page, begins=_month(first), ends=_month(last))


def complaint(text: str, begins: str, ends: str) -> HTMLResponse:
    """The page with a period that can't be."""
    return _answer(
        "dashboard.html", 422, page=None, complaint=text, begins=begins[:7], ends=ends[:7]
    )


def door(title: str, text: str, *, status: int = 200, token: str = "") -> HTMLResponse:
    """What stands before the dashboard: the button of a link, or why there is none."""
    return _answer("dashboard_door.html", status, title=title, text=text, token=token)


def _answer(template: str, status: int = 200, **facts: Any) -> HTMLResponse:
    facts = {"complaint": "", **facts}
    text = _PAGES.get_template(template).render(style=Markup(_STYLE), **facts)  # noqa: S704 - ours
    return HTMLResponse(text, status, headers=_HEADERS)


def _tiles(of: Overview) -> list[Tile]:
    last = of.months.last
    known = list(of.months)
    before = known[-2] if len(known) > 1 else None
    revenue = {one.month: one for one in together(of.revenue)}
    churn = {one.month: one for one in together(of.churn)}
    margin = {one.month: one for one in together(of.margins)}
    users = _by_month(of.monthly_active, lambda one: one.users)
    mrr = {month: one.mrr_microusd for month, one in revenue.items()}
    now = revenue.get(last)
    tiles = [
        Tile("Monthly recurring revenue", _dollars(mrr.get(last, 0)), _than(mrr, last, before)),
        Tile(
            "Paid subscriptions",
            f"{now.subscriptions if now else 0:,}",
            f"{now.seats if now else 0:,} seats",
        ),
        Tile("Active users this month", f"{users.get(last, 0):,}", _than(users, last, before)),
    ]
    settled = before or last
    lost = churn.get(settled, Churn(settled, ""))
    tiles.append(
        Tile(
            f"Churn in {_name(settled)}",
            _percent(lost.logo_churn * 100),
            f"{_percent(lost.revenue_churn * 100)} of revenue",
        )
    )
    made = margin.get(last)
    tiles.append(
        Tile(
            "Margin this month",
            _dollars(made.margin_microusd if made else 0),
            f"{_percent((made.share if made else 0) * 100)} of revenue",
        )
    )
    return tiles


def _than(values: dict[date, int], last: date, before: date | None) -> str:
    if before is None or not values.get(before):
        return "nothing to compare with"
    change = (values.get(last, 0) / values[before] - 1) * 100
    return f"{change:+.1f} % on {_name(before)}"


def _figures(of: Overview) -> list[Figure]:
    months = list(of.months)
    tiers = _known_tiers(of)
    recognised = {(one.month, one.tier): one.recognised_microusd for one in of.revenue}
    mrr = {(one.month, one.tier): one.mrr_microusd for one in of.revenue}
    users = {(one.begins, one.tier): one.users for one in of.monthly_active}
    paid = [
        tier
        for tier in tiers
        if any(mrr.get((m, tier)) or recognised.get((m, tier)) for m in months)
    ]
    return [
        _money_by_tier(
            "Recurring revenue",
            "What the subscriptions at each month's end bring a month, by tier.",
            months,
            paid,
            mrr,
        ),
        _money_by_tier(
            "Recognised revenue",
            "What of the charges was earned in each month, by tier.",
            months,
            paid,
            recognised,
        ),
        _users_by_tier(months, tiers, users),
        _daily_users(of),
        _conversion(of),
        _churn(of),
        _margin(of),
        _costs(of.costs),
    ]


def _known_tiers(of: Overview) -> list[str]:
    found = {one.tier for one in of.revenue} | {one.tier for one in of.monthly_active}
    ranked = [tier for tier in TIERS if tier in found]
    return ranked + sorted(found - set(ranked))


def _money_by_tier(
    title: str,
    meaning: str,
    months: Sequence[date],
    tiers: Sequence[str],
    values: dict[tuple[date, str], int],
) -> Figure:
    series = [
        Series(tier, [values.get((month, tier), 0) / _MILLION for month in months], _color(tier))
        for tier in tiers
    ]
    drawing = Drawing(
        f"{title} by month and tier, in dollars.", _labels(months), series, dollars_at
    )
    rows = [
        [
            _name(month),
            *(_dollars(values.get((month, tier), 0)) for tier in tiers),
            _dollars(sum(values.get((month, tier), 0) for tier in tiers)),
        ]
        for month in months
    ]
    return _figure(title, meaning, stacked_bars, drawing, ["Month", *tiers, "Total"], rows)


def _users_by_tier(
    months: Sequence[date], tiers: Sequence[str], users: dict[tuple[date, str], int]
) -> Figure:
    series = [
        Series(tier, [users.get((month, tier), 0) for month in months], _color(tier))
        for tier in tiers
    ]
    drawing = Drawing(
        "Active users by month and tier.", _labels(months), series, _count, whole=True
    )
    rows = [
        [
            _name(month),
            *(f"{users.get((month, tier), 0):,}" for tier in tiers),
            f"{sum(users.get((month, tier), 0) for tier in tiers):,}",
        ]
        for month in months
    ]
    meaning = "Users with a request in the month, by the tier of their last one."
    head = ["Month", *tiers, "Total"]
    return _figure("Monthly active users", meaning, stacked_bars, drawing, head, rows)


def _daily_users(of: Overview) -> Figure:
    known = {one.begins: one.users for one in of.active}
    days = _days(of)
    counts = [known.get(day, 0) for day in days]
    drawing = Drawing(
        "Active users by day.",
        [f"{day.day} {day:%b}" for day in days],
        [Series("users", counts)] if days else [],
        _count,
        whole=True,
    )
    rows = [[f"{day:%Y-%m-%d}", f"{count:,}"] for day, count in zip(days, counts, strict=True)]
    meaning = "Users with a request on the day; up to yesterday."
    return _figure("Daily active users", meaning, lines, drawing, ["Day", "Users"], rows)


def _days(of: Overview) -> list[date]:
    """Whole ones: today would look like a fall."""
    ends = of.months.spans[-1][1].date().toordinal()
    return [date.fromordinal(day) for day in range(of.months.first.toordinal(), ends)]


def _conversion(of: Overview) -> Figure:
    within = CONVERTED_WITHIN.days
    drawing = Drawing(
        f"Share of new users who paid within {within} days, by the month they came in.",
        [_short(one.cohort) + ("" if one.is_complete else " *") for one in of.conversion],
        [Series("paid", [one.share * 100 for one in of.conversion])],
        _percent_axis,
    )
    rows = [
        [
            _name(one.cohort) + ("" if one.is_complete else " *"),
            f"{one.users:,}",
            f"{one.converted:,}",
            _percent(one.share * 100),
        ]
        for one in of.conversion
    ]
    return _figure(
        "Conversion from free",
        f"Users first seen in a month who paid within {within} days. * not all had that long yet.",
        bars,
        drawing,
        ["Cohort", "Users", "Paid", "Share"],
        rows,
    )


def _churn(of: Overview) -> Figure:
    months = list(of.months)
    known = {one.month: one for one in together(of.churn)}
    listed = [known.get(month, Churn(month, "")) for month in months]
    drawing = Drawing(
        "Churn of subscriptions and of revenue by month.",
        _labels(months),
        [
            Series("left", [share(one.left_voluntary, one.at_start) * 100 for one in listed]),
            Series("left unpaid", [share(one.left_unpaid, one.at_start) * 100 for one in listed]),
            Series("revenue lost", [one.revenue_churn * 100 for one in listed]),
        ],
        _percent_axis,
    )
    rows = [
        [
            _name(one.month),
            f"{one.at_start:,}",
            f"{one.left_voluntary:,}",
            f"{one.left_unpaid:,}",
            _percent(one.logo_churn * 100),
            _dollars(one.lost_microusd),
            _percent(one.revenue_churn * 100),
        ]
        for one in listed
    ]
    head = ["Month", "At start", "Left", "Left unpaid", "Churn", "Revenue lost", "of revenue"]
    meaning = "Of the subscriptions that were paid for when the month began."
    return _figure("Churn", meaning, bars, drawing, head, rows)


def _margin(of: Overview) -> Figure:
    months = list(of.months)
    known = {one.month: one for one in together(of.margins)}
    listed = [known.get(month) for month in months]
    drawing = Drawing(
        "Revenue, cost and margin by month, in dollars.",
        _labels(months),
        [
            Series("revenue", [(one.revenue_microusd if one else 0) / _MILLION for one in listed]),
            Series("cost", [(one.cost_microusd if one else 0) / _MILLION for one in listed]),
            Series("margin", [(one.margin_microusd if one else 0) / _MILLION for one in listed]),
        ],
        dollars_at,
    )
    rows = [
        [
            _name(month),
            _dollars(one.subscriptions_microusd if one else 0),
            _dollars(one.usage_fees_microusd if one else 0),
            f"{one.requests if one else 0:,}",
            _dollars(one.cost_microusd if one else 0),
            _dollars(one.margin_microusd if one else 0),
            _percent((one.share if one else 0) * 100),
        ]
        for month, one in zip(months, listed, strict=True)
    ]
    head = ["Month", "Subscriptions", "Usage fees", "Requests", "Cost", "Margin", "Share"]
    meaning = "Recognised revenue and fees for usage, less our own cost per request."
    return _figure("Margin", meaning, bars, drawing, head, rows)


def _costs(usage: Sequence[TotalUsage]) -> Figure:
    by_cost = sorted(usage, key=lambda one: one.known_cost_microusd, reverse=True)
    models: dict[str, dict[str, int]] = {}
    for one in by_cost:
        costs = models.setdefault(str(one.keys[Facet.MODEL]), {})
        operation = str(one.keys[Facet.OPERATION])
        costs[operation] = costs.get(operation, 0) + one.known_cost_microusd
    shown = sorted(models.items(), key=lambda pair: -sum(pair[1].values()))[:_MOST_MODELS]
    shown = [(model, costs) for model, costs in shown if sum(costs.values())]
    operations = sorted({operation for _, costs in shown for operation in costs})
    drawing = Drawing(
        "What vendors charged by model and operation, in dollars.",
        [model for model, _ in shown],
        [
            Series(operation, [costs.get(operation, 0) / _MILLION for _, costs in shown])
            for operation in operations
        ],
        dollars_at,
    )
    rows = [
        [
            str(one.keys[Facet.PROVIDER]),
            str(one.keys[Facet.MODEL]),
            str(one.keys[Facet.OPERATION]),
            f"{one.requests:,}",
            f"{one.unpriced_requests:,}",
            "unknown" if one.vendor_cost_microusd is None else _dollars(one.vendor_cost_microusd),
            _dollars(one.usage_fee_microusd),
        ]
        for one in by_cost
    ]
    head = ["Provider", "Model", "Operation", "Requests", "Without price", "Vendor cost", "Our fee"]
    meaning = f"On users' own keys, as far as prices are known; the {_MOST_MODELS} dearest models."
    return _figure("Vendor cost", meaning, lying_bars, drawing, head, rows)


def _cohorts(
    retention: Sequence[Retention],
) -> tuple[list[str], list[tuple[str, str, list[Cell]]]]:
    by_cohort: dict[date, list[Retention]] = {}
    for one in retention:
        by_cohort.setdefault(one.cohort, []).append(one)
    longest = max(map(len, by_cohort.values()), default=0)
    rows = []
    for cohort, parts in by_cohort.items():
        cells = [
            Cell(f"{one.share * 100:.0f} %" if one.users else "–", round(one.share * _HEATS))
            for one in parts
        ]
        rows.append(
            (_name(cohort), f"{parts[0].users:,}", cells + [Cell()] * (longest - len(cells)))
        )
    return [f"Month {later}" for later in range(longest)], rows


def _figure(
    title: str,
    meaning: str,
    draw: Callable[[Drawing], Markup],
    drawing: Drawing,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> Figure:
    is_empty = not any(value for one in drawing.series for value in one.values)
    return Figure(title, meaning, None if is_empty else draw(drawing), head, rows)


def _by_month(active: Iterable[Active], count: Callable[[Active], int]) -> dict[date, int]:
    found: dict[date, int] = {}
    for one in active:
        found[one.begins] = found.get(one.begins, 0) + count(one)
    return found


def _labels(months: Sequence[date]) -> list[str]:
    return [_short(month) for month in months]


def _short(month: date) -> str:
    return f"{month:%b} {month:%y}"


def _name(month: date) -> str:
    return f"{month:%B %Y}"


def _month(month: date) -> str:
    return f"{month:%Y-%m}"


def _dollars(microusd: int) -> str:
    sign = "−" if microusd < 0 else ""
    return f"{sign}${abs(microusd) / _MILLION:,.2f}"


def dollars_at(dollars: float) -> str:
    """What stands at a scale: below a dollar with three digits, so that no step is rounded away."""
    sign, amount = "−" if dollars < 0 else "", abs(dollars)
    if amount >= 10_000:
        return f"{sign}${amount / 1000:,.4g}k"
    if amount == int(amount):
        return f"{sign}${amount:,.0f}"
    if amount >= 1:
        return f"{sign}${amount:,.2f}"
    text = f"{amount:.{2 - math.floor(math.log10(amount))}f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"{sign}${whole}.{decimals:0<2}"


def _percent(number: float) -> str:
    return f"{number:.1f} %"


def _percent_axis(number: float) -> str:
    return f"{round(number, 1):g} %"


def _color(tier: str) -> int:
    """Tiers have a colour each; of those that are in no table any more, one together."""
    ranks = list(TIERS)
    return (_FREE, 0, 1, 2, 3)[ranks.index(tier)] if tier in ranks[:5] else 4


def _count(number: float) -> str:
    return f"{number:,.0f}"
