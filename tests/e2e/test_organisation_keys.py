"""A key that an organisation shares: one stores it, another talks with it, nobody reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from tests.support.suite import Person, Suite, a_person, eventually
from tests.support.suite_organisations import buy, found, join

pytestmark = pytest.mark.e2e


@pytest.fixture
async def ben(suite: Suite) -> AsyncIterator[Person]:
    """Somebody who joins and has no key."""
    person = a_person(suite)
    await person.register()
    yield person
    await person.client.aclose()


async def usable_models(person: Person) -> set[str]:
    models = (await person.client.get("/chat/models")).json()["data"]
    # The operator's own server is there for everybody.
    return {model["provider"] for model in models if model["usable"]} - {"compatible"}


async def test_a_seated_member_talks_with_the_organisations_key_which_nobody_reads(
    suite: Suite, grace: Person, ben: Person
) -> None:
    firm = await found(grace, "Difference Engines")
    await buy(grace, firm, seats=2)
    await join(suite, grace, firm, ben)
    for person in (grace, ben):
        await person.refresh()
    await ben.start_session()
    assert (await ben.ask("hello")).json()["code"] == "no_usable_key"

    path, secret = f"/keys/organisations/{firm}", f"marked-key-{uuid4().hex}"
    refused = await ben.client.put(f"{path}/openai", json={"api_key": secret})
    assert (refused.status_code, refused.json()["code"]) == (403, "organisation_key_admin_required")
    stored = await grace.client.put(f"{path}/openai", json={"api_key": secret})
    assert stored.status_code == 202, stored.text

    async def state() -> dict[str, Any]:
        return dict((await grace.client.get(f"{path}/openai")).json())

    await eventually(state, lambda key: key["status"] == "valid")

    async def models() -> set[str]:
        return await usable_models(ben)

    await eventually(models, lambda seen: seen == {"openai"})
    suite.simulator.forget_served()
    answer = await ben.ask("what is a difference engine?")
    assert answer.status_code == 200, answer.text
    assert len(suite.simulator.served(key=secret)) == 1

    # The key admins see who it was, the member sees what was done for them, nobody sees the key.
    trail = await grace.client.get(f"{path}/audit")
    used = [line for line in trail.json()["data"] if line["kind"] == "used"]
    request_id = answer.headers["x-request-id"]
    assert [(line["user_id"], line["service"], line["request_id"]) for line in used] == [
        (ben.id, "chat", request_id)
    ]
    own = await ben.client.get("/keys/audit")
    assert own.json()["data"] == used
    shown = [await grace.client.get(f"{path}{end}") for end in ("", "/openai")]
    shown += [trail, own, stored, await ben.client.get("/keys"), await grace.client.get("/keys")]
    assert all(secret not in answer.text for answer in shown)
    for end in ("", "/openai", "/audit"):
        assert (await ben.client.get(f"{path}{end}")).status_code == 403

    # What the key was spent on, too: the owner sees it, the member which of their calls that was.
    spent = f"/billing/organisations/{firm}/usage"

    async def usage() -> dict[str, Any]:
        return dict((await grace.client.get(spent, params={"group_by": "member,provider"})).json())

    seen = await eventually(usage, lambda body: body["totals"]["requests"] == 1)
    assert [(group["member"], group["provider"]) for group in seen["data"]] == [(ben.id, "openai")]
    assert seen["totals"]["cost_microusd"] == answer.json()["cost_microusd"]
    (record,) = (await ben.client.get("/billing/usage/records")).json()["data"]
    assert record["key_organisation_id"] == firm
    assert (await ben.client.get(spent)).json()["code"] == "usage_admin_required"

    # A key of their own goes first, and is nobody else's business.
    await ben.store_key()
    assert (await ben.ask("and on mine?")).status_code == 200

    async def records() -> list[dict[str, Any]]:
        return list((await ben.client.get("/billing/usage/records")).json()["data"])

    on_mine = (await eventually(records, lambda lines: len(lines) == 2))[0]
    assert on_mine["key_organisation_id"] is None
    assert (await usage())["totals"] == seen["totals"]
    assert (await ben.client.delete("/keys/openai")).status_code == 204

    # The token still says that there is a seat; the news that there is none is newer.
    unseated = await grace.client.patch(
        f"/auth/organisations/{firm}/members/{ben.id}", json={"seated": False}
    )
    assert unseated.status_code == 200, unseated.text

    async def code() -> str | None:
        # Without the seat the tier is free, of five questions a minute: not too many of them.
        await asyncio.sleep(0.8)
        code: str | None = (await ben.ask("and now?")).json().get("code")
        return code

    await eventually(code, lambda seen: seen == "no_usable_key", seconds=5)
    await ben.refresh()
    assert await usable_models(ben) == set()

    stranger = a_person(suite)
    await stranger.register()
    outside = await stranger.client.get(path)
    assert (outside.status_code, outside.json()["code"]) == (404, "organisation_keys_not_found")
    outside = await stranger.client.get(spent)
    assert (outside.status_code, outside.json()["code"]) == (404, "organisation_usage_not_found")
    await stranger.client.aclose()

    assert (await grace.client.delete(f"/auth/organisations/{firm}")).status_code == 204

    async def kept() -> list[tuple[Any, ...]]:
        sql = "select 1 from {} where owner_id = %s"
        tables = ("provider_key", "data_key", "audit_entry")
        return [row for t in tables for row in suite.rows("keyvault", sql.format(t), firm)]

    await eventually(kept, lambda rows: rows == [])
