"""What an Idempotency-Key may look like, the same at every door."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from shared.http.idempotency_key import (
    PARAMETER,
    IdempotencyKey,
    RequiredIdempotencyKey,
    is_key,
    key_in,
)
from shared.vendors.dropins import BadParameter

KEYS = ["x", "7f8d-4", "!~", "k" * 200]
NO_KEYS = ["", " ", "a b", "k" * 201, "é", "a\n", "\x7f"]


@pytest.fixture
async def client() -> httpx.AsyncClient:
    app = FastAPI()

    @app.get("/may")
    async def may(key: IdempotencyKey = None) -> str | None:
        return key

    @app.get("/must")
    async def must(key: RequiredIdempotencyKey) -> str:
        return key

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


@pytest.mark.parametrize("value", KEYS)
async def test_a_key_is_one_for_all_who_read_it(client: httpx.AsyncClient, value: str) -> None:
    assert is_key(value)
    assert key_in(value) == value
    for path in ("/may", "/must"):
        answer = await client.get(path, headers={"Idempotency-Key": value})
        assert (answer.status_code, answer.json()) == (200, value)


@pytest.mark.parametrize("value", NO_KEYS)
async def test_anything_else_is_none_for_any(client: httpx.AsyncClient, value: str) -> None:
    assert not is_key(value)
    with pytest.raises(BadParameter):
        key_in(value)
    for path in ("/may", "/must"):
        header = (b"idempotency-key", value.encode("latin-1"))
        assert (await client.get(path, headers=[header])).status_code == 422


async def test_it_may_be_left_out_where_it_need_not_be(client: httpx.AsyncClient) -> None:
    assert key_in(None) is None
    assert (await client.get("/may")).json() is None
    assert (await client.get("/must")).status_code == 422


async def test_it_is_described_alike(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    (may,) = document["paths"]["/may"]["get"]["parameters"]
    (must,) = document["paths"]["/must"]["get"]["parameters"]
    (described, _null) = may["schema"]["anyOf"]
    assert described == PARAMETER["schema"]
    assert {key: must["schema"][key] for key in described} == described
    assert {may["name"], must["name"], PARAMETER["name"]} == {"Idempotency-Key"}
