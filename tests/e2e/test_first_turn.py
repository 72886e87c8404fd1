"""Register, store a key, talk, be billed: through the gateway, in one go."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from deploy.companion.tour import Tour
from tests.support.suite import Person, Suite, eventually

pytestmark = pytest.mark.e2e


async def logged(suite: Suite, process: str, request_id: str) -> list[str]:
    """What a process has logged of a request; the proxies write their logs once a second."""
    return [line for line in suite.log(process).splitlines() if request_id in line]


def test_the_tour_works_as_printed(suite: Suite) -> None:
    told: list[str] = []

    Tour(suite.url, told.append).walk()

    assert any("2 requests" in line for line in told)


async def test_usage_stands_in_the_ledger_within_two_seconds(ada: Person) -> None:
    answer = await ada.ask("what is a tooltip?")
    answered_at = time.monotonic()
    assert answer.status_code == 200, answer.text

    totals = await eventually(ada.usage, lambda seen: seen["requests"] == 1)

    assert time.monotonic() - answered_at < 2
    body = answer.json()
    assert totals["input_tokens"] == body["usage"]["input_tokens"]
    assert totals["cost_microusd"] == body["cost_microusd"]


async def test_one_request_can_be_followed_to_the_ledger(suite: Suite, ada: Person) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    ada.client.headers["traceparent"] = trace
    answer = await ada.ask("hello")
    request_id = answer.headers["x-request-id"]
    await eventually(ada.usage, lambda seen: seen["requests"] == 1)

    record = (await ada.client.get("/billing/usage/records")).json()["data"][0]
    assert record["request_id"] == request_id
    ((envelope,),) = suite.rows(
        "chat", "select envelope from outbox_sent where event_id = %s", record["event_id"]
    )
    assert (envelope["correlationid"], envelope["traceparent"]) == (request_id, trace)
    for process in ("gateway", "chat", "keyvault", "billing-worker"):
        await eventually(lambda: logged(suite, process, request_id), bool)  # noqa: B023


async def test_the_simulated_vendor_got_the_users_key_and_nothing_of_ours(
    suite: Suite, ada: Person
) -> None:
    await ada.ask("hello")
    served = suite.simulator.served(key=ada.api_key)
    assert len(served) == 1
    headers = suite.simulator.last_headers("openai")
    names = {name.lower() for name, _ in headers["headers"]}
    assert "authorization" in names
    assert not {n for n in names if n.startswith(("x-companion", "x-request", "traceparent"))}


async def test_the_owner_sees_each_use_of_the_key(ada: Person) -> None:
    answer = await ada.ask("hello")
    audit = (await ada.client.get("/keys/audit")).json()["data"]
    used = [row for row in audit if row.get("request_id") == answer.headers["x-request-id"]]
    assert len(used) == 1
    assert ada.api_key not in json.dumps(audit)


async def test_a_revoked_key_is_dead_on_the_next_call(ada: Person) -> None:
    assert (await ada.ask("hello")).status_code == 200
    assert (await ada.client.delete("/keys/openai")).status_code == 204
    answer = await ada.ask("hello again")
    assert answer.status_code == 409
    assert answer.json()["code"] == "no_usable_key"


@pytest.mark.parametrize(
    ("key", "status"),
    [("valid-one", "valid"), ("an-invalid-one", "invalid"), ("a-limited-one", "limited")],
)
async def test_validation_tells_keys_apart(grace: Person, key: str, status: str) -> None:
    assert (await grace.store_key("openai", key))["status"] == status


async def test_what_chat_may_use_follows_the_validated_key(ada: Person) -> None:
    async def usable() -> set[str]:
        models = (await ada.client.get("/chat/models")).json()["data"]
        # The operator's own server is there for everybody.
        return {m["model"] for m in models if m["usable"] and m["provider"] != "compatible"}

    assert await eventually(usable, bool) == {"gpt-6-luna"}


async def test_a_changed_tier_is_in_the_next_token_and_in_the_route(
    suite: Suite, ada: Person
) -> None:
    began = time.monotonic()
    await ada.become("pro")
    assert time.monotonic() - began < 3
    answer = await ada.ask("hello", model="gpt-4")
    assert answer.json()["message"]["model"] == "gpt-6.1-sol"
    lines = await eventually(lambda: logged(suite, "gateway", answer.headers["x-request-id"]), bool)
    line = json.loads(lines[0])
    assert (line["pool"], line["tier"]) == ("chat-pro", "pro")


async def test_speech_is_counted_by_characters(grace: Person) -> None:
    await grace.store_key("elevenlabs")
    voices = (await grace.client.get("/voice/voices")).json()["data"]
    text = "A tooltip explains what it points at."
    answer = await grace.client.post(
        "/voice/speech", json={"text": text, "voice_id": voices[0]["voice_id"]}
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/mpeg"
    assert len(answer.content) > 500

    totals = await eventually(grace.usage, lambda seen: seen["requests"] == 1)

    assert totals["characters"] > 0
    limits = (await grace.client.get("/billing/limits")).json()["data"]
    month = next(row for row in limits if row["name"] == "elevenlabs.characters_per_month")
    # By the vendor's count, which is less than the text's length for a quick model.
    assert month["used"] == totals["characters"] <= len(text)


async def test_health_sums_up_every_service(ada: Person) -> None:
    answer = await ada.client.get("/health")
    assert answer.status_code == 200
    assert set(answer.json()["services"]) == {"auth", "keyvault", "chat", "voice", "billing"}
    assert answer.headers["x-sandbox"] == "true"


@pytest.mark.parametrize("service", ["auth", "keyvault", "chat", "voice", "billing"])
async def test_every_service_documents_itself(suite: Suite, ada: Person, service: str) -> None:
    document: dict[str, Any] = (await ada.client.get(f"/{service}/openapi.json")).json()
    assert document["paths"]
    metrics = await ada.client.get(f"{suite.internal_url(service)}/metrics")
    assert "companion_http_requests" in metrics.text
