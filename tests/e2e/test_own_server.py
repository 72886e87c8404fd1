"""An operator's own server, through gateway, chat, egress and keyvault."""

from __future__ import annotations

import pytest

from tests.support.suite import Person, Suite, eventually

pytestmark = pytest.mark.e2e


async def test_whoever_has_no_key_is_answered_by_the_operators_own_server(
    suite: Suite, grace: Person
) -> None:
    session = await grace.client.post("/chat/sessions", json={"provider": "compatible"})
    grace.session_id = session.json()["id"]

    answer = await grace.ask("hello there")

    assert answer.status_code == 200, answer.text
    assert answer.json()["message"]["content"] == "You said: hello there"
    totals = await eventually(grace.usage, lambda seen: seen["requests"] == 1)
    assert totals["input_tokens"] == 2
    (record,) = (await grace.client.get("/billing/usage/records")).json()["data"]
    assert (record["provider"], record["cost_microusd"]) == ("compatible", None)
    (line,) = (await grace.client.get("/keys/audit")).json()["data"]
    assert (line["provider"], line["key_version"], line["service"]) == ("compatible", 0, "chat")
    assert line["request_id"] == answer.headers["x-request-id"]
    stored = await grace.client.put("/keys/compatible", json={"api_key": "sk-0123456789"})
    assert (stored.status_code, stored.json()["code"]) == (404, "unknown_provider")


def test_the_operators_key_is_known_to_no_other_process(suite: Suite) -> None:
    for name in ("chat", "voice", "gateway", "egress", "keyvault", "billing"):
        assert "marked-key-of-the-operator" not in suite.log(name)
    run = suite.installation.data.run
    files = [path for path in run.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert b"marked-key-of-the-operator" not in path.read_bytes(), path
