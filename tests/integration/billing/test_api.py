"""Billing's doors: who may enter, what they say in trouble, and whatever strangers send."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from services.billing.settings import Settings
from tests.integration.billing.harness import NOBODYS, Billing, running_billing
from tests.support.billing import a_usage
from tests.support.problems import problem
from tests.support.tokens import TokenMint

PATHS = [
    ("GET", "limits"),
    ("GET", "usage"),
    ("GET", "usage/records"),
    ("GET", f"usage/records/{NOBODYS}"),
    ("GET", "plans"),
    ("GET", "subscription"),
    ("PUT", "subscription"),
    ("POST", "subscription/cancel"),
    ("POST", "subscription/resume"),
    ("POST", "subscription/portal"),
    ("GET", "charges"),
    ("POST", "admin/plan-prices"),
    ("GET", "admin/subscriptions/past-due"),
    ("GET", "admin/payments/unused"),
    ("GET", f"admin/payments/orders?holder={NOBODYS}"),
    ("POST", "admin/payments"),
    ("POST", f"admin/payments/{NOBODYS}/paid"),
    ("POST", "admin/prices"),
    ("PUT", f"admin/subscriptions/{NOBODYS}"),
    ("GET", "admin/reconciliation"),
    ("POST", "admin/prices/preview"),
    ("POST", "admin/periods/2026-10/close"),
    ("GET", "admin/periods"),
    ("GET", "admin/periods/2026-10"),
    ("POST", "usage/events"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_nobody_enters_without_a_token(billing: Billing, method: str, path: str) -> None:
    response = await billing.public.request(method, f"/billing/{path}")
    problem(response, 401, "unauthenticated")


@pytest.mark.parametrize(("method", "path"), [p for p in PATHS if "admin" in p[1]])
@pytest.mark.parametrize("role", ["member", "admin", "owner", ""])
async def test_only_the_billing_team_does_its_work(
    billing: Billing, ada: UUID, method: str, path: str, role: str
) -> None:
    body = {"provider": "p", "model": "m", "input_microusd_per_million": 1}
    if "periods" in path:
        body = {}
    if "subscriptions" in path:
        body = {"tier": "pro"}
    if "plan-prices" in path:
        body = {"tier": "pro", "microusd_per_seat_month": 1}
    response = await billing.send(method, path, ada, role=role, json=body)
    problem(response, 403, "not_billing_staff")


# Trouble


async def test_without_valkey_only_the_limits_are_away(
    engines: dict[str, str], settings: Callable[..., Settings], mint: TokenMint, ada: UUID
) -> None:
    away = {**engines, "cache_url": "redis://127.0.0.1:1/0"}
    async with running_billing(settings(**away), mint) as billing:
        body = problem(await billing.get("limits", ada), 503, "dependency_unavailable")
        assert body["dependency"] == "cache"
        assert (await billing.get("usage", ada)).status_code == 200
        assert (await billing.internal.get("/readyz")).status_code == 200


async def test_without_its_database_billing_starts_and_says_so(
    engines: dict[str, str], settings: Callable[..., Settings], mint: TokenMint, ada: UUID
) -> None:
    away = {**engines, "database_url": "postgresql://a:b@127.0.0.1:1"}
    async with running_billing(settings(**away), mint) as billing:
        ready = await billing.internal.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"] == {"database": "dependency_unavailable"}
        for path in ("usage", "usage/records", "subscription", "limits"):
            problem(await billing.get(path, ada), 503, "dependency_unavailable")
        export = await billing.get("usage/records", ada, headers={"accept": "text/csv"})
        problem(export, 503, "dependency_unavailable")


async def test_gauges_tell_what_to_alarm_on(billing: Billing, ada: UUID) -> None:
    await billing.record(a_usage(user=ada, sequence=1, epoch=uuid4()))
    text = (await billing.internal.get("/metrics")).text
    assert "companion_billing_default_partition_rows" in text
    assert "companion_billing_unpriced_requests" in text
    assert 'companion_database_connections{service="billing",state="most"}' in text
    assert 'companion_database_connections{service="billing",state="lent"} 0.0' in text
    assert 'companion_ledger_lag_seconds{tier="free"}' in text


async def test_every_route_is_documented(billing: Billing) -> None:
    document = (await billing.public.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            # Stripe has no token: its signature is bad or good.
            refusal = "400" if path == "/billing/stripe/webhook" else "401"
            assert refusal in operation["responses"], (method, path)


# Whatever strangers send


BAD_QUERIES = [
    {"from": "yesterday"},
    {"from": ""},
    {"from": "2026-11-24T10:00:00"},
    {"to": "9999-12-31T23:59:59Z"},
    {"to": "0001-01-01"},
    {"from": "2026-11-25", "to": "2026-11-01"},
    {"from": "\x00"},
    {"from": "2" * 41},
]


@pytest.mark.parametrize("query", BAD_QUERIES)
@pytest.mark.parametrize("path", ["usage", "usage/records"])
async def test_a_period_that_makes_no_sense_is_refused(
    billing: Billing, ada: UUID, path: str, query: dict[str, str]
) -> None:
    response = await billing.get(path, ada, params=query)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("usage", {"group_by": "hour"}),
        ("usage", {"group_by": "day,day"}),
        ("usage", {"group_by": "day;drop table ledger_entry"}),
        ("usage", {"group_by": "," * 201}),
        ("usage", {"from": "2020-01-01", "to": "2026-01-01"}),
        ("usage", {"sandbox": "perhaps"}),
        ("usage/records", {"limit": "0"}),
        ("usage/records", {"limit": "-1"}),
        ("usage/records", {"limit": "201"}),
        ("usage/records", {"limit": str(10**40)}),
        ("usage/records", {"limit": "many"}),
        ("usage/records", {"cursor": "x"}),
        ("usage/records", {"cursor": "AAAA"}),
        ("usage/records", {"cursor": "é\x00"}),
        ("usage/records", {"cursor": "A" * 501}),
        ("usage/records", {"cursor": "MjAyNi0xMS0yNB8x"}),
        ("usage/records/1", {}),
        ("usage/records/%00", {}),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(
    billing: Billing, ada: UUID, path: str, query: dict[str, str]
) -> None:
    response = await billing.get(path, ada, params=query)
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"


TEXT = st.text(max_size=60) | st.sampled_from(["2026-11-24", "day", "1", "0001-01-01T00:00Z"])


@given(
    path=st.sampled_from(["usage", "usage/records", "limits", "plans"]),
    query=st.dictionaries(
        st.sampled_from(["from", "to", "group_by", "limit", "cursor", "sandbox", "?"]), TEXT
    ),
    accept=st.sampled_from(["*/*", "text/csv", "application/x-ndjson", ";;,q=1", "a/b;q=-1"]),
)
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_query_breaks_anything(
    billing: Billing, path: str, query: dict[str, str], accept: str
) -> None:
    query = {name: text.encode("utf-8", "replace").decode() for name, text in query.items()}
    response = await billing.get(path, uuid4(), params=query, headers={"accept": accept})
    assert response.status_code in {200, 422}, response.text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


FIELDS = st.sampled_from(["tier", "seats", "provider", "model", "effective_from", "x"])


@given(
    call=st.sampled_from([("PUT", "subscription"), ("POST", "admin/prices")]),
    body=st.dictionaries(FIELDS, JSON_VALUES) | JSON_VALUES,
)
@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_body_breaks_anything(billing: Billing, call: tuple[str, str], body: Any) -> None:
    method, path = call
    response = await billing.send(
        method, path, uuid4(), role="billing", content=json.dumps(body).encode()
    )
    assert response.status_code < 500, response.text
