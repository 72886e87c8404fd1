"""What a user has chosen for all their turns, and what they may still use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.chat.conftest import ChatSuite, ChatUser


async def chosen(user: ChatUser) -> dict[str, Any]:
    answer = await user.client.get("/chat/preferences")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def limits_of(user: ChatUser) -> dict[str, Any]:
    answer = await user.client.get("/chat/limits")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_choice_is_kept_whole(chat: ChatSuite) -> None:
    async with chat.user() as user, chat.user() as other:
        nothing: dict[str, Any] = {
            "fallback": [],
            "monthly_cap_microusd": None,
            "monthly_cap_usd": None,
            "speak_voice_id": None,
        }
        assert await chosen(user) == nothing
        choice = {
            "fallback": ["gemini", "openai", "gemini"],
            "monthly_cap_microusd": 2_500_000,
            "speak_voice_id": "21m00Tcm4TlvDq8ikWAM",
        }
        answer = await user.client.put("/chat/preferences", json=choice)
        assert answer.status_code == 200, answer.text
        assert await chosen(user) == {
            "fallback": ["gemini", "openai"],
            "monthly_cap_microusd": 2_500_000,
            "monthly_cap_usd": "2.500000",
            "speak_voice_id": "21m00Tcm4TlvDq8ikWAM",
        }
        assert await chosen(other) == nothing
        assert (await user.client.put("/chat/preferences", json={})).json() == nothing


async def test_who_changes_one_choice_keeps_the_others(chat: ChatSuite) -> None:
    async with chat.user() as user:
        for change in (
            {"monthly_cap_microusd": 2_500_000},
            {"fallback": ["gemini"]},
            {"speak_voice_id": "21m00Tcm4TlvDq8ikWAM"},
            {},
        ):
            answer = await user.client.patch("/chat/preferences", json=change)
            assert answer.status_code == 200, answer.text
        assert (
            answer.json()
            == await chosen(user)
            == {
                "fallback": ["gemini"],
                "monthly_cap_microusd": 2_500_000,
                "monthly_cap_usd": "2.500000",
                "speak_voice_id": "21m00Tcm4TlvDq8ikWAM",
            }
        )
        null: dict[str, Any] = {"monthly_cap_microusd": None, "fallback": []}
        await user.client.patch("/chat/preferences", json=null)
        kept = await chosen(user)
        assert (kept["monthly_cap_microusd"], kept["fallback"]) == (None, [])
        assert kept["speak_voice_id"] == "21m00Tcm4TlvDq8ikWAM"


async def test_what_was_read_can_be_changed_and_sent_back(chat: ChatSuite) -> None:
    async with chat.user() as user:
        await user.client.put("/chat/preferences", json={"monthly_cap_microusd": 2_500_000})
        for ask in (user.client.put, user.client.patch):
            read = await chosen(user)
            answer = await ask("/chat/preferences", json={**read, "fallback": ["gemini"]})
            assert answer.status_code == 200, answer.text
            assert await chosen(user) == {**read, "fallback": ["gemini"]}
            refused = await ask("/chat/preferences", json={**read, "monthly_cap_microusd": 3})
            assert refused.status_code == 422
            assert [one["field"] for one in refused.json()["errors"]] == ["body.monthly_cap_usd"]
        # Dollars alone are none: what a cap is, its micro-dollars say.
        answer = await user.client.patch("/chat/preferences", json={"monthly_cap_usd": None})
        assert answer.status_code == 422
        assert (await chosen(user))["monthly_cap_microusd"] == 2_500_000


async def test_two_changes_at_once_are_both_kept(chat: ChatSuite) -> None:
    async with chat.user() as user:
        await asyncio.gather(
            *(
                user.client.patch("/chat/preferences", json=change)
                for change in ({"monthly_cap_microusd": 7}, {"speak_voice_id": "a"})
            )
        )
        kept = await chosen(user)
        assert (kept["monthly_cap_microusd"], kept["speak_voice_id"]) == (7, "a")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"fallback": ["nobody"]}, "unknown_chat_provider"),
        ({"fallback": ["elevenlabs"]}, "unknown_chat_provider"),
        ({"fallback": "openai"}, "invalid_request"),
        ({"fallback": ["openai"] * 11}, "invalid_request"),
        ({"fallback": [""]}, "invalid_request"),
        ({"fallback": ["\x00"]}, "unknown_chat_provider"),
        ({"monthly_cap_microusd": -1}, "invalid_request"),
        ({"monthly_cap_microusd": 1.5}, "invalid_request"),
        ({"monthly_cap_microusd": "5"}, "invalid_request"),
        ({"monthly_cap_microusd": 10**30}, "invalid_request"),
        ({"monthly_cap": 5}, "invalid_request"),
        ({"monthly_cap_usd": "5.000000"}, "invalid_request"),
        ({"speak_voice_id": "no/voice"}, "invalid_request"),
        ([], "invalid_request"),
    ],
)
async def test_a_bad_choice_is_refused(chat: ChatSuite, body: Any, code: str) -> None:
    async with chat.user() as user:
        for ask in (user.client.put, user.client.patch):
            answer = await ask("/chat/preferences", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, code)
        assert (await chosen(user))["fallback"] == []


async def test_a_cap_counts_from_the_next_turn_on(chat: ChatSuite) -> None:
    async with chat.user() as user:
        assert (await user.ask("one")).status_code == 200
        await user.client.put("/chat/preferences", json={"monthly_cap_microusd": 0})
        refused = await user.ask("two")
        assert refused.status_code == 429, refused.text
        assert refused.json()["code"] == "limit_reached"
        await user.client.put("/chat/preferences", json={"monthly_cap_microusd": 5_000_000})
        assert (await user.ask("two")).status_code == 200


async def test_every_window_says_what_is_used_of_it(chat: ChatSuite) -> None:
    async with chat.user() as user:
        await user.client.put("/chat/preferences", json={"monthly_cap_microusd": 5_000_000})
        cost = 0
        for content in ("one", "two"):
            cost += (await user.ask(content)).json()["cost_microusd"]

        limits = await limits_of(user)

        windows = {window["name"]: window for window in limits["data"]}
        day = windows["openai.requests_per_day"]
        assert (day["limit"], day["used"], day["reserved"], day["remaining"]) == (50, 2, 0, 48)
        assert day["window_seconds"] == 86_400
        assert day["resets_at"].endswith("Z")
        assert windows["openai.requests_per_minute"]["limit"] == 5
        assert limits["tier"] == "free"
        assert limits["month_spent_microusd"] == cost > 0
        assert limits["month_spent_usd"] == f"{cost / 1_000_000:.6f}"
        assert limits["monthly_cap_microusd"] == 5_000_000
        assert limits["monthly_cap_usd"] == "5.000000"
        spending = next(w for name, w in windows.items() if w["limit"] == 5_000_000)
        assert spending["used"] == cost


async def test_whoever_used_nothing_has_all_left(chat: ChatSuite) -> None:
    async with chat.user(tier="enterprise") as user:
        limits = await limits_of(user)
        assert limits["month_spent_microusd"] == 0
        assert all(w["remaining"] == w["limit"] for w in limits["data"])
        assert {w["name"].split(".")[0] for w in limits["data"]} >= {"openai", "gemini"}


async def test_models_tell_their_context_by_tier(chat: ChatSuite) -> None:
    async with chat.user() as free, chat.user(tier="enterprise") as enterprise:
        for user, context in ((free, 16_000), (enterprise, 400_000)):
            models = (await user.client.get("/chat/models")).json()["data"]
            assert {m["context_tokens"] for m in models if m["provider"] == "openai"} == {context}
