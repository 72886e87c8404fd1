"""`/keys` as users meet it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from shared.db.database import Database
from tests.integration.keyvault.harness import SECRET, Keyvault, a_user
from tests.integration.keyvault.misplaced import MISPLACED

ALL = ("openai", "gemini", "anthropic", "elevenlabs")


async def test_a_stored_key_is_told_but_never_shown(keyvault: Keyvault) -> None:
    user = a_user()

    stored = await keyvault.put(user)

    assert stored.status_code == 202
    body = stored.json()
    assert body | {"created_at": None, "updated_at": None} == {
        "provider": "openai",
        "status": "pending",
        "hint": "…mnop",
        "version": 1,
        "capabilities": [],
        "models": [],
        "details": {},
        "last_validated_at": None,
        "last_error": None,
        "created_at": None,
        "updated_at": None,
    }
    assert datetime.fromisoformat(body["created_at"]).tzinfo is not None
    assert (await keyvault.get(user, "/keys/openai")).json() == body
    assert (await keyvault.get(user)).json() == {"data": [body], "next_cursor": None}


async def test_every_answer_is_kept_out_of_caches(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user)
    for answer in (
        await keyvault.put(user),
        await keyvault.get(user),
        await keyvault.get(user, "/keys/openai"),
        await keyvault.get(user, "/keys/audit"),
    ):
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("provider", ALL)
async def test_each_vendors_key_can_be_stored(keyvault: Keyvault, provider: str) -> None:
    assert (await keyvault.put(a_user(), provider=provider)).status_code == 202


async def test_space_around_a_key_is_no_part_of_it(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user, f" \t{SECRET}\r\n")
    header = await keyvault.egress(user)
    assert header.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("length", [8, 512])
async def test_the_shortest_and_the_longest_key_are_taken(keyvault: Keyvault, length: int) -> None:
    assert (await keyvault.put(a_user(), "k" * length)).status_code == 202


async def test_a_withdrawn_key_is_gone_from_every_door(
    keyvault: Keyvault, database: Database
) -> None:
    user = a_user()
    await keyvault.put(user)

    gone = await keyvault.public.delete("/keys/openai", headers=keyvault.around.mint.headers(user))

    assert gone.status_code == 204
    assert gone.content == b""
    for method, path in (
        ("GET", "/keys/openai"),
        ("DELETE", "/keys/openai"),
        ("POST", "/keys/openai/validate"),
    ):
        answer = await keyvault.public.request(
            method, path, headers=keyvault.around.mint.headers(user)
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "key_not_found")
    assert (await keyvault.get(user)).json()["data"] == []
    assert (await keyvault.egress(user)).json()["code"] == "key_not_found"
    row = await database.fetchrow("select * from provider_key where owner_id = $1", user)
    assert row is not None
    assert (row["status"], row["envelope"], row["fingerprint"]) == ("revoked", None, None)
    assert await database.fetchrow("select from data_key where owner_id = $1", user) is None


async def test_a_key_stored_again_counts_on(keyvault: Keyvault) -> None:
    user = a_user()
    headers = keyvault.around.mint.headers(user)
    await keyvault.put(user)
    await keyvault.public.delete("/keys/openai", headers=headers)

    assert (await keyvault.put(user)).json()["version"] == 2
    assert (await keyvault.put(user)).json()["version"] == 2
    assert (await keyvault.put(user, "another-key-0123456789")).json()["version"] == 3


async def test_a_check_asked_for_is_accepted(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user)
    answer = await keyvault.public.post(
        "/keys/openai/validate", headers=keyvault.around.mint.headers(user)
    )
    assert (answer.status_code, answer.json()["provider"]) == (202, "openai")


async def test_nobody_sees_or_touches_another_users_key(keyvault: Keyvault) -> None:
    owner, other = a_user(), a_user()
    await keyvault.put(owner)
    headers = keyvault.around.mint.headers(other)

    assert (await keyvault.get(other)).json()["data"] == []
    assert (await keyvault.get(other, "/keys/audit")).json()["data"] == []
    for method, path in (
        ("GET", "/keys/openai"),
        ("DELETE", "/keys/openai"),
        ("POST", "/keys/openai/validate"),
    ):
        answer = await keyvault.public.request(method, path, headers=headers)
        assert answer.json()["code"] == "key_not_found"
    assert (await keyvault.get(owner, "/keys/openai")).status_code == 200


DOORS = (
    ("GET", "/keys"),
    ("GET", "/keys/audit"),
    ("GET", "/keys/openai"),
    ("PUT", "/keys/openai"),
    ("POST", "/keys/openai/validate"),
    ("DELETE", "/keys/openai"),
)


@pytest.mark.parametrize(("method", "path"), DOORS)
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer x", "Basic eDp5", "Bearer a.b.c", "bearer \x7f"]
)
async def test_without_an_access_token_no_door_opens(
    keyvault: Keyvault, method: str, path: str, header: str | None
) -> None:
    headers = {"authorization": header} if header is not None else {}
    answer = await keyvault.public.request(method, path, headers=headers, json={"api_key": SECRET})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_a_services_grant_is_no_access_token(keyvault: Keyvault) -> None:
    user = a_user()
    grant = keyvault.proofs(user)["x-companion-grant"]
    answer = await keyvault.public.get("/keys", headers={"authorization": f"Bearer {grant}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("name", ["mistral", "OpenAI", "audit%20", "%00", "open%2fai", "o" * 3000])
async def test_an_unknown_provider_is_not_repeated(keyvault: Keyvault, name: str) -> None:
    user = a_user()
    for method, suffix in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/validate")):
        answer = await keyvault.public.request(
            method,
            f"/keys/{name}{suffix}",
            headers=keyvault.around.mint.headers(user),
            json={"api_key": SECRET},
        )
        assert answer.status_code == 404
        assert name not in answer.text or name == "audit%20"


@pytest.mark.parametrize(
    ("body", "status"), [case[1:] for case in MISPLACED], ids=[case[0] for case in MISPLACED]
)
async def test_a_refusal_never_repeats_what_was_sent(
    keyvault: Keyvault, body: Any, status: int
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await keyvault.public.put(
        "/keys/openai",
        content=content,
        headers={
            **keyvault.around.mint.headers(a_user()),
            "content-type": "application/json",
        },
    )
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert_hides(answer)


@pytest.mark.parametrize("key", ["x", " 1234567 ", "x" * 513])
async def test_a_mistyped_key_is_refused_in_words_for_people(keyvault: Keyvault, key: str) -> None:
    headers = keyvault.around.mint.headers(a_user())
    answer = await keyvault.public.put("/keys/openai", json={"api_key": key}, headers=headers)
    assert answer.status_code == 422
    [place] = answer.json()["errors"]
    assert place["message"] == "a key has 8 to 512 characters"


async def test_a_body_that_claims_to_be_no_json_is_not_repeated_either(keyvault: Keyvault) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = await keyvault.public.put(
            "/keys/openai",
            content=f'{{"api_key": "{SECRET}"}}',
            headers={**keyvault.around.mint.headers(a_user()), "content-type": kind},
        )
        assert answer.status_code in {400, 415, 422}
        assert_hides(answer)


async def test_a_key_in_path_or_query_is_not_repeated(keyvault: Keyvault) -> None:
    headers = keyvault.around.mint.headers(a_user())
    for method, path in (
        ("PUT", f"/keys/{SECRET}"),
        ("GET", f"/keys/{SECRET}"),
        ("GET", f"/keys/audit?cursor={SECRET}"),
        ("GET", f"/keys/audit?limit={SECRET}"),
        ("PUT", f"/keys/openai?api_key={SECRET}"),
        ("GET", f"/{SECRET}/keys"),
        ("PATCH", f"/keys/openai?api_key={SECRET}"),
    ):
        answer = await keyvault.public.request(method, path, headers=headers)
        assert 400 <= answer.status_code < 500
        assert_hides(answer)


def assert_hides(answer: httpx.Response) -> None:
    told = answer.text + repr(answer.headers)
    assert SECRET not in told
    assert SECRET[:7] not in told
    assert answer.json()["code"]


async def test_the_trail_tells_its_owner_who_used_what_when(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user, provider="elevenlabs")
    await keyvault.egress_for_voice(user, request_id="request-42")
    await keyvault.public.delete("/keys/elevenlabs", headers=keyvault.around.mint.headers(user))

    lines = (await keyvault.get(user, "/keys/audit")).json()["data"]

    assert [(line["kind"], line["service"]) for line in lines] == [
        ("deleted", "keyvault"),
        ("used", "voice"),
        ("stored", "keyvault"),
    ]
    assert lines[1]["request_id"] == "request-42"
    assert lines[1].keys() == {
        "id",
        "kind",
        "provider",
        "key_version",
        "service",
        "organisation_id",
        "user_id",
        "request_id",
        "at",
    }
    assert {(line["organisation_id"], line["user_id"]) for line in lines} == {(None, str(user))}


async def test_the_trail_comes_in_pages_without_gap_or_repetition(keyvault: Keyvault) -> None:
    user = a_user()
    await keyvault.put(user)
    for _ in range(6):
        await keyvault.egress(user)

    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        suffix = f"&cursor={cursor}" if cursor else ""
        page = (await keyvault.get(user, f"/keys/audit?limit=3{suffix}")).json()
        seen += [line["id"] for line in page["data"]]
        cursor = page["next_cursor"]

    assert len(seen) == len(set(seen)) == 7
    assert seen == sorted(seen, key=lambda id_: UUID(id_), reverse=True)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "cursor=x", "cursor=%00", f"cursor={UUID(int=7)}"]
)
async def test_a_wrong_page_is_refused(keyvault: Keyvault, query: str) -> None:
    answer = await keyvault.get(a_user(), f"/keys/audit?{query}")
    assert answer.status_code == 422


async def test_every_route_is_described(keyvault: Keyvault) -> None:
    document = (await keyvault.public.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/keys",
        "/keys/audit",
        "/keys/{provider}",
        "/keys/{provider}/validate",
        "/keys/organisations/{organisation_id}",
        "/keys/organisations/{organisation_id}/audit",
        "/keys/organisations/{organisation_id}/{provider}",
        "/keys/organisations/{organisation_id}/{provider}/validate",
    }
    operations = [op for path in document["paths"].values() for op in path.values()]
    assert all(operation["summary"] and operation["description"] for operation in operations)


async def test_inner_doors_do_not_open_outside(keyvault: Keyvault) -> None:
    user = a_user()
    for path in ("/internal/egress/openai/v1/models", "/metrics", "/healthz", "/readyz"):
        answer = await keyvault.public.get(path, headers=keyvault.proofs(user))
        assert answer.status_code == 404
