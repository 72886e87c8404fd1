"""What the documents say of who may call is what the doors enforce and the gateway lets in."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from joserfc.jwk import KeySet

from deploy.companion.deployment import Deployment, Hosts
from deploy.envoy import gateway
from deploy.openapi import document_of
from shared import scopes
from shared.http.errors import install_error_handlers
from shared.http.hot import HotRoutes
from shared.http.security import SDK_KEY_HEADERS
from shared.tokens import TokenVerifier
from tests.support.openapi import Operation, operations
from tests.support.tokens import AUDIENCE, ISSUER, TokenMint

SCOPE_OF = {
    "auth": scopes.ACCOUNT,
    "keyvault": scopes.KEYS,
    "chat": scopes.CHAT,
    "voice": scopes.VOICE,
    "billing": scopes.BILLING_READ,
}
ALL_SCOPES = scopes.of_sign_in("operator")
ROOT = Path(__file__).parents[2]


class Keys:
    version = 1

    def __init__(self, mint: TokenMint) -> None:
        self._keys = KeySet([mint.key])

    async def current(self) -> KeySet:
        return self._keys

    async def refreshed_for(self, _key_id: str) -> KeySet:
        return self._keys


class Nothing:
    """What is behind the doors: nobody's sign-in has ended, and all else is an error."""

    async def check(self, _sign_in_id: UUID) -> None:
        return None

    def __getattr__(self, name: str) -> Nothing:
        raise LookupError(name)


@pytest.fixture(scope="module")
def mint() -> TokenMint:
    return TokenMint()


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    secrets = Path(tmp_path_factory.mktemp("deployment"), "secrets")
    Deployment(secrets).create(Hosts())
    return {service: document_of(service, secrets) for service in SCOPE_OF}


def doors(service: str, mint: TokenMint) -> HotRoutes:
    api = importlib.import_module(f"services.{service}.api.routes")
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    for router in getattr(api, "routers", None) or api.ROUTERS:
        app.include_router(router)
    app.state.verifier = TokenVerifier(Keys(mint), issuer=ISSUER, audience=AUDIENCE)
    app.state.scope = SCOPE_OF[service]
    app.state.ended_sessions = app.state.actions = app.state.settings = Nothing()
    return HotRoutes(app, getattr(api, "hot_routes", ()))


def needed(operation: Operation) -> set[str]:
    """The scopes that it names; each way to show a token needs the same."""
    found = {frozenset(held) for way in operation.about["security"] for held in way.values()}
    assert len(found) <= 1, operation
    return set(*found)


async def refusal(
    client: httpx.AsyncClient, operation: Operation, token: str | None, header: str = ""
) -> tuple[str, str] | None:
    """How the door refuses the token, if it is its scopes or that there is none."""
    path = operation.path.replace("{version}", "v1")
    shown = {header or "authorization": token if header else f"Bearer {token}"} if token else {}
    answer = await client.request(
        operation.method,
        re.sub(r"\{\w+\}", str(UUID(int=7)), path),
        headers=shown | {"content-type": "application/json"},
        content="{}",
    )
    if answer.status_code not in (401, 403):
        return None
    found = re.search(r"may not be used for ([a-z:]+)", answer.text)
    return ("scope_missing", found[1]) if found else ("unauthenticated", "")


@pytest.mark.parametrize("service", SCOPE_OF)
async def test_a_door_asks_for_what_its_document_says(
    service: str, documents: dict[str, Any], mint: TokenMint
) -> None:
    transport = httpx.ASGITransport(doors(service, mint), raise_app_exceptions=False)
    found = operations(service, documents[service])
    assert len(found) > 10, "the search itself must find operations"
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        for operation in found:
            scopes_ = needed(operation)
            if not scopes_:
                continue
            assert await refusal(client, operation, None) == ("unauthenticated", ""), operation
            assert "401" in operation.about["responses"], operation
            for scope in scopes_:
                held = " ".join(ALL_SCOPES - {scope})
                token = mint.token(UUID(int=7), role="operator", scope=held)
                assert await refusal(client, operation, token) == ("scope_missing", scope)
            token = mint.token(UUID(int=7), role="operator", scope=" ".join(scopes_))
            for way in operation.about["security"]:
                header = "" if "bearer" in way else next(iter(way))
                assert await refusal(client, operation, token, header) is None, operation


def test_the_public_calls_of_the_documents_are_those_of_the_gateway(
    documents: dict[str, Any],
) -> None:
    public = {
        (operation.method, operation.path)
        for service, document in documents.items()
        for operation in operations(service, document)
        if not needed(operation)
    }
    elsewhere = {"/docs", *(f"/{service}/openapi.json" for service in SCOPE_OF)}
    assert public == {
        (call.method, call.path) for call in gateway.PUBLIC_CALLS if call.path not in elsewhere
    }


def test_a_token_may_come_where_the_gateway_looks_for_it(documents: dict[str, Any]) -> None:
    assert dict(gateway.SDK_KEY_HEADERS) == SDK_KEY_HEADERS
    for service, document in documents.items():
        used = {
            way
            for operation in operations(service, document)
            for ways in operation.about["security"]
            for way in ways
        }
        assert set(document["components"]["securitySchemes"]) == used


def test_the_example_of_a_sign_in_asks_for_what_its_pages_recommend(
    documents: dict[str, Any],
) -> None:
    example = (ROOT / "docs/extension-sign-in.md").read_text("utf-8")
    asked = re.search(r'scope: "([^"]+)"', example)
    assert asked is not None
    named = {
        (method, _shape(path))
        for page in ("for-the-extension.md", "live-answers.md", "live-speech.md")
        for method, path in re.findall(
            r"`(GET|POST|PUT|PATCH|DELETE) (/[^` …]+)`", (ROOT / "docs" / page).read_text("utf-8")
        )
    }
    reached = {
        (operation.method, _shape(operation.path)): needed(operation)
        for service, document in documents.items()
        for operation in operations(service, document)
    }
    known = named & reached.keys()
    assert len(known) > 5, "the search itself must find calls"
    assert {call for call in known if not reached[call] <= set(asked[1].split())} == set()


def test_the_page_tells_what_each_scope_is_for(documents: dict[str, Any]) -> None:
    page = (ROOT / "docs/extension-sign-in.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z:]+)` \| (.*) \|$", page, re.M))
    assert rows.keys() == scopes.SIGN_IN_SCOPES
    reached = {
        (operation.method, operation.path): needed(operation)
        for service, document in documents.items()
        for operation in operations(service, document)
    }
    named = [
        (call, scope)
        for scope, row in rows.items()
        for call in re.findall(r"`(GET) (/[^`]+)`", row)
    ]
    assert named, "the search itself must find calls"
    assert [call for call, scope in named if reached[call] != {scope}] == []


def _shape(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)
