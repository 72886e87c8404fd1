"""The list of models as OpenAI's own SDK reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import openai
import pytest

from shared.limits.admission import tier_key
from shared.scopes import VOICE
from shared.tiers import NO_TIER
from shared.valkey import open_cache
from tests.integration.chat.conftest import ChatSuite

KEEP_KEY = """
insert into known_key (user_id, provider, key_version, status, models)
values ($1, $2, 1, $3, $4)
"""


@asynccontextmanager
async def sdk(chat: ChatSuite, user_id: UUID, **claims: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{chat.url}/v1", api_key=chat.mint.token(user_id, **claims), max_retries=0
    ) as client:
        yield client


async def know_key(
    chat: ChatSuite,
    user_id: UUID,
    provider: str,
    status: str = "valid",
    models: tuple[str, ...] = (),
) -> None:
    await chat.database.execute(KEEP_KEY, user_id, provider, status, list(models))


async def test_it_lists_what_the_user_can_use_now(chat: ChatSuite) -> None:
    user_id = uuid4()
    await know_key(chat, user_id, "openai")
    await know_key(chat, user_id, "anthropic")
    async with sdk(chat, user_id, tier="enterprise") as client:
        listed = (await client.models.list()).data
        shown = await client.models.retrieve(listed[0].id)
    owners = {model.id: model.owned_by for model in listed}
    assert set(owners.values()) == {"openai", "anthropic"}
    assert all(model.object == "model" for model in listed)
    assert shown == listed[0]
    async with sdk(chat, user_id, tier="free") as client:
        small = {model.id for model in (await client.models.list()).data}
    assert small < owners.keys()


async def test_a_seat_brings_the_models_that_the_organisations_key_reaches(
    chat: ChatSuite,
) -> None:
    user_id, firm, other = uuid4(), uuid4(), uuid4()
    await know_key(chat, firm, "openai")
    await know_key(chat, other, "anthropic")
    await know_key(chat, user_id, "openai", "invalid")

    async def owners(**claims: Any) -> set[str]:
        async with sdk(chat, user_id, tier="enterprise", **claims) as client:
            return {model.owned_by for model in (await client.models.list()).data}

    assert await owners(org=str(firm), org_seated=True) == {"openai"}
    assert await owners(org=str(firm), org_seated=False) == set()
    assert await owners() == set()
    # One's own key says what can be reached, where it works.
    await know_key(chat, user_id, "anthropic", models=("no-such-model",))
    await know_key(chat, firm, "anthropic")
    assert await owners(org=str(firm), org_seated=True) == {"openai"}


async def test_a_vendors_own_door_knows_a_model_by_every_name_that_its_calls_take(
    chat: ChatSuite,
) -> None:
    user_id = uuid4()
    for provider in ("openai", "anthropic", "gemini"):
        await know_key(chat, user_id, provider)
    async with httpx.AsyncClient(
        base_url=chat.url, headers=chat.mint.headers(user_id, tier="pro"), trust_env=False
    ) as client:

        async def shown(path: str) -> Any:
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            return answer.json()

        for name in ("gpt-6.1-sol", "gpt-4", "openai.large"):
            assert (await shown(f"/openai/v1/models/{name}"))["id"] == "gpt-6.1-sol"
        for name in ("claude-sonnet-5-5", "claude-3-sonnet"):
            claude = await shown(f"/anthropic/v1/models/{name}")
            assert claude["id"] == "claude-sonnet-5-5"
        gemini = await shown("/gemini/v1beta/models/gemini-pro")
        assert gemini["name"] == "models/gemini-3.8-flash"
        offered = {
            model["model"]: model["context_tokens"]
            for model in (await shown("/chat/models"))["data"]
        }
        assert claude["max_input_tokens"] == offered["claude-sonnet-5-5"]
        assert gemini["inputTokenLimit"] == offered["gemini-3.8-flash"]
        for path in (
            "/openai/v1/models/claude-3-sonnet",
            "/anthropic/v1/models/claude-3-opus",
            "/gemini/v1/models/default",
        ):
            assert (await client.get(path)).status_code == 404


LISTS = ("/chat/models", "/v1/models", "/openai/v1/models")
CLAUDES, GEMINIS = "/anthropic/v1/models", "/gemini/v1beta/models"


@pytest.mark.parametrize("path", [*LISTS, CLAUDES, GEMINIS])
async def test_a_list_goes_with_the_tier_and_not_with_the_token(chat: ChatSuite, path: str) -> None:
    user_id = uuid4()
    for provider in ("openai", "anthropic", "gemini"):
        await know_key(chat, user_id, provider)
    by_claim = {
        tier: httpx.AsyncClient(
            base_url=chat.url, headers=chat.mint.headers(user_id, tier=tier), trust_env=False
        )
        for tier in ("free", "enterprise")
    }
    async with by_claim["free"] as free, by_claim["enterprise"] as enterprise:
        small, large = await free.get(path), await enterprise.get(path)
        assert small.json() != large.json()
        for claims, now, shows in ((free, "enterprise", large), (enterprise, "free", small)):
            await told_of(chat, user_id, now)
            shown = await claims.get(path)
            assert shown.json() == shows.json()
            assert shown.headers["x-token-refresh"] == "tier"
        right = await free.get(path)
        assert (right.json(), "x-token-refresh" in right.headers) == (small.json(), False)
        await told_of(chat, user_id, NO_TIER)
        assert (await free.get(path)).status_code == 401


@pytest.mark.parametrize(
    "path", ["/v1/models/gpt-4", "/openai/v1/models/gpt-4", f"{CLAUDES}/claude-3-opus"]
)
async def test_a_model_is_found_by_the_tier_and_not_by_the_token(
    chat: ChatSuite, path: str
) -> None:
    user_id = uuid4()
    for provider in ("openai", "anthropic"):
        await know_key(chat, user_id, provider)
    await told_of(chat, user_id, "enterprise")
    async with httpx.AsyncClient(
        base_url=chat.url, headers=chat.mint.headers(user_id, tier="free"), trust_env=False
    ) as client:
        found = await client.get(path)
        assert (found.status_code, found.headers.get("x-token-refresh")) == (200, "tier")
        await told_of(chat, user_id, "free")
        assert (await client.get(path)).status_code == 404


async def told_of(chat: ChatSuite, user_id: UUID, tier: str) -> None:
    """As auth tells of a tier that was changed."""
    async with open_cache(chat.settings.cache_url.get_secret_value()) as cache:
        await cache.set(tier_key(str(user_id)), tier, ex=60)


async def test_a_model_is_listed_once_a_key_reaches_it(chat: ChatSuite) -> None:
    for status, models, seen in (
        ("valid", (), True),
        ("valid", ("gpt-6-luna",), True),
        ("valid", ("another",), False),
        ("invalid", (), False),
    ):
        user_id = uuid4()
        await know_key(chat, user_id, "openai", status, models)
        async with sdk(chat, user_id) as client:
            assert ("gpt-6-luna" in {m.id for m in (await client.models.list()).data}) == seen
    async with sdk(chat, uuid4()) as client:
        assert (await client.models.list()).data == []


async def test_the_wire_is_openais(chat: ChatSuite) -> None:
    user_id = uuid4()
    await know_key(chat, user_id, "openai")
    async with httpx.AsyncClient(
        base_url=chat.url, headers=chat.mint.headers(user_id), trust_env=False
    ) as client:
        answer = await client.get("/v1/models")
        assert answer.json() == {
            "object": "list",
            "data": [{"id": "gpt-6-luna", "object": "model", "created": 0, "owned_by": "openai"}],
        }
        missing = await client.get("/v1/models/gpt-2")
        assert (missing.status_code, missing.json()) == (
            404,
            {
                "error": {
                    "message": "You can use no such model now.",
                    "type": "invalid_request_error",
                    "param": "model",
                    "code": "model_not_found",
                }
            },
        )
        assert missing.headers["content-type"] == "application/json"
        odd = await client.get(f"/v1/models/{'x' * 201}")
        refused = odd.json()["error"]
        assert (odd.status_code, refused["code"]) == (400, "bad_parameter")
        assert (refused["type"], refused["param"]) == ("invalid_request_error", "model")
        assert "xxx" not in odd.text


async def test_its_errors_are_the_sdks_own(chat: ChatSuite) -> None:
    async with sdk(chat, uuid4()) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.models.retrieve("gpt-2")
        assert missing.value.code == "model_not_found"
    async with sdk(chat, uuid4(), scope=VOICE) as client:
        with pytest.raises(openai.PermissionDeniedError) as forbidden:
            await client.models.list()
        assert forbidden.value.code == "scope_missing"
    async with openai.AsyncOpenAI(
        base_url=f"{chat.url}/v1", api_key="sk-of-openai", max_retries=0
    ) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.models.list()
        assert (refused.value.code, refused.value.type) == (
            "unauthenticated",
            "authentication_error",
        )
        assert refused.value.response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("base", ["/v1", "/openai/v1"])
async def test_what_is_not_offered_is_told_in_the_sdks_own_words(
    chat: ChatSuite, base: str
) -> None:
    async with sdk(chat, uuid4(), tier="enterprise") as plain:
        client = plain.with_options(base_url=f"{chat.url}{base}")
        calls: list[Awaitable[Any]] = [
            client.embeddings.create(model="e", input="hi"),
            client.files.list(),
            client.batches.list(),
            client.responses.retrieve("resp_1"),
            client.images.generate(prompt="a bird"),
            client.models.delete("gpt-6-luna"),
            client.chat.completions.list(),
        ]
        for call in calls:
            with pytest.raises(openai.NotFoundError) as absent:
                await call
            assert (absent.value.code, absent.value.type) == (
                "call_not_offered",
                "invalid_request_error",
            )
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="nobody").embeddings.create(model="e", input="hi")
