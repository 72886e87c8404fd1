"""`/billing/admin/dashboard`: the billing team's charts, for a browser.

A browser has no token in its address bar. So whoever has one asks for a link, which lets one
browser in, once, for as long as a visit lasts.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from services.billing.api.dashboard_page import complaint, dashboard, door
from services.billing.api.dependencies import BillingStaff, ServiceActions, read_moment
from services.billing.domain.dashboard import LINK_LASTS, VISIT_LASTS
from services.billing.domain.errors import BadPeriod, DashboardClosed, DashboardLinkOver
from shared.errors import SessionEnded
from shared.http.problems import problems
from shared.news.ended_sessions import EndedSessions

router = APIRouter(prefix="/billing/admin/dashboard", tags=["billing team"])

_PATH = "/billing/admin/dashboard"
# With this prefix browsers take it over https (or loopback) only.
_COOKIE = "__Secure-companion-dashboard"
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_MOST_FIELDS = 10
_FORM = "application/x-www-form-urlencoded"
_HTML: dict[str, Any] = {"content": {"text/html": {}}}
_PAGE: dict[int | str, dict[str, Any]] = {
    200: {"description": "A page.", **_HTML},
    401: {"description": "A page that says so.", **_HTML},
}
_BAD_PERIOD: dict[int | str, dict[str, Any]] = {
    422: {"description": "The page, with what is wrong.", **_HTML}
}


class DashboardLinkBody(BaseModel):
    """A link for one browser, behind the gateway's address. It works once."""

    path: str = Field(description="Holds a secret: not for logs, mails or chats.")
    expires_in: int = Field(description="Seconds.")
    visit_lasts: int = Field(description="Seconds that the browser is let in for.")


@router.post("/link", status_code=201, responses=problems(401, 403))
async def make_link(actions: ServiceActions, staff: BillingStaff) -> DashboardLinkBody:
    """A link that lets your browser see the dashboard for a while."""
    secret = await actions.open_dashboard.link(staff.identity.user_id, staff.identity.sign_in_id)
    return DashboardLinkBody(
        path=f"{_PATH}/open?token={secret}",
        expires_in=int(LINK_LASTS.total_seconds()),
        visit_lasts=int(VISIT_LASTS.total_seconds()),
    )


@router.get("/open", response_class=HTMLResponse, responses=_PAGE)
async def show_door(token: str = "") -> HTMLResponse:
    """A page with one button: what only looks at links does not use them up."""
    if not _SECRET.fullmatch(token):
        return _link_over()
    text = "This link opens the dashboard in this browser, once."
    return door("Billing dashboard", text, token=token)


@router.post(
    "/open",
    response_class=HTMLResponse,
    responses=_PAGE,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                _FORM: {
                    "schema": {
                        "type": "object",
                        "required": ["token"],
                        "properties": {"token": {"type": "string"}},
                    }
                }
            },
        }
    },
)
async def enter(request: Request, actions: ServiceActions) -> Response:
    """Use a link up: the browser is let in."""
    token = _token_in(await request.body())
    try:
        visit = await actions.open_dashboard.enter(token)
    except DashboardLinkOver:
        return _link_over()
    answer = RedirectResponse(_PATH, 303, headers={"cache-control": "no-store"})
    answer.set_cookie(
        _COOKIE,
        visit,
        path=_PATH,
        max_age=int(VISIT_LASTS.total_seconds()),
        secure=True,
        httponly=True,
        samesite="strict",
    )
    return answer


@router.get("", response_class=HTMLResponse, responses=_PAGE | _BAD_PERIOD)
async def show_dashboard(
    request: Request,
    actions: ServiceActions,
    begins: Annotated[str, Query(alias="from", description="A month.")] = "",
    ends: Annotated[str, Query(alias="to", description="A month.")] = "",
) -> HTMLResponse:
    """Charts of whole months, by default of the last six; for a browser that a link let in."""
    ended: EndedSessions = request.app.state.ended_sessions
    try:
        visit = await actions.open_dashboard.visit(request.cookies.get(_COOKIE, ""))
        # Whoever signed out is out of here, too.
        await ended.check(visit.sign_in_id)
    except (DashboardClosed, SessionEnded):
        return door(
            "The dashboard is closed",
            "It is opened by a link, which the billing team asks for with "
            "POST /billing/admin/dashboard/link.",
            status=401,
        )
    try:
        overview = await actions.analyse.overview(_month(begins), _end_of(ends))
    except BadPeriod as refusal:
        return complaint(refusal.message, begins, ends)
    return dashboard(overview)


def _token_in(form: bytes) -> str:
    try:
        fields = parse_qs(form.decode("ascii"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        return ""
    return fields.get("token", [""])[0]


def _link_over() -> HTMLResponse:
    return door("This link is over", DashboardLinkOver().message, status=401)


def _month(text: str) -> dt.datetime | None:
    if not text:
        return None
    if not _MONTH.fullmatch(text):
        raise BadPeriod("Write a month as 2026-01.")
    return read_moment(f"{text}-01")


def _end_of(text: str) -> dt.datetime | None:
    first = _month(text)
    return None if first is None else (first + dt.timedelta(days=31)).replace(day=1)
