"""Webhooks and alerts through billing's doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from services.billing.settings import Settings
from tests.integration.billing.harness import Billing, running_billing
from tests.support.tokens import TokenMint
from tests.support.webhook_receiver import Receiver, receiving, write_webhook_keys


@pytest_asyncio.fixture(scope="module")
async def hooked(
    engines: dict[str, str],
    settings: Callable[..., Settings],
    mint: TokenMint,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Billing]:
    """A web process that delivers webhooks, to this machine too."""
    keys: Path = write_webhook_keys(tmp_path_factory.mktemp("webhooks") / "keys.json")
    chosen = settings(**engines, webhook_keys_file=keys, webhooks_allow_local=True)
    async with running_billing(chosen, mint) as billing:
        yield billing


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def made(billing: Billing, user: UUID, url: str, **facts: Any) -> dict[str, Any]:
    answer = await billing.send("POST", "webhooks", user, json={"url": url, **facts})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_test_message_arrives_signed_and_is_listed(
    hooked: Billing, receiver: Receiver
) -> None:
    ada, path = uuid4(), "webhooks"
    webhook = await made(hooked, ada, receiver.url)
    assert webhook["secret"].startswith("whsec_")
    path += f"/{webhook['id']}"
    assert (await hooked.send("POST", f"{path}/test", ada)).status_code == 202
    async with asyncio.timeout(10):
        while not receiver.received:
            await asyncio.sleep(0.02)
    told = receiver.received[0].verified(webhook["secret"])
    assert (told["type"], told["data"]) == ("webhook.test", {"webhook_id": webhook["id"]})

    async with asyncio.timeout(10):
        while True:
            page = (await hooked.send("GET", f"{path}/deliveries", ada)).json()
            if page["data"][0]["state"] == "delivered":
                break
            await asyncio.sleep(0.02)
    [delivery] = page["data"]
    assert delivery["message_id"] == receiver.received[0].id
    assert (delivery["last_status"], delivery["attempts"]) == (204, 1)
    shown = await hooked.send("GET", "webhooks", ada)
    assert "whsec_" not in shown.text
    assert [one["id"] for one in shown.json()["data"]] == [webhook["id"]]
    rotated = (await hooked.send("POST", f"{path}/secret", ada)).json()
    assert rotated["secret"] != webhook["secret"]
    assert rotated["old_secret_until"] is not None
    refused = await hooked.send("POST", f"{path}/secret", ada)
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook_secret_still_changing")
    forced = await hooked.send("POST", f"{path}/secret", ada, json={"drop": "newer"})
    assert (forced.status_code, forced.json()["secret"] != rotated["secret"]) == (200, True)
    odd = await hooked.send("POST", f"{path}/secret", ada, json={"drop": "both"})
    assert odd.status_code == 422
    since = {"since": delivery["created_at"], "all": True}
    again = await hooked.send("POST", f"{path}/redeliver", ada, json=since)
    assert (again.status_code, again.json()) == (202, {"deliveries": 1})
    off = await hooked.send("PATCH", path, ada, json={"enabled": False})
    assert (off.json()["enabled"], off.json()["disabled_because"]) == (False, "by_owner")
    assert (await hooked.send("POST", f"{path}/test", ada)).status_code == 409
    assert (await hooked.send("DELETE", path, ada)).status_code == 204
    assert (await hooked.send("GET", path, ada)).json()["code"] == "webhook_not_found"


async def test_the_operators_doors_are_the_billing_teams(
    hooked: Billing, receiver: Receiver
) -> None:
    someone, wanted = uuid4(), {"url": receiver.url, "types": ["usage.recorded"]}
    refused = await hooked.send("POST", "admin/webhooks", someone, json=wanted)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_billing_staff")
    answer = await hooked.send("POST", "admin/webhooks", someone, role="billing", json=wanted)
    assert answer.status_code == 201, answer.text
    path = f"webhooks/{answer.json()['id']}"
    for method, where in (("GET", path), ("DELETE", path), ("POST", f"{path}/secret")):
        # By the doors for everybody, not even the billing team finds the operator's.
        answer = await hooked.send(method, where, someone, role="billing")
        assert answer.status_code == 404, answer.text
    assert (await hooked.send("GET", f"admin/{path}", someone)).status_code == 403
    done = await hooked.send("DELETE", f"admin/{path}", someone, role="billing")
    assert done.status_code == 204


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"url": "ftp://example.com"}, "webhook_url_not_allowed"),
        ({"url": "https://u:p@example.com"}, "webhook_url_not_allowed"),
        ({"url": "https://169.254.169.254"}, "webhook_url_not_allowed"),
        ({"url": "https://example.com/\x00"}, "webhook_url_not_allowed"),
        ({"url": "https://example.com", "types": ["usage.recorded"]}, "unknown_webhook_type"),
        ({"url": "https://example.com", "types": ["limit.reached"] * 2}, "unknown_webhook_type"),
        ({"url": "https://example.com", "types": "x"}, None),
        ({"url": ""}, None),
        ({}, None),
    ],
)
async def test_bad_input_is_refused_with_a_reason(
    hooked: Billing, wanted: dict[str, Any], code: str | None
) -> None:
    answer = await hooked.send("POST", "webhooks", uuid4(), json=wanted)
    assert answer.status_code == 422, answer.text
    assert code is None or answer.json()["code"] == code


async def test_pages_moments_and_ids_that_can_not_be_read(
    hooked: Billing, receiver: Receiver
) -> None:
    ada = uuid4()
    path = f"webhooks/{(await made(hooked, ada, receiver.url))['id']}"
    for query in ("cursor=nonsense", "state=lost", "limit=0", "limit=x"):
        assert (await hooked.send("GET", f"{path}/deliveries?{query}", ada)).status_code == 422
    for since in ("yesterday", "2026-11-28T12:00:00", None):
        answer = await hooked.send("POST", f"{path}/redeliver", ada, json={"since": since})
        assert answer.status_code == 422
    answer = await hooked.send("POST", f"webhooks/deliveries/{uuid4()}/redeliver", ada)
    assert (answer.status_code, answer.json()["code"]) == (404, "webhook_delivery_not_found")
    assert (await hooked.send("GET", "webhooks/dead", ada)).json()["data"] == []


async def test_without_a_key_there_are_no_webhooks(billing: Billing) -> None:
    answer = await billing.send("POST", "webhooks", uuid4(), json={"url": "https://example.com"})
    assert (answer.status_code, answer.json()["code"]) == (503, "webhook_secrets_unavailable")


async def test_alerts_are_kept_and_bounded(hooked: Billing) -> None:
    ada, grace = uuid4(), uuid4()
    wanted = {"monthly_spend_microusd": [5_000_000, 1_000_000]}
    kept = await hooked.send("PUT", "alerts", ada, json=wanted)
    assert kept.json() == {
        "monthly_spend_microusd": [1_000_000, 5_000_000],
        "monthly_spend_usd": ["1.000000", "5.000000"],
    }
    assert (await hooked.send("GET", "alerts", ada)).json() == kept.json()
    none = (await hooked.send("GET", "alerts", grace)).json()
    assert none == {"monthly_spend_microusd": [], "monthly_spend_usd": []}
    for bad in ([0], [-1], [1.5], [10**13], [1] * 11, "x"):
        answer = await hooked.send("PUT", "alerts", ada, json={"monthly_spend_microusd": bad})
        assert answer.status_code == 422


async def test_alerts_that_were_read_can_be_sent_back(hooked: Billing) -> None:
    ada = uuid4()
    await hooked.send("PUT", "alerts", ada, json={"monthly_spend_microusd": [5_000_000]})
    read = (await hooked.send("GET", "alerts", ada)).json()
    again = await hooked.send("PUT", "alerts", ada, json=read)
    assert (again.status_code, again.json()) == (200, read)
    changed = {**read, "monthly_spend_microusd": [7_000_000]}
    refused = await hooked.send("PUT", "alerts", ada, json=changed)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert [one["field"] for one in refused.json()["errors"]] == ["body.monthly_spend_usd"]
    both = {**changed, "monthly_spend_usd": ["7.00"]}
    assert (await hooked.send("PUT", "alerts", ada, json=both)).status_code == 200
    kept = (await hooked.send("GET", "alerts", ada)).json()
    assert kept["monthly_spend_usd"] == ["7.000000"]
