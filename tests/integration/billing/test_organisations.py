"""An organisation's subscription through billing's doors, with auth on the other side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from services.billing.settings import Settings
from services.billing.storage.unit_of_work import SqlWork
from services.billing.tasks.on_organisation import end_subscriptions
from shared.clock import SystemClock
from shared.erasure import ErasureId
from shared.events import Fact
from shared.events.organisation import OrganisationDeleted
from shared.ids import UserId
from tests.integration.billing.harness import Billing, actions_on, running_billing
from tests.integration.billing.organisations import Place, StandInAuth
from tests.support.problems import code_of
from tests.support.tokens import TokenMint


@pytest_asyncio.fixture(scope="module")
async def shop(
    engines: dict[str, str],
    settings: Callable[..., Settings],
    mint: TokenMint,
    auth: tuple[StandInAuth, str],
) -> AsyncIterator[Billing]:
    """Billing in a sandbox, beside auth."""
    given = settings(**engines, sandbox=True, auth_internal_url=auth[1])
    async with running_billing(given, mint) as billing:
        yield billing


def an_order(organisation: UUID, seats: int = 3) -> dict[str, Any]:
    return {"tier": "enterprise", "seats": seats, "organisation_id": str(organisation)}


@pytest.mark.parametrize("role", ["owner", "admin", "billing"])
async def test_who_decides_buys_for_the_organisation_and_not_for_themselves(
    shop: Billing, members: dict[Place, str], role: str
) -> None:
    firm, ada = uuid4(), uuid4()
    members[firm, ada] = role
    bought = await shop.send("PUT", "subscription", ada, json=an_order(firm))
    assert bought.status_code == 200, bought.text
    assert (bought.json()["organisation_id"], bought.json()["seats"]) == (str(firm), 3)
    own = (await shop.get("subscription", ada)).json()
    assert (own["tier"], own["organisation_id"]) == ("free", None)
    shown = await shop.get("subscription", ada, params={"organisation_id": str(firm)})
    assert shown.json().items() <= bought.json().items()
    [row] = await shop.database.fetch(
        "select envelope from outbox where envelope ->> 'subject' = $1", str(firm)
    )
    assert row["envelope"]["data"] == {
        "user_id": str(ada),
        "tier_name": "enterprise",
        "seats": 3,
        "revision": 1,
        "organisation_id": str(firm),
        "next_seats": None,
    }


async def test_auth_is_believed_and_not_the_token(
    shop: Billing, members: dict[Place, str], mint: TokenMint
) -> None:
    firm, ada = uuid4(), uuid4()
    claims = {"org": str(firm), "org_role": "owner"}
    headers = mint.headers(ada, **claims)
    order: dict[str, Any] = {"json": an_order(firm), "headers": headers}
    # Removed a minute ago; then back, as a plain member.
    removed = await shop.public.put("/billing/subscription", **order)
    assert code_of(removed) == (404, "subscription_not_found")
    members[firm, ada] = "member"
    demoted = await shop.public.put("/billing/subscription", **order)
    assert code_of(demoted) == (403, "organisation_billing_required")
    looked = await shop.public.get(
        "/billing/subscription", params={"organisation_id": str(firm)}, headers=headers
    )
    assert code_of(looked) == (403, "organisation_billing_required")


async def test_one_organisation_never_reaches_anothers_subscription(
    shop: Billing, members: dict[Place, str]
) -> None:
    firm, other, ada, grace = (uuid4() for _ in range(4))
    members[firm, ada] = members[other, grace] = "owner"
    await shop.send("PUT", "subscription", grace, json=an_order(other, seats=7))
    refused = await shop.send("PUT", "subscription", ada, json=an_order(other, seats=1))
    assert code_of(refused) == (404, "subscription_not_found")
    unseen = await shop.get("subscription", ada, params={"organisation_id": str(other)})
    assert code_of(unseen) == (404, "subscription_not_found")
    # Somebody's own subscription is no organisation's either.
    theirs = await shop.send("PUT", "subscription", ada, json=an_order(grace, seats=1))
    assert code_of(theirs) == (404, "subscription_not_found")
    kept = await shop.get("subscription", grace, params={"organisation_id": str(other)})
    assert kept.json()["seats"] == 7


@pytest.mark.parametrize("status", [404, 401, 403, 500, 503])
async def test_when_auth_can_not_say_nobody_buys(
    shop: Billing, auth: tuple[StandInAuth, str], status: int
) -> None:
    firm, ada = uuid4(), uuid4()
    auth[0].members[firm, ada] = "owner"
    auth[0].failing = status
    try:
        answer = await shop.send("PUT", "subscription", ada, json=an_order(firm))
    finally:
        auth[0].failing = None
    assert code_of(answer) == (503, "dependency_unavailable")


async def test_without_auth_only_organisations_are_away(billing: Billing) -> None:
    ada = uuid4()
    answer = await billing.send("PUT", "subscription", ada, json=an_order(uuid4()))
    assert code_of(answer) == (503, "dependency_unavailable")
    assert (await billing.get("subscription", ada)).status_code == 200


@pytest.mark.parametrize("org_role", ["owner", "billing"])
async def test_a_role_in_an_organisation_is_none_of_the_operators(
    shop: Billing, members: dict[Place, str], mint: TokenMint, org_role: str
) -> None:
    firm, ada = uuid4(), uuid4()
    members[firm, ada] = org_role
    headers = mint.headers(ada, role="member", org=str(firm), org_role=org_role)
    for method, path in [
        ("PUT", f"admin/subscriptions/{firm}"),
        ("PUT", f"admin/subscriptions/{ada}"),
        ("POST", "admin/prices"),
        ("GET", "admin/reconciliation"),
    ]:
        body = None if method == "GET" else {"tier": "pro"}
        answer = await shop.public.request(method, f"/billing/{path}", headers=headers, json=body)
        assert code_of(answer) == (403, "not_billing_staff"), path


async def test_a_personal_token_changes_no_subscription(
    shop: Billing, members: dict[Place, str], mint: TokenMint
) -> None:
    firm, ada = uuid4(), uuid4()
    members[firm, ada] = "owner"
    headers = mint.headers(ada, scope="billing:read chat", amr=["pat"])
    for body in ({"tier": "pro"}, an_order(firm)):
        answer = await shop.public.put("/billing/subscription", json=body, headers=headers)
        assert code_of(answer) == (403, "scope_missing")
    assert (await shop.public.get("/billing/subscription", headers=headers)).status_code == 200


async def test_the_billing_team_gives_an_organisation_a_tier(
    shop: Billing, members: dict[Place, str]
) -> None:
    firm, ada, staff = uuid4(), uuid4(), uuid4()
    members[firm, ada] = "billing"
    path, body = f"admin/subscriptions/{firm}", {"tier": "enterprise", "seats": 40}
    given = await shop.send("PUT", path, staff, role="billing", json={**body, "organisation": True})
    assert given.json()["organisation_id"] == str(firm)
    mixed_up = await shop.send("PUT", path, staff, role="billing", json=body)
    assert code_of(mixed_up) == (404, "subscription_not_found")
    seen = await shop.get("subscription", ada, params={"organisation_id": str(firm)})
    assert seen.json()["seats"] == 40


async def test_what_a_deleted_organisation_had_ends(
    shop: Billing, members: dict[Place, str]
) -> None:
    firm, ada = uuid4(), uuid4()
    members[firm, ada] = "owner"
    await shop.send("PUT", "subscription", ada, json=an_order(firm, seats=9))
    actions = actions_on(lambda: SqlWork(shop.database), shop.settings, SystemClock())
    event = OrganisationDeleted(organisation_id=firm, user_id=ada, decided=(ada,))
    for _delivery in range(2):
        await end_subscriptions([Fact(event=event, subject=firm, tier="enterprise")], actions)
    rows = await shop.database.fetch(
        "select tier, seats, revision from subscription_change where user_id = $1"
        " order by revision",
        firm,
    )
    assert [tuple(row.values()) for row in rows] == [("enterprise", 9, 1), ("free", 1, 2)]
    del members[firm, ada]
    of_firm = {"organisation_id": str(firm)}
    for what in ("charges", "invoices", "credit-notes", "balance"):
        assert (await shop.get(what, ada, params=of_firm)).status_code == 200, what
        unseen = await shop.get(what, uuid4(), params=of_firm)
        assert code_of(unseen) == (404, "subscription_not_found")
    bought = await shop.send("PUT", "subscription", ada, json=an_order(firm))
    assert code_of(bought) == (404, "subscription_not_found")
    await actions.forget_user.begin([(UserId(ada), ErasureId(uuid4()))])
    unseen = await shop.get("invoices", ada, params=of_firm)
    assert code_of(unseen) == (404, "subscription_not_found")


@pytest.mark.parametrize("path", ["usage", "usage/records", "limits", "alerts"])
async def test_nobodys_own_usage_is_shown_as_an_organisations(shop: Billing, path: str) -> None:
    ada = uuid4()
    refused = await shop.get(path, ada, params={"organisation_id": str(uuid4())})
    assert code_of(refused) == (422, "own_usage_only")
    assert (await shop.get(path, ada)).status_code == 200
