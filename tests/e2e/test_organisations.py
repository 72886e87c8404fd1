"""An organisation from its founding to a lost seat, through the whole suite."""

from __future__ import annotations

import email
import re
from collections.abc import AsyncIterator
from email import policy
from typing import Any

import pytest

from tests.support.suite import Person, Suite, a_person, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
async def ben(suite: Suite) -> AsyncIterator[Person]:
    """Somebody who is to be invited."""
    person = a_person(suite)
    await person.register()
    yield person
    await person.client.aclose()


async def mailed_token(suite: Suite, person: Person, page: str) -> str:
    """The token in the newest mail to a person that leads to a page."""

    async def look() -> list[str]:
        found = []
        for path in sorted(suite.installation.data.mail.glob("*.eml")):
            message = email.message_from_bytes(path.read_bytes(), policy=policy.default)
            if message["To"] == f"{person.name}@example.com":
                text = message.get_body(("plain",))
                assert text is not None
                found += re.findall(rf"/oauth/{page}\?token=([\w-]+)", text.get_content())
        return found

    return (await eventually(look, bool))[-1]


async def confirm_address(suite: Suite, person: Person) -> None:
    token = await mailed_token(suite, person, "verify-email")
    answer = await person.client.post("/auth/verify-email", json={"token": token})
    assert answer.status_code == 204, answer.text


async def next_token(person: Person) -> dict[str, Any]:
    user = await person.refresh()
    return {name: user[name] for name in ("tier", "organisation", "organisation_role")}


async def buy(owner: Person, firm: str, seats: int) -> None:
    body = {"tier": "enterprise", "seats": seats, "organisation_id": firm}
    answer = await owner.client.put("/billing/subscription", json=body)
    assert answer.status_code == 200, answer.text

    async def seats_known() -> int:
        return int((await owner.client.get(f"/auth/organisations/{firm}")).json()["seats"])

    await eventually(seats_known, lambda seen: seen == seats)


async def test_a_seat_brings_the_tier_and_takes_it_away(
    suite: Suite, grace: Person, ben: Person
) -> None:
    founded = await grace.client.post("/auth/organisations", json={"name": "Analytical Engines"})
    assert founded.status_code == 201, founded.text
    firm = founded.json()["id"]
    await buy(grace, firm, seats=2)
    assert await next_token(grace) == {
        "tier": "enterprise",
        "organisation": firm,
        "organisation_role": "owner",
    }

    await confirm_address(suite, ben)
    invited = await grace.client.post(
        f"/auth/organisations/{firm}/invitations", json={"email": f"{ben.name}@example.com"}
    )
    assert invited.status_code == 201, invited.text
    token = await mailed_token(suite, ben, "accept-invitation")
    joined = await ben.client.post(f"/auth/invitations/{token}/accept")
    assert joined.json() == {"organisation": firm, "role": "member", "seated": True}
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
