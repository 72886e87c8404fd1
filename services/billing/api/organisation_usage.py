"""`/billing/organisations/{organisation_id}/usage`: what an organisation's keys were spent on."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from services.billing.api.dependencies import (
    AskedPeriod,
    AskedSandbox,
    ServiceActions,
    all_of,
    some_of,
)
from services.billing.api.usage import SumsBody, numbers_of
from services.billing.domain.organisation_usage import (
    Key,
    KeyDimension,
    KeyGroup,
    OrganisationUsage,
)
from services.billing.domain.usage_report import dimensions_named
from shared.http.caller import SignedIn
from shared.http.pages import Page, cursor_of, read_cursor
from shared.http.problems import problems

router = APIRouter(prefix="/billing/organisations/{organisation_id}", tags=["usage"])

_KINDS: Mapping[KeyDimension, Callable[[str], Key]] = {
    KeyDimension.MEMBER: UUID,
    KeyDimension.DAY: dt.date.fromisoformat,
}


class MemberGroupBody(SumsBody):
    """The sums of one combination of what was grouped by; only those keys are there. `member`: the
    id of whoever called, also of who has left since."""

    member: UUID | None = None
    day: dt.date | None = None
    provider: str | None = None
    model: str | None = None
    operation: str | None = None


class OrganisationUsageBody(Page[MemberGroupBody]):
    """What ran on the organisation's keys in a period of whole hours; `totals` is of all pages."""

    organisation_id: UUID
    period_from: dt.datetime
    period_to: dt.datetime
    totals: SumsBody

    @classmethod
    def telling(
        cls,
        organisation_id: UUID,
        usage: OrganisationUsage,
        dimensions: Sequence[KeyDimension],
        limit: int,
    ) -> OrganisationUsageBody:
        page = Page.of(usage.spending.groups, limit, _cursor)
        return cls(
            organisation_id=organisation_id,
            period_from=usage.period.begins,
            period_to=usage.period.ends,
            data=[_body(group, dimensions) for group in page.data],
            totals=SumsBody(**numbers_of(usage.spending.totals)),
            next_cursor=page.next_cursor,
        )


@router.get(
    "/usage",
    response_model=OrganisationUsageBody,
    response_model_exclude_unset=True,
    responses=problems(
        401,
        503,
        _403="usage_admin_required",
        _404="organisation_usage_not_found",
        _422="bad_period, bad_grouping, bad_cursor",
    ),
)
async def report_organisation_usage(
    organisation_id: UUID,
    actions: ServiceActions,
    caller: SignedIn,
    period: AskedPeriod,
    group_by: Annotated[str, some_of(KeyDimension)] = all_of(KeyDimension),
    sandbox: AskedSandbox = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 200,
    # A cursor holds the names of a provider and a model, of hundreds of letters each.
    cursor: Annotated[
        str | None, Query(max_length=10_000, description="The last page's `next_cursor`.")
    ] = None,
) -> OrganisationUsageBody:
    """What an organisation's own keys at the vendors were spent on, by member, day, provider, model
    and operation; by default this month. For its owners and admins. What members used on keys of
    their own is not in it, nor is anything that was said."""
    dimensions = dimensions_named(group_by, KeyDimension)
    usage = await actions.report_organisation_usage(
        organisation_id,
        by=caller.identity.user_id,
        begins=period.begins,
        ends=period.ends,
        dimensions=dimensions,
        sandbox=sandbox,
        after=_after(cursor, dimensions) if cursor else None,
        most=limit + 1,
    )
    return OrganisationUsageBody.telling(organisation_id, usage, dimensions, limit)


def _body(group: KeyGroup, dimensions: Sequence[KeyDimension]) -> MemberGroupBody:
    keys: dict[str, Any] = dict(zip(dimensions, group.keys, strict=True))
    return MemberGroupBody(**keys, **numbers_of(group.sums))


def _cursor(group: KeyGroup) -> str:
    return cursor_of(json.dumps([str(key) for key in group.keys]))


def _after(cursor: str, dimensions: Sequence[KeyDimension]) -> tuple[Key, ...]:
    """Raises BadCursor."""
    (keys,) = read_cursor(cursor, partial(_keys_in, dimensions))
    return tuple(keys)


def _keys_in(dimensions: Sequence[KeyDimension], text: str) -> tuple[Key, ...]:
    """Raises ValueError."""
    try:
        parts = json.loads(text)
    except RecursionError as error:
        raise ValueError("no list of keys") from error
    if not isinstance(parts, list):
        raise ValueError("no list of keys")
    return tuple(
        _KINDS.get(dimension, _name)(part)
        for dimension, part in zip(dimensions, map(_text, parts), strict=True)
    )


def _text(part: object) -> str:
    if not isinstance(part, str):
        raise ValueError("no key")
    return part


def _name(text: str) -> str:
    text.encode()  # raises ValueError for what is no character, and no database takes
    if "\x00" in text:
        raise ValueError("no name")
    return text
