"""A person takes all their data along, goes, and is forgotten by every service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.suite import Person, Suite, a_person, eventually

pytestmark = pytest.mark.e2e

SERVICES = {"auth", "keyvault", "chat", "voice", "billing"}
QUESTION = "what does the lamp say?"

# Every table that names a user, but for those that are kept: the books, and who did what.
_TRACES = {
    "auth": (
        ("user_account", "id"),
        ("sign_in", "user_id"),
        ("personal_token", "user_id"),
        ("mailed_proof", "user_id"),
        ("membership", "user_id"),
        ("audit_origin", "user_id"),
    ),
    "keyvault": (
        ("provider_key", "owner_id"),
        ("data_key", "owner_id"),
        ("audit_entry", "owner_id"),
    ),
    "chat": (("chat_session", "user_id"), ("generation", "user_id"), ("known_key", "user_id")),
    "voice": (("speech", "user_id"),),
    "billing": (
        ("subscription", "user_id"),
        ("billing_details", "holder_id"),
        ("webhook_endpoint", "owner_id"),
        ("webhook_delivery", "holder_id"),
        ("spend_threshold", "user_id"),
    ),
}


@pytest.fixture
async def ada(suite: Suite) -> AsyncIterator[Person]:
    """Somebody with a paid tier, two keys, a conversation, a speech, and usage in the ledger."""
    person = a_person(suite)
    await person.register()
    await person.become("pro")
    await person.store_key("elevenlabs", f"sk_marked{person.name}")
    await person.store_key()
    await person.start_session()
    assert (await person.ask(QUESTION)).status_code == 200
    spoken = await person.client.post(
        "/voice/speech", json={"text": "Hello there.", "voice_id": "21m00Tcm4TlvDq8ikWAM"}
    )
    assert spoken.status_code == 200, spoken.text
    await _want_bills(person)
    await eventually(lambda: ledger_of(suite, person), lambda rows: len(rows) == 2)
    yield person
    await person.client.aclose()


async def _want_bills(person: Person) -> None:
    address = {"name": person.name, "address_lines": ["1 Lamp Street"], "city": "Lampton"}
    # Nobody listens there: what is told waits.
    webhook = {"url": "http://127.0.0.1:9999/"}
    alerts = {"monthly_spend_microusd": [1_000_000_000]}
    for method, path, body in (
        ("PUT", "details", {**address, "country": "DE"}),
        ("PUT", "alerts", alerts),
        ("POST", "webhooks", webhook),
    ):
        kept = await person.client.request(method, f"/billing/{path}", json=body)
        assert kept.is_success, kept.text


async def ledger_of(suite: Suite, person: Person) -> list[Any]:
    sql = "select operation from ledger_entry where user_id = %s"
    return await asyncio.to_thread(suite.rows, "billing", sql, person.id)


async def traces_of(suite: Suite, person: Person) -> dict[str, int]:
    """How many rows name the person, by table; those without any left out."""

    def count() -> dict[str, int]:
        found = {}
        for service, places in _TRACES.items():
            for table, column in places:
                sql = f"select count(*) from {table} where {column} = %s"
                ((rows,),) = suite.rows(service, sql, person.id)
                if rows:
                    found[f"{service}.{table}"] = rows
        return found

    return await asyncio.to_thread(count)


async def delete(person: Person) -> str:
    answer = await person.client.delete("/auth/me")
    assert answer.status_code == 202, answer.text
    return str(answer.json()["receipt"])


async def erasure(suite: Suite, receipt: str) -> dict[str, Any]:
    """What anybody with the receipt is shown."""
    person = a_person(suite)
    async with person.client as client:
        answer = await client.post("/auth/erasures/lookup", json={"receipt": receipt})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def missing(shown: dict[str, Any]) -> set[str]:
    return {one["service"] for one in shown["services"] if one["forgotten_at"] is None}


async def test_the_export_holds_all_of_it_and_no_key(suite: Suite, ada: Person) -> None:
    answer = await ada.client.get("/auth/me/export")

    assert answer.status_code == 200, answer.text
    export = answer.json()
    assert set(export) == {"exported_at", *SERVICES}
    assert export["auth"]["account"]["id"] == ada.id
    assert {key["provider"] for key in export["keyvault"]["keys"]} == {"openai", "elevenlabs"}
    assert "used" in {line["kind"] for line in export["keyvault"]["audit"]}
    (session,) = export["chat"]["sessions"]
    question, answered = session["messages"]
    assert (question["content"], answered["role"]) == (QUESTION, "assistant")
    assert [speech["outcome"] for speech in export["voice"]["speeches"]] == ["done"]
    assert export["billing"]["subscription"]["tier"] == "pro"
    billing = export["billing"]
    assert {r["operation"] for r in billing["usage_records"]} == {"chat", "voice"}
    assert billing["billing_details"]["city"] == "Lampton"
    assert [webhook["url"] for webhook in billing["webhooks"]] == ["http://127.0.0.1:9999/"]
    assert "charges" in billing
    assert billing["spend_alerts_microusd"] == [1_000_000_000]
    assert "whsec_" not in answer.text
    for secret in (ada.api_key, f"sk_marked{ada.name}", ada.password, ada.refresh_token):
        assert secret not in answer.text


async def test_a_deleted_person_is_forgotten_everywhere_within_seconds(
    suite: Suite, ada: Person
) -> None:
    before = await traces_of(suite, ada)
    assert {name.partition(".")[0] for name in before} == SERVICES

    receipt = await delete(ada)
    shown = await eventually(lambda: erasure(suite, receipt), lambda seen: not missing(seen))

    assert shown["completed_at"] is not None
    assert await traces_of(suite, ada) == {}
    # The books are kept.
    assert len(await ledger_of(suite, ada)) == 2
    # Nothing that was theirs opens anything any more.
    assert (await ada.ask("are you there?")).status_code in {401, 403, 404}
    assert (await ada.client.get("/keys/openai")).status_code in {401, 404}
    refused = await ada.client.post("/auth/refresh", json={"refresh_token": ada.refresh_token})
    assert refused.status_code == 401
    told = await asyncio.to_thread(suite.command, "auth", "erasures", "--receipt", receipt)
    assert (told.returncode, "complete" in told.stdout) == (0, True), told.stderr
    # The same name and address may come back, as somebody new.
    again = Person(suite, ada.client, name=ada.name)
    await again.register()
    assert again.id != ada.id
    assert (await again.client.get("/keys")).json()["data"] == []


async def test_a_running_answer_ends_and_is_billed_before_its_person_is_forgotten(
    suite: Suite, ada: Person
) -> None:
    asking = asyncio.create_task(ada.ask("[[sim:chunks=400,delay_ms=50]] slowly", stream=True))
    running = "select 1 from generation where user_id = %s and state = 'running'"
    await eventually(
        lambda: asyncio.to_thread(suite.rows, "chat", running, ada.id), lambda rows: bool(rows)
    )

    receipt = await delete(ada)
    await asking
    await eventually(lambda: erasure(suite, receipt), lambda seen: not missing(seen))

    assert await traces_of(suite, ada) == {}
    rows = await eventually(lambda: ledger_of(suite, ada), lambda rows: len(rows) == 3)
    assert sorted(row[0] for row in rows) == ["chat", "chat", "voice"]


async def test_a_service_that_is_away_is_named_and_catches_up(suite: Suite, ada: Person) -> None:
    await asyncio.to_thread(suite.running.stop, "keyvault-worker")
    try:
        receipt = await delete(ada)
        shown = await eventually(
            lambda: erasure(suite, receipt), lambda seen: missing(seen) == {"keyvault"}
        )
        assert shown["completed_at"] is None
        told = await asyncio.to_thread(suite.command, "auth", "erasures", "--receipt", receipt)
        assert (told.returncode, "waits for keyvault" in told.stdout) == (1, True), told.stderr
    finally:
        await asyncio.to_thread(suite.running.start, "keyvault-worker")
    await eventually(lambda: erasure(suite, receipt), lambda seen: not missing(seen), seconds=40)
    assert await traces_of(suite, ada) == {}


@pytest.mark.slow
async def test_workers_that_die_while_they_forget_forget_all_the_same(
    suite: Suite, ada: Person
) -> None:
    receipt = await delete(ada)
    for worker in ("chat-worker", "keyvault-worker", "auth-worker"):
        await asyncio.to_thread(suite.kill, worker)
    await eventually(lambda: erasure(suite, receipt), lambda seen: not missing(seen), seconds=60)
    assert await traces_of(suite, ada) == {}


async def test_while_a_service_is_away_there_is_no_export(suite: Suite, ada: Person) -> None:
    await asyncio.to_thread(suite.running.stop, "voice")
    try:
        answer = await ada.client.get("/auth/me/export")
        assert (answer.status_code, answer.json()["service"]) == (503, "voice")
    finally:
        await asyncio.to_thread(suite.running.start, "voice")
        await asyncio.to_thread(suite.running.wait_for, "voice")
    assert (await ada.client.get("/auth/me/export")).status_code == 200
