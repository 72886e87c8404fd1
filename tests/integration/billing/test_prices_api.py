"""The doors of the billing team's prices, and what lacks one."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.integration.billing.harness import Billing
from tests.support.billing import NOON, a_usage
from tests.support.problems import problem


def a_wanted_price(**given: Any) -> dict[str, Any]:
    return {"provider": "acme", "model": f"m-{uuid4()}", "output_microusd_per_million": 5, **given}


async def test_a_price_is_set_once(billing: Billing, ada: UUID) -> None:
    wanted = a_wanted_price(effective_from="2026-11-01T02:00:00+02:00")
    made = await billing.send("POST", "admin/prices", ada, role="billing", json=wanted)
    assert made.status_code == 201
    price = made.json()
    assert price["version"].startswith("override/")
    assert price["effective_from"] == "2026-11-01T00:00:00Z"
    assert (price["set_by"], price["input_microusd_per_million"]) == (str(ada), None)
    told = (price["input_usd_per_million"], price["output_usd_per_million"], price["unit_usd"])
    assert told == (None, "0.000005", None)
    again = await billing.send("POST", "admin/prices", ada, role="billing", json=wanted)
    problem(again, 409, "price_exists")
    await billing.record(a_usage(user=ada, at=NOON, provider="acme", model=wanted["model"]))
    # It has no price for input, so the cost stays unknown instead of being too low.
    (record,) = (await billing.get("usage/records", ada)).json()["data"]
    assert record["cost_microusd"] is None


@pytest.mark.parametrize(
    "given",
    [
        {"output_microusd_per_million": None},
        {"output_microusd_per_million": -1},
        {"output_microusd_per_million": 10**10 + 1},
        {"output_microusd_per_million": 0.5},
        {"output_microusd_per_million": "5"},
        {"provider": ""},
        {"provider": "a\x00b"},
        {"model": "m" * 301},
        {"model": 5},
        {"effective_from": "2026-11-01T00:00:00"},
        {"effective_from": "9999-12-31T23:59:59-14:00"},
        {"effective_from": "1999-12-31T23:59:59Z"},
        {"effective_from": "soon"},
        {"effective_from": 10**30},
        {"currency": "EUR"},
    ],
)
async def test_a_price_that_makes_no_sense_is_refused(
    billing: Billing, ada: UUID, given: dict[str, Any]
) -> None:
    wanted = a_wanted_price(**given)
    response = await billing.send("POST", "admin/prices", ada, role="operator", json=wanted)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


async def test_the_billing_team_sees_what_is_missing(billing: Billing, ada: UUID) -> None:
    epoch, model = uuid4(), f"m-{uuid4()}"
    await billing.record(
        *(
            a_usage(user=ada, sequence=number, epoch=epoch, tier="pro", model=model)
            for number in (1, 2, 5)
        )
    )
    response = await billing.send("GET", "admin/reconciliation", ada, role="billing")
    body = response.json()
    (stream,) = [row for row in body["streams"] if row["epoch"] == str(epoch)]
    assert (stream["producer"], stream["stream"]) == ("chat", "usage.recorded.pro")
    assert (stream["complete_up_to"], stream["highest_received"], stream["missing"]) == (2, 5, 2)
    assert stream["gaps"] == [{"first": 3, "last": 4}]
    assert stream["last_seen_at"] is not None
    assert {"provider": "openai", "model": model, "requests": 3} in body["unpriced"]
    assert body["unpriced_requests"] >= 3
    assert {"default_partition_rows", "dead_events"} <= set(body)
