"""The older service behind the gateway checks tokens itself: it believes no header of ours."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from joserfc.jwk import ECKey

from tests.gateway.conftest import Gateway, a_workplace, room
from tests.gateway.servers import StandIn, free_endpoint, serving
from tests.gateway.test_tokens import BAD_TOKENS
from tests.gateway.tokens import ADA, ISSUER, a_key, a_token, bearer, key_set, token_with_header
from tests.support.legacy import node_or_skip, running_legacy

FORGED = {"x-user-id": ADA, "x-tier": "enterprise", "x-scope": "chat"}


@dataclass
class Service:
    """The Express service, reached past the gateway, and auth's stand-in."""

    client: httpx.AsyncClient
    key: ECKey
    auth: StandIn

    async def ask(self, token: str | None, **parts: object) -> tuple[int, str]:
        headers = FORGED | (
            {"Authorization": f"Bearer {token}".strip()} if token is not None else {}
        )
        answer = await self.client.post("/screenshot", headers=headers, **parts)  # type: ignore[arg-type]
        assert answer.headers["content-type"] == "application/problem+json; charset=utf-8"
        return answer.status_code, answer.json()["code"]


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    key, endpoint = a_key(), free_endpoint()
    base = f"http://{endpoint}"
    async with serving("auth", keys=key_set(key)) as auth:
        with running_legacy(
            tmp_path_factory.mktemp("legacy"),
            endpoint.port,
            gateway="http://127.0.0.1:9",
            jwks=f"http://{auth.endpoint}/.well-known/jwks.json",
            issuer=ISSUER,
            token="ttc_of_nobody",
            browser=node_or_skip(),  # no screenshot is taken here
        ):
            async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
                await listening(client)
                yield Service(client, key, auth)


async def listening(client: httpx.AsyncClient) -> None:
    for _ in range(200):
        try:
            await client.get("/")
        except httpx.TransportError:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("it does not listen")


async def test_a_good_token_gets_as_far_as_the_body(service: Service) -> None:
    token = a_token(service.key, scope="voice chat")
    assert await service.ask(token, json={}) == (422, "body_not_readable")
    assert await service.ask(token, json={"html": "x", "width": 9}) == (422, "body_not_readable")
    assert await service.ask(token, content=b"{") == (422, "body_not_readable")
    assert await service.ask(token, json={"html": "x" * 65_537}) == (413, "body_too_large")
    assert await service.ask(token, json={"html": "x" * 200_000}) == (413, "body_too_large")


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_a_bad_token_is_refused_whatever_the_headers_say(service: Service, kind: str) -> None:
    assert await service.ask(BAD_TOKENS[kind](service.key), json={}) == (401, "token_refused")


async def test_no_token_a_token_of_another_type_or_without_the_scope_opens_nothing(
    service: Service,
) -> None:
    assert await service.ask(None, json={}) == (401, "token_refused")
    other_type = token_with_header(service.key, typ="JWT", kid=service.key.kid)
    assert await service.ask(other_type, json={}) == (401, "token_refused")
    no_scope = a_token(service.key, scope="voice chatter")
    assert await service.ask(no_scope, json={}) == (403, "scope_missing")


async def test_there_is_nothing_else(service: Service) -> None:
    answer = await service.client.get("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (404, "route_not_found")


async def test_the_token_goes_to_a_service_that_checks_it(short_directory: Path) -> None:
    async with a_workplace() as workplace:
        gateway: Gateway = await workplace.gateway(
            room(short_directory, "checking"), with_legacy=True, legacy_checks_tokens=True
        )
        token = a_token(gateway.key)
        headers = bearer(token) | {"x-api-key": "k", "Cookie": "a=b"}
        answer = await gateway.send("/legacy/screenshot", headers=headers)
    arrived = dict(answer.json["headers"])
    assert arrived["authorization"] == f"Bearer {token}"
    assert {"x-api-key", "cookie"}.isdisjoint(arrived)
