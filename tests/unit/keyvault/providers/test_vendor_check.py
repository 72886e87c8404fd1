"""Asking a vendor about a key: what goes out, and what is made of what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from services.keyvault.providers import vendor_check
from services.keyvault.providers.vendor_check import VendorCheck
from shared.vendors import Check, KeyStatus, vendors
from shared.vendors.base import UNREACHABLE

KEY = "marked0123456789abcdefmarked"
URLS = {name: f"https://{name}.test/base/" for name in vendors}
PATHS = {
    "openai": "/base/models",
    "anthropic": "/base/v1/models?limit=1000",
    "gemini": "/base/v1/models?pageSize=1000",
    "elevenlabs": "/base/v1/user/subscription",
}
HEADERS = {
    "openai": ("authorization", f"Bearer {KEY}"),
    "anthropic": ("x-api-key", KEY),
    "gemini": ("x-goog-api-key", KEY),
    "elevenlabs": ("xi-api-key", KEY),
}


async def ask(
    provider: str, answer: Callable[[httpx.Request], httpx.Response], key: str = KEY
) -> Check:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        return await VendorCheck(client, URLS).check(provider, key)


@pytest.mark.parametrize("provider", sorted(vendors))
async def test_the_key_goes_out_in_one_header_and_nowhere_else(provider: str) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={})

    await ask(provider, answer)

    (request,) = asked
    name, value = HEADERS[provider]
    assert request.method == "GET"
    assert request.url.raw_path.decode() == PATHS[provider]
    assert request.headers[name] == value
    assert KEY not in str(request.url)
    assert [n for n, v in request.headers.items() if KEY in v] == [name]


@pytest.mark.parametrize(
    ("provider", "status", "body", "expected"),
    [
        ("openai", 200, {"data": [{"id": "gpt-6-luna"}]}, KeyStatus.VALID),
        ("openai", 401, {"error": {"code": "invalid_api_key"}}, KeyStatus.INVALID),
        ("openai", 403, {"error": {"message": "Missing scopes: x"}}, KeyStatus.LIMITED),
        ("openai", 429, {"error": {"code": "insufficient_quota"}}, KeyStatus.LIMITED),
        ("openai", 429, {"error": {"code": "rate_limit_exceeded"}}, KeyStatus.UNREACHABLE),
        ("anthropic", 200, {"data": []}, KeyStatus.VALID),
        ("anthropic", 401, {"error": {"type": "authentication_error"}}, KeyStatus.INVALID),
        ("anthropic", 403, {"error": {"type": "permission_error"}}, KeyStatus.LIMITED),
        ("anthropic", 529, {"error": {"type": "overloaded_error"}}, KeyStatus.UNREACHABLE),
        ("gemini", 200, {"models": []}, KeyStatus.VALID),
        (
            "gemini",
            400,
            {"error": {"details": [{"reason": "API_KEY_INVALID"}]}},
            KeyStatus.INVALID,
        ),
        ("gemini", 400, {"error": {"status": "INVALID_ARGUMENT"}}, KeyStatus.UNREACHABLE),
        ("gemini", 403, {"error": {}}, KeyStatus.LIMITED),
        ("elevenlabs", 200, {"tier": "free"}, KeyStatus.VALID),
        ("elevenlabs", 401, {"detail": {"status": "invalid_api_key"}}, KeyStatus.INVALID),
        ("elevenlabs", 401, {"detail": {"status": "missing_permissions"}}, KeyStatus.LIMITED),
        ("elevenlabs", 401, {"detail": {"status": "quota_exceeded"}}, KeyStatus.LIMITED),
        ("elevenlabs", 500, {}, KeyStatus.UNREACHABLE),
    ],
)
async def test_answers_are_told_apart(
    provider: str, status: int, body: object, expected: KeyStatus
) -> None:
    check = await ask(provider, lambda _request: httpx.Response(status, json=body))
    assert check.status is expected


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("no"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut"),
        httpx.LocalProtocolError(f"Illegal header value {KEY}"),
    ],
)
async def test_trouble_on_the_way_says_nothing_about_the_key(
    failure: httpx.HTTPError, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise failure

    assert await ask("openai", fail) is UNREACHABLE
    assert KEY not in caplog.text


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(status, headers={"location": "https://elsewhere.test/"})

    assert (await ask("openai", answer)).status is KeyStatus.UNREACHABLE
    assert len(asked) == 1


@pytest.mark.parametrize("content", [b"", b"<html>", b'{"data": ', b"\xff\xfe", b"[]", b'"x"'])
async def test_an_answer_that_is_none_says_nothing_bad_about_the_key(content: bytes) -> None:
    for provider in vendors:
        for status in (200, 400, 404, 502):
            check = await ask(provider, lambda _r, s=status: httpx.Response(s, content=content))  # type: ignore[misc]
            assert check.status in {KeyStatus.VALID, KeyStatus.UNREACHABLE}


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    check = await ask("openai", lambda _request: httpx.Response(200, content=endless()))
    assert check is UNREACHABLE


async def test_an_answer_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor_check, "_TIMEOUT_SECONDS", 0.05)

    async def dripping() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    check = await ask("openai", lambda _request: httpx.Response(200, content=dripping()))
    assert check is UNREACHABLE


async def test_a_key_that_comes_back_in_a_name_is_not_kept() -> None:
    listed = {"data": [{"id": "gpt-6-luna"}, {"id": f"gpt-{KEY}"}, {"id": "gpt\x00"}, {"id": ""}]}
    check = await ask("openai", lambda _request: httpx.Response(200, json=listed))
    assert check.models == ("gpt-6-luna",)
