"""What the billing team looks up of one call, one payment, one event that is held."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx

from shared.erasure import ErasureId
from shared.ids import UserId
from tests.integration.billing.harness import Billing
from tests.integration.billing.test_outside_usage import Service, an_event
from tests.support.billing import a_usage


async def team(
    billing: Billing, method: str, path: str, *, staff: UUID | None = None, **options: Any
) -> httpx.Response:
    return await billing.send(method, f"admin/{path}", staff or uuid4(), role="billing", **options)


async def test_the_life_of_anybodys_call_is_shown_and_the_look_noted(billing: Billing) -> None:
    ada, staff = uuid4(), uuid4()
    usage = a_usage(user=ada)
    await billing.record(usage)
    path = f"usage/records/{usage.id}"
    own = (await billing.get(path, ada)).json()
    seen = await team(billing, "GET", path, staff=staff, params={"reason": "a question of hers"})
    assert seen.json() == {**own, "user_id": str(ada)}
    [look] = (await billing.get("looks", ada)).json()["data"]
    assert look["call"] == "GET /billing/admin/usage/records/{event_id}"
    assert look["reason"] == "a question of hers"

    refused = await billing.get(f"admin/{path}", ada)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_billing_staff")
    unknown = await team(billing, "GET", f"usage/records/{uuid4()}", staff=staff)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "usage_record_not_found")
    assert len((await billing.get("looks", ada)).json()["data"]) == 1


async def test_every_payment_of_a_holder_is_listed_whatever_became_of_it(billing: Billing) -> None:
    ada = uuid4()
    wanted = await billing.send("PUT", "subscription", ada, json={"tier": "pro"})
    order = wanted.json()["payment_id"]
    assert (await team(billing, "POST", f"payments/{order}/paid")).status_code == 200
    for number, cents in ((1, 250), (2, -100)):
        booked = {
            "holder_id": str(ada),
            "amount_cents": cents,
            "reference": f"{ada}/{number}",
            "note": "by bank",
        }
        assert (await team(billing, "POST", "payments", json=booked)).status_code == 201
    more = {"holder": str(ada), "limit": "2"}
    first = (await team(billing, "GET", "payments", params=more)).json()
    more["cursor"] = first["next_cursor"]
    rest = (await team(billing, "GET", "payments", params=more)).json()
    listed = [*first["data"], *rest["data"]]
    assert [(one["kind"], one["state"], one["amount_microusd"]) for one in listed] == [
        ("refund", "paid", -1_000_000),
        ("receipt", "paid", 2_500_000),
        ("order", "paid", 9_000_000),
    ]
    assert (listed[1]["reference"], listed[1]["note"]) == (f"{ada}/1", "by bank")
    assert listed[2]["payment_id"] == order
    assert not any(one["can_be_marked_paid"] for one in listed)
    assert rest["next_cursor"] is None
    looks = (await billing.get("looks", ada)).json()["data"]
    assert [one["call"] for one in looks] == ["GET /billing/admin/payments"] * 2
    everybodys = (await team(billing, "GET", "payments")).json()["data"]
    assert listed[0] in everybodys
    assert (await billing.get("admin/payments", ada)).status_code == 403
    assert (await team(billing, "GET", "payments?cursor=!")).status_code == 422


async def test_what_is_due_is_found_before_it_is_overdue(billing: Billing) -> None:
    """A renewal that was asked for a moment ago is past due tomorrow, and paid today."""
    ada = uuid4()
    wanted = await billing.send("PUT", "subscription", ada, json={"tier": "pro"})
    [open_one] = (await team(billing, "GET", f"payments?holder={ada}")).json()["data"]
    assert open_one["can_be_marked_paid"]
    assert (open_one["state"], open_one["settled_at"]) == ("open", None)
    paid = await team(billing, "POST", f"payments/{wanted.json()['payment_id']}/paid")
    assert paid.status_code == 200
    await billing.database.execute(
        "update subscription set anchor = anchor - interval '2 months',"
        " period_begins = period_begins - interval '2 months',"
        " period_ends = date_trunc('second', now()) - interval '1 minute',"
        " next_step_at = now() - interval '1 minute' where user_id = $1",
        ada,
    )
    await billing.send("POST", "subscription/cancel", ada)  # whoever comes brings it up to now
    listed = (await team(billing, "GET", f"payments?holder={ada}")).json()["data"]
    renewal = next(one for one in listed if one["kind"] == "renewal")
    assert (renewal["state"], renewal["can_be_marked_paid"]) == ("open", True)


async def held(billing: Billing, reporter: UUID) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    params: dict[str, str] = {"limit": "2"}
    while True:
        page = (await team(billing, "GET", "held-usage", params=params)).json()
        found += page["data"]
        if page["next_cursor"] is None:
            return [one for one in found if one["reporter_id"] == str(reporter)]
        params["cursor"] = page["next_cursor"]


async def test_what_is_held_is_listed_and_a_named_person_may_refuse_it(billing: Billing) -> None:
    ada, staff, service = uuid4(), uuid4(), Service(billing)
    wrong = [
        an_event(ada, id_=f"shot-{number}", quantity=-number, metadata={"page": "hers"})
        for number in (1, 2, 3)
    ]
    assert len((await service.post(wrong)).json()["held"]) == 3
    listed = await held(billing, service.id)
    assert [one["id"] for one in listed] == ["shot-1", "shot-2", "shot-3"]
    one = listed[0]
    assert (one["source"], one["code"], one["meter"], one["user_id"]) == (
        *("/screenshots", "quantity_out_of_range", "screenshot", str(ada)),
    )
    assert one["event"]["data"]["quantity"] == "-1"
    assert "metadata" not in one["event"]["data"]

    wish = {
        "reporter_id": str(service.id),
        "source": "/screenshots",
        "id": "shot-1",
        "reason": "A test of theirs.",
    }
    assert (
        await billing.send("POST", "admin/held-usage/refuse", ada, json=wish)
    ).status_code == 403
    answer = await team(billing, "POST", "held-usage/refuse", staff=staff, json=wish)
    assert answer.status_code == 204, answer.text
    assert [one["id"] for one in await held(billing, service.id)] == ["shot-2", "shot-3"]
    again = await team(billing, "POST", "held-usage/refuse", json=wish)
    assert (again.status_code, again.json()["code"]) == (404, "held_usage_not_found")
    row = await billing.database.fetchrow(
        "select refused_by, refused_because, settled_at is not null as settled from held_usage"
        " where reporter_id = $1 and external_id = 'shot-1'",
        service.id,
    )
    assert tuple(row or ()) == (staff, "A test of theirs.", True)

    # Told again as it was, it stays refused; as something else, it is looked at anew.
    assert len((await service.post(wrong[:1])).json()["held"]) == 1
    assert [one["id"] for one in await held(billing, service.id)] == ["shot-2", "shot-3"]
    other = an_event(ada, id_="shot-1", quantity=-5)
    assert len((await service.post([other])).json()["held"]) == 1
    assert [one["id"] for one in await held(billing, service.id)] == ["shot-1", "shot-2", "shot-3"]
    # And its id is not used up.
    assert (await team(billing, "POST", "held-usage/refuse", json=wish)).status_code == 204
    good = an_event(ada, id_="shot-1", quantity=5)
    assert (await service.post([good])).json()["accepted"] == 1
    for body in ({**wish, "reason": ""}, {**wish, "more": 1}, {**wish, "id": "a\x00b"}):
        assert (await team(billing, "POST", "held-usage/refuse", json=body)).status_code == 422


async def test_whatever_an_id_is_written_in_the_next_page_is_there(billing: Billing) -> None:
    """The longest source and ids that are taken, of the longest characters."""
    ada, service = uuid4(), Service(billing)
    ids = [f"{number}{'書' * 199}" for number in (1, 2, 3)]
    wrong = [an_event(ada, id_=id_, quantity=-1) | {"source": "撮" * 100} for id_ in ids]
    assert len((await service.post(wrong)).json()["held"]) == 3
    assert [one["id"] for one in await held(billing, service.id)] == ids


async def test_what_was_refused_stays_so_when_its_user_is_forgotten(billing: Billing) -> None:
    """Whose metadata goes; the service that tries for ever tells it all the same."""
    ada, service = UserId(uuid4()), Service(billing)
    wrong = an_event(ada, id_="shot-1", quantity=-1, metadata={"page": "hers"})
    await service.post([wrong])
    wish = {
        "reporter_id": str(service.id),
        "source": "/screenshots",
        "id": "shot-1",
        "reason": "A test of theirs.",
    }
    assert (await team(billing, "POST", "held-usage/refuse", json=wish)).status_code == 204
    await billing.actions.forget_user.begin([(ada, ErasureId(uuid4()))])
    assert len((await service.post([wrong])).json()["held"]) == 1
    assert await held(billing, service.id) == []
    row = await billing.database.fetchrow(
        "select body from held_usage where reporter_id = $1", service.id
    )
    assert row is not None
    assert "metadata" not in row["body"]["data"]


async def test_the_operators_own_prices_are_listed(billing: Billing) -> None:
    provider = f"vendor-{uuid4()}"
    for number, model in enumerate(("small", "large", "large")):
        price = {
            "provider": provider,
            "model": model,
            "input_microusd_per_million": number,
            "effective_from": f"2026-0{number + 1}-01T00:00:00Z",
        }
        assert (await team(billing, "POST", "prices", json=price)).status_code == 201
    listed: list[dict[str, Any]] = []
    params = {"provider": provider, "limit": "2"}
    while True:
        page = (await team(billing, "GET", "prices", params=params)).json()
        listed += page["data"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert [one["input_microusd_per_million"] for one in listed] == [2, 1, 0]
    of_model = {"provider": provider, "model": "small"}
    [small] = (await team(billing, "GET", "prices", params=of_model)).json()["data"]
    assert small == listed[2]
    plan = {"tier": "pro", "microusd_per_seat_month": 9_000_000}
    plan["effective_from"] = "2199-01-01T00:00:00Z"
    assert (await team(billing, "POST", "plan-prices", json=plan)).status_code == 201
    plans = (await team(billing, "GET", "plan-prices")).json()["data"]
    assert plan["effective_from"] in [one["effective_from"] for one in plans]
    for path in ("prices", "plan-prices"):
        assert (await billing.get(f"admin/{path}", uuid4())).status_code == 403
