"""An organisation from its founding to a lost seat, through the whole suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.suite import Person, Suite, a_person, eventually
from tests.support.suite_organisations import buy, found, join

pytestmark = pytest.mark.e2e


@pytest.fixture
async def ben(suite: Suite) -> AsyncIterator[Person]:
    """Somebody who is to be invited."""
    person = a_person(suite)
    await person.register()
    yield person
    await person.client.aclose()


async def next_token(person: Person) -> dict[str, Any]:
    user = await person.refresh()
    return {name: user[name] for name in ("tier", "organisation", "organisation_role")}


async def test_a_seat_brings_the_tier_and_takes_it_away(
    suite: Suite, grace: Person, ben: Person
) -> None:
    firm = await found(grace, "Analytical Engines")
    await buy(grace, firm, seats=2)
    assert await next_token(grace) == {
        "tier": "enterprise",
        "organisation": firm,
        "organisation_role": "owner",
    }

    await join(suite, grace, firm, ben)
    assert (await next_token(ben))["tier"] == "enterprise"

    # A member decides nothing about money, in the organisation or here.
    body = {"tier": "free", "organisation_id": firm}
    refused = await ben.client.put("/billing/subscription", json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "organisation_billing_required")
    admin = await grace.client.get("/billing/admin/reconciliation")
    assert (admin.status_code, admin.json()["code"]) == (403, "not_billing_staff")

    await buy(grace, firm, seats=1)
    assert await next_token(ben) == {
        "tier": "free",
        "organisation": firm,
        "organisation_role": "member",
    }
    assert (await next_token(grace))["tier"] == "enterprise"

    dissolved = await grace.client.delete(f"/auth/organisations/{firm}")
    assert dissolved.status_code == 204
    assert await next_token(ben) == {
        "tier": "free",
        "organisation": None,
        "organisation_role": None,
    }

    async def what_is_sold() -> list[tuple[Any, ...]]:
        sql = "select tier, seats from subscription where user_id = %s and is_organisation"
        return suite.rows("billing", sql, firm)

    await eventually(what_is_sold, lambda rows: rows == [("free", 1)])
