"""What must not pass the gateway, and what must not come back through it."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from tests.support.suite import Person, Suite

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    "path",
    ["/internal/egress/openai/v1/models", "/readyz", "/metrics", "/healthz", "/internal/users/x"],
)
async def test_internal_routes_are_not_there(ada: Person, path: str) -> None:
    assert (await ada.client.get(path)).status_code == 404


async def test_a_spoofed_identity_changes_nothing(ada: Person, grace: Person) -> None:
    answer = await ada.client.get(
        "/auth/me", headers={"x-user-id": grace.id, "x-tier": "enterprise"}
    )
    assert answer.json()["id"] == ada.id


async def test_another_users_things_look_absent(ada: Person, grace: Person) -> None:
    await ada.ask("hello")
    path = f"/chat/sessions/{ada.session_id}"
    assert (await grace.client.get(path)).json()["code"] == "session_not_found"
    assert (await grace.client.get("/keys/openai")).status_code == 404
    assert (await grace.usage())["requests"] == 0
    assert (await grace.client.get("/keys/audit")).json()["data"] == []


HOSTILE: list[tuple[str, str, Any]] = [
    ("POST", "/auth/register", {"email": "x"}),
    ("POST", "/auth/login", {"login": "a\x00", "password": "b" * 20}),
    ("POST", "/auth/refresh", {"refresh_token": "x"}),
    ("PATCH", "/auth/me", {"username": 1}),
    ("PUT", "/keys/openai", {"api_key": 1}),
    ("PUT", "/keys/nobody", {"api_key": "marked-key-in-a-bad-place"}),
    ("PUT", "/keys/openai", {"api_key": "marked-key", "extra": True}),
    ("GET", "/keys/audit?limit=-1", None),
    ("POST", "/chat/sessions", {"name": []}),
    ("POST", f"/chat/sessions/{UUID(int=7)}/messages", {"content": "hi"}),
    ("POST", "/voice/speech", {"text": ""}),
    ("POST", "/voice/speech", {"text": "hi", "voice_id": "../../v1/user"}),
    ("GET", "/billing/usage?group_by=secrets", None),
    ("GET", "/billing/usage?from=yesterday", None),
    ("GET", "/billing/usage/records/nothing", None),
    ("PUT", "/billing/subscription", {"tier": "gold"}),
    ("GET", "/billing/admin/reconciliation", None),
]


@pytest.mark.parametrize(("method", "path", "body"), HOSTILE)
async def test_bad_input_gets_a_problem_that_repeats_no_value(
    ada: Person, method: str, path: str, body: Any
) -> None:
    answer = await ada.client.request(method, path, json=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(answer.json())
    assert "marked-key" not in answer.text


async def test_an_oversized_body_is_refused_before_it_is_sent(ada: Person) -> None:
    gateway = urlsplit(ada.suite.url)
    connection = http.client.HTTPConnection(str(gateway.hostname), gateway.port, timeout=10)
    connection.putrequest("POST", "/chat/sessions")
    connection.putheader("authorization", ada.client.headers["authorization"])
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(26 << 20))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["code"]) == (413, "too_large")
    connection.close()


async def test_no_key_is_seen_anywhere(suite: Suite, ada: Person) -> None:
    """The key is planted, used well and badly, and then looked for in all that we keep."""
    key = f"sk-planted-{uuid4().hex}"
    await ada.store_key("openai", key)
    await ada.ask("hello")
    await ada.ask("[[sim:fault=invalid_key]]")
    await ada.ask("[[sim:cut]] hello", stream=True)
    await ada.client.put("/keys/openai", json={"api_key": key, "more": 1})
    await ada.client.put("/keys/openai", content=f'{{"api_key": "{key}"')
    await ada.client.get("/keys/openai")

    kept = await asyncio.to_thread(_all_that_is_kept, suite)

    assert [place for place, text in kept.items() if key in text] == []
    assert any(ada.name in text for text in kept.values()), "the search itself must find things"


async def test_only_staff_sees_what_the_billing_team_sees(suite: Suite, grace: Person) -> None:
    refused = await grace.client.get("/billing/admin/reconciliation")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_billing_staff")
    made = await asyncio.to_thread(
        suite.command,
        *("admin", "create", "--email", f"staff-{grace.name}@example.com"),
        COMPANION_ADMIN_PASSWORD=grace.password,
    )
    assert made.returncode == 0, made.stderr
    grace.name = f"staff-{grace.name}"
    await grace.sign_in()

    answer = await grace.client.get("/billing/admin/reconciliation")

    assert answer.status_code == 200, answer.text
    assert answer.json()["default_partition_rows"] == 0


def _all_that_is_kept(suite: Suite) -> dict[str, str]:
    import redis

    kept = {
        f"log {path.name}": path.read_text(errors="replace")
        for path in suite.installation.data.logs.iterdir()
        if path.is_file()
    }
    tables = "select table_name from information_schema.tables where table_schema = 'public'"
    for service in ("auth", "keyvault", "chat", "voice", "billing"):
        for (table,) in suite.rows(service, tables):
            rows = suite.rows(service, f'select t::text from "{table}" t')
            kept[f"table {service}.{table}"] = "\n".join(row[0] for row in rows)
    addresses = suite.installation.addresses()
    for url in (addresses.cache_url, addresses.broker_url):
        with redis.Redis.from_url(url) as client:
            kept[f"valkey {url[-1]}"] = repr(
                [(name, client.dump(name)) for name in client.scan_iter()]
            )
    return kept
