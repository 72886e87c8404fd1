"""What routes are given: the verbs, who may ask, and which period, page and dimensions."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import AwareDatetime, Field

from services.billing.actions import Actions
from services.billing.domain.errors import BadPeriod, NotBillingStaff, OwnUsageOnly
from shared.http.caller import AlsoHolding, Caller
from shared.scopes import BILLING
from shared.values import dataclass

_STAFF = frozenset({"billing", "operator"})
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")


async def _actions(request: Request) -> Actions:
    actions: Actions = request.app.state.actions
    return actions


def is_billing_staff(caller: Caller) -> bool:
    """Whether the caller belongs to the operator's billing team."""
    return caller.identity.role in _STAFF


Payer = Annotated[Caller, Depends(AlsoHolding(BILLING))]
"""Whoever may change what is paid, and not only look."""


async def _billing_staff(caller: Payer) -> Caller:
    # A sign-in that was given to a program for reading has its owner's role all the same: so what
    # a payer must hold is asked of them, too.
    if not is_billing_staff(caller):
        raise NotBillingStaff
    return caller


async def _refuse_organisation(request: Request) -> None:
    # Were it ignored, an organisation's admin would take their own usage for the organisation's.
    if "organisation_id" in request.query_params:
        raise OwnUsageOnly


OWN_ONLY = Depends(_refuse_organisation)
"""On routes that show what users have, and organisations don't."""

ServiceActions = Annotated[Actions, Depends(_actions)]
BillingStaff = Annotated[Caller, Depends(_billing_staff)]
Cursor = Annotated[str | None, Query(max_length=500, description="The last page's `next_cursor`.")]
REPLAYED = {"idempotency-replayed": "true"}
"""What tells that this was the answer to an earlier request."""
Moment = Annotated[str | None, Query(max_length=40)]
NearMoment = Annotated[
    AwareDatetime, Field(ge=datetime(2000, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC))
]
"""In a body. Neither a zone nor a table can push it out of the calendar."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What `from` and `to` say."""

    begins: datetime | None
    ends: datetime | None


async def _bounds(
    begins: Annotated[
        Moment, Query(alias="from", description="RFC 3339, or a date: from its first moment on.")
    ] = None,
    ends: Annotated[
        Moment,
        Query(alias="to", description="RFC 3339 (not included), or a date: that day included."),
    ] = None,
) -> Bounds:
    return Bounds(
        begins=None if begins is None else read_moment(begins),
        ends=None if ends is None else read_moment(ends, end_of_day=True),
    )


AskedPeriod = Annotated[Bounds, Depends(_bounds)]
AskedSandbox = Annotated[
    bool | None, Query(description="Only usage of the sandbox, or only real usage.")
]
"""None for both."""


def some_of(known: type[StrEnum]) -> Any:
    """The parameter that names some of these, as `dimensions_named` reads it."""
    return Query(max_length=200, description=f"Some of `{all_of(known)}`, separated by commas.")


def all_of(known: type[StrEnum]) -> str:
    """What such a parameter says by default."""
    return ",".join(known)


def read_moment(text: str, *, end_of_day: bool = False) -> datetime:
    """A moment as clients write it; a date alone is its first moment, or the next day's. Raises
    BadPeriod."""
    try:
        if _DATE.match(text):
            day = datetime.fromisoformat(text).replace(tzinfo=UTC)
            moment = day + timedelta(days=1) if end_of_day else day
        else:
            # A plus sign that was not escaped in the URL arrives as a space.
            date, separator, time = text.partition("T")
            moment = datetime.fromisoformat(date + separator + time.replace(" ", "+"))
            if moment.tzinfo is None:
                raise BadPeriod("A moment needs its zone, for example `2026-11-24T10:00:00Z`.")
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadPeriod("`from` and `to` are RFC 3339 moments or dates.") from error
    if not 1 < moment.year < 9999:
        raise BadPeriod("This year is out of range.")
    return moment
