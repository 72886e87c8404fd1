"""Turns through chat's own door: whole, live, refused, cut, abandoned, repeated."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from services.chat.domain.known_key import RevokedKey
from services.chat.wiring import wire
from shared.ids import UserId
from tests.integration.chat.conftest import ChatSuite
from tests.support.waiting import eventually


def frames(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream, by name."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


async def test_a_whole_answer_is_stored_and_told_to_billing(chat: ChatSuite) -> None:
    async with chat.user() as user:
        answer = await user.ask("what is a tooltip?")

        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["message"]["content"] == "You said: what is a tooltip?"
        assert body["message"]["provider"] == "openai"
        assert body["usage"]["source"] == "provider"
        assert body["cost_microusd"] is not None
        (event,) = await chat.usage_events(user.id)
        served = {row["response_id"]: row for row in chat.simulator.served()}
        assert event["data"]["provider_request_id"] in served
        assert event["data"]["input_tokens"] == body["usage"]["input_tokens"] > 0
        assert event["tier"] == "free"
        listed = await user.client.get(f"/chat/sessions/{user.session_id}/messages")
        roles = [(m["role"], m["status"]) for m in listed.json()["data"]]
        assert roles == [("user", "done"), ("assistant", "done")]


async def test_a_live_answer_begins_with_a_ping_and_ends_with_usage_and_done(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user:
        answer = await user.ask("one two three", stream=True)

        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith(": ping\n\n")
        names = [name for name, _ in frames(answer.text)]
        assert names[0] == "start"
        assert names[-2:] == ["usage", "done"]
        text = "".join(data["text"] for name, data in frames(answer.text) if name == "delta")
        done = frames(answer.text)[-1][1]
        assert text == done["message"]["content"] == "You said: one two three"
        ids = [int(line[4:]) for line in answer.text.split("\n") if line.startswith("id: ")]
        assert ids == list(range(1, len(ids) + 1))
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["source"] == "provider"


async def test_the_next_turn_remembers_the_last(chat: ChatSuite) -> None:
    async with chat.user() as user:
        first = (await user.ask("one")).json()["usage"]["input_tokens"]
        second = (await user.ask("one")).json()["usage"]["input_tokens"]
        assert second > first


async def test_the_answer_says_how_much_of_the_limits_is_left(chat: ChatSuite) -> None:
    async with chat.user() as user:
        answer = await user.ask("hello")
        assert '"openai.requests_per_minute";q=5;w=60' in answer.headers["ratelimit-policy"]
        assert '"openai.requests_per_minute";r=4' in answer.headers["ratelimit"]


async def test_a_burst_admits_exactly_the_minutes_limit(chat: ChatSuite) -> None:
    async with chat.user() as user:
        # Begin early in a minute, so that the burst does not fall on its end.
        await eventually(_second_of_the_minute, lambda second: second < 50, seconds=12)
        # A session takes one turn at a time, a user several.
        made = [await user.client.post("/chat/sessions", json={}) for _ in range(25)]
        paths = [f"/chat/sessions/{session.json()['id']}/messages" for session in made]
        answers = await asyncio.gather(
            *(user.client.post(path, json={"content": "hello"}) for path in paths)
        )

        statuses = sorted(a.status_code for a in answers)
        assert statuses == [200] * 5 + [429] * 20
        refused = next(a for a in answers if a.status_code == 429)
        problem = refused.json()
        assert problem["scope"] == "openai.requests_per_minute"
        assert problem["upgrade_tier"] == "pro"
        assert int(refused.headers["retry-after"]) == problem["retry_after"] > 0
        assert len(await chat.usage_events(user.id)) == 5


async def _second_of_the_minute() -> int:
    return datetime.now(UTC).second


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("[[sim:fault=rate_limit]]", "vendor_rate_limited"),
        ("[[sim:fault=quota]]", "vendor_quota_exhausted"),
        ("[[sim:fault=overloaded]]", "vendor_overloaded"),
        ("[[sim:fault=server_error]]", "vendor_overloaded"),
        ("[[sim:fault=model_not_found]]", "model_unavailable"),
        ("[[sim:fault=bad_request]]", "vendor_rejected_request"),
        ("[[sim:fault=html_502]]", "vendor_overloaded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_vendor_refuses_is_told_and_free(
    chat: ChatSuite, prompt: str, code: str, stream: bool
) -> None:
    async with chat.user() as user:
        answer = await user.ask(prompt, stream=stream)

        if stream:
            ((_, start), (name, problem)) = frames(answer.text)
            assert (start["provider"], name) == ("openai", "error")
        else:
            problem = answer.json()
            assert answer.status_code == problem["status"] == 502
        assert '"openai.requests_per_minute";r=' in answer.headers["ratelimit"]
        assert problem["code"] == code
        assert await chat.usage_events(user.id) == []
        # The place in the windows came back.
        again = await user.ask("hello")
        assert '"openai.requests_per_minute";r=4' in again.headers["ratelimit"]


@pytest.mark.parametrize(
    ("fault", "reason"), [("invalid_key", "key_rejected"), ("missing_scope", "key_restricted")]
)
async def test_a_key_that_the_vendor_no_longer_takes_is_the_users_to_mend(
    chat: ChatSuite, fault: str, reason: str
) -> None:
    async with chat.user() as user:
        answer = await user.ask(f"[[sim:fault={fault}]]")
        assert answer.status_code == 409
        assert (answer.json()["code"], answer.json()["reason"]) == ("no_usable_key", reason)
        assert await chat.usage_events(user.id) == []


async def test_a_revoked_key_ends_the_answers_that_run_on_it(chat: ChatSuite) -> None:
    async with chat.user() as user:
        asking = asyncio.create_task(
            user.ask("[[sim:chunks=200,delay_ms=50]] on and on", stream=True)
        )
        await eventually(lambda: chat.holds(user.id), bool)
        async with wire(chat.settings) as worker:
            gone = RevokedKey(UserId(user.id), "openai", 1, datetime.now(UTC))
            await worker.actions.forget_keys([gone])

        answer = await asyncio.wait_for(asking, 5)

        assert frames(answer.text)[-1][0] == "done"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "stopped"


async def test_an_organisations_revoked_key_ends_its_members_answers(chat: ChatSuite) -> None:
    firm = uuid4()
    async with chat.user(org=str(firm), org_seated=True) as user:
        asking = asyncio.create_task(
            user.ask("[[sim:chunks=200,delay_ms=50]] on and on", stream=True)
        )
        await eventually(lambda: chat.holds(user.id), bool)
        async with wire(chat.settings) as worker:
            gone = RevokedKey(UserId(firm), "openai", 1, datetime.now(UTC))
            await worker.actions.forget_keys([gone])
        answer = await asyncio.wait_for(asking, 5)
        assert frames(answer.text)[-1][0] == "done"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["outcome"] == "stopped"


@pytest.mark.parametrize("how", ["cut", "reset", "truncate", "stall", "stream_error"])
async def test_an_answer_that_breaks_off_is_interrupted_kept_and_billed_once(
    chat: ChatSuite, how: str
) -> None:
    async with chat.user() as user:
        answer = await user.ask(f"[[sim:{how},chunks=6]] one two three four five", stream=True)

        name, last = frames(answer.text)[-1]
        assert name == "interrupted"
        assert last["problem"]["code"] == "vendor_failed"
        assert last["message"]["status"] == "interrupted"
        assert "You said:".startswith(last["message"]["content"][:9])
        (event,) = await chat.usage_events(user.id)
        assert (event["data"]["source"], event["data"]["outcome"]) == (
            "estimated",
            "provider_failed",
        )
        (hold,) = await chat.holds(user.id)
        assert hold["state"] == "settled"


async def test_odd_but_lawful_streams_are_read_right(chat: ChatSuite) -> None:
    async with chat.user() as user:
        answer = await user.ask("[[sim:odd,split,u2028]] zwölf Boxkämpfer", stream=True)
        name, done = frames(answer.text)[-1]
        assert name == "done"
        assert "zwölf Boxkämpfer" in done["message"]["content"]


async def test_a_stream_without_usage_is_estimated(chat: ChatSuite) -> None:
    async with chat.user() as user:
        answer = await user.ask("[[sim:nousage]] hello", stream=True)
        assert frames(answer.text)[-1][0] == "done"
        (event,) = await chat.usage_events(user.id)
        assert event["data"]["source"] == "estimated"


async def test_a_client_that_leaves_is_answered_to_the_end_and_billed_once(
    chat: ChatSuite,
) -> None:
    async with chat.user() as user:
        path = f"/chat/sessions/{user.session_id}/messages"
        body = {"content": "[[sim:chunks=20,delay_ms=20]] on and on", "stream": True}
        async with user.client.stream("POST", path, json=body) as answer:
            async for line in answer.aiter_lines():
                if line == "event: delta":
                    break

        (hold,) = await eventually(
            lambda: chat.holds(user.id), lambda holds: holds[0]["state"] == "settled"
        )
        assert hold["outcome"] == "done"
        (event,) = await chat.usage_events(user.id)
        assert (event["data"]["outcome"], event["data"]["source"]) == ("done", "provider")
        served = await eventually(
            lambda: _served(chat, hold["provider_request_id"]),
            lambda row: row["outcome"] is not None,
        )
        assert served["outcome"] == "completed"


async def _served(chat: ChatSuite, response_id: str) -> dict[str, Any]:
    (row,) = [r for r in chat.simulator.served() if r["response_id"] == response_id]
    return row


async def test_without_a_key_the_answer_says_so(chat: ChatSuite) -> None:
    async with chat.user(key="") as user:
        answer = await user.ask("hello")
        assert answer.status_code == 409
        assert answer.json()["code"] == "no_usable_key"


async def test_while_keyvault_is_down_new_turns_wait(chat: ChatSuite) -> None:
    async with chat.user() as user:
        chat.egress.keyvault_is_down = True
        try:
            answer = await user.ask("hello")
        finally:
            chat.egress.keyvault_is_down = False
        assert answer.status_code == 503
        assert answer.json()["dependency"] == "keyvault"
        assert int(answer.headers["retry-after"]) > 0
        assert await chat.usage_events(user.id) == []


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        ((403, "service_stopped"), 503, "keys_withheld"),
        ((429, "service_rate_reached"), 503, "keys_withheld"),
        ((429, "user_rate_reached"), 429, "key_used_too_often"),
        ((403, "not_your_key"), 403, "key_refused"),
        # Its answer was lost when keyvault restarted: the next call has a grant of its own.
        ((403, "grant_replayed"), 503, "dependency_unavailable"),
    ],
)
async def test_what_keyvault_refuses_says_whether_to_come_back(
    chat: ChatSuite, refusal: tuple[int, str], status: int, code: str
) -> None:
    async with chat.user() as user:
        chat.egress.refusal = refusal
        try:
            answer = await user.ask("hello")
        finally:
            chat.egress.refusal = None
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert ("retry-after" in answer.headers) is (status != 403)
        assert "stopped" not in answer.text
        assert await chat.usage_events(user.id) == []


async def test_a_repeated_request_is_answered_from_the_store(chat: ChatSuite) -> None:
    async with chat.user() as user:
        headers = {"idempotency-key": "once"}
        first = await user.ask("hello", headers=headers)
        again = await user.ask("hello", headers=headers)
        other = await user.ask("something else", headers=headers)

        assert again.status_code == 200
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["ratelimit-policy"] == first.headers["ratelimit-policy"]
        assert '"openai.requests_per_minute";r=4;' in again.headers["ratelimit"]
        told, told_again = first.json()["message"], again.json()["message"]
        assert (told_again["id"], told_again["created_at"]) == (told["id"], told["created_at"])
        assert other.json()["code"] == "idempotency_key_reused"
        assert len(await chat.usage_events(user.id)) == 1


async def test_parallel_requests_with_one_key_cost_one_call(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        headers = {"idempotency-key": "k"}
        answers = await asyncio.gather(
            *(user.ask("[[sim:first_ms=300]] hello", headers=headers) for _ in range(8))
        )
        assert sorted(a.status_code for a in answers) == [200] + [409] * 7
        assert len(await chat.usage_events(user.id)) == 1


async def test_a_refused_request_may_be_repeated_with_its_key(chat: ChatSuite) -> None:
    async with chat.user(key="") as user:
        headers = {"idempotency-key": "k"}
        assert (await user.ask("hello", headers=headers)).status_code == 409
        chat.egress.keys[(user.id, "openai")] = "sim-key"
        assert (await user.ask("hello", headers=headers)).status_code == 200


async def test_a_session_deleted_under_way_loses_no_usage(chat: ChatSuite) -> None:
    async with chat.user() as user:
        asking = asyncio.create_task(user.ask("[[sim:first_ms=300]] hello"))
        await eventually(lambda: chat.holds(user.id), lambda holds: len(holds) == 1)
        gone = await user.client.delete(f"/chat/sessions/{user.session_id}")
        assert gone.status_code == 204
        assert (await asking).status_code == 200
        assert len(await chat.usage_events(user.id)) == 1


async def test_tiers_choose_model_and_provider(chat: ChatSuite) -> None:
    async with chat.user(tier="pro") as user:
        answer = await user.ask("hello", model="gpt-4")
        assert answer.json()["message"]["model"] == "gpt-6.1-sol"
    async with chat.user() as user:
        refused = await user.ask("hello", provider="gemini")
        assert refused.status_code == 402
        assert refused.json()["upgrade_tier"] == "pro"


async def test_a_paid_answer_survives_an_unreachable_client_timeout(chat: ChatSuite) -> None:
    async with chat.user() as user:
        with pytest.raises(httpx.ReadTimeout):
            await user.client.post(
                f"/chat/sessions/{user.session_id}/messages",
                json={"content": "[[sim:first_ms=600]] hello"},
                timeout=0.2,
            )
        (hold,) = await eventually(
            lambda: chat.holds(user.id), lambda holds: holds[0]["state"] == "settled"
        )
        assert hold["outcome"] == "done"
        assert len(await chat.usage_events(user.id)) == 1
