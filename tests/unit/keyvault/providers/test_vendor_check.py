"""Asking a vendor about a key: what goes out, and what is made of what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import httpx
import pytest

from services.keyvault.providers import vendor_check
from services.keyvault.providers.vendor_check import VendorCheck
from shared.vendors import Check, KeyStatus, vendors
from shared.vendors.base import UNREACHABLE

KEY = "marked0123456789abcdefmarked"
URLS = {name: f"https://{name}.test/base/" for name in vendors}
PATHS = {
    "openai": ["/base/models"],
    "anthropic": ["/base/v1/models?limit=1000"],
    "gemini": ["/base/v1/models?pageSize=1000"],
    "elevenlabs": ["/base/v1/user/subscription", "/base/v1/voices", "/base/v1/models"],
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

    name, value = HEADERS[provider]
    assert [request.url.raw_path.decode() for request in asked] == PATHS[provider]
    for request in asked:
        # A call that only reads costs nothing, at any of them.
        assert request.method == "GET"
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


@pytest.mark.parametrize("status", [401, 500])
async def test_a_key_that_is_bad_or_unknown_is_asked_about_once(status: int) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(status, json={"detail": {"status": "invalid_api_key"}})

    await ask("elevenlabs", answer)
    assert asked == ["/base/v1/user/subscription"]


def elevenlabs_that(
    voices: httpx.Response | Exception,
) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/voices"):
            if isinstance(voices, Exception):
                raise voices
            return voices
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json=[{"model_id": "e1", "can_do_text_to_speech": True}])
        plan = {"tier": "pro", "character_limit": 9, "status": f"x{KEY}", "character_count": -1}
        return httpx.Response(200, json=plan)

    return answer


async def test_what_several_calls_told_comes_together_and_odd_facts_do_not() -> None:
    voices = httpx.Response(200, json={"voices": [{"category": "cloned"}]})
    check = await ask("elevenlabs", elevenlabs_that(voices))
    assert check.models == ("e1",)
    assert check.details == {
        "plan": "pro",
        "characters_limit": 9,
        "voices": 1,
        "cloned_voices": 1,
    }


async def test_one_of_several_calls_that_fails_takes_only_its_own_away() -> None:
    check = await ask("elevenlabs", elevenlabs_that(httpx.ReadTimeout("slow")))
    assert (check.status, check.models) == (KeyStatus.VALID, ("e1",))
    assert "voices" not in check.details


@pytest.mark.parametrize(
    ("provider", "headers", "body", "wait"),
    [
        ("openai", {"retry-after": "120"}, {}, timedelta(minutes=2)),
        ("openai", {"retry-after-ms": "1500", "retry-after": "9"}, {}, timedelta(seconds=1.5)),
        ("anthropic", {"retry-after": "1e9"}, {}, timedelta(days=1)),
        ("elevenlabs", {"retry-after": "soon"}, {}, None),
        ("elevenlabs", {"retry-after": "-5"}, {}, None),
        ("gemini", {}, {"error": {"details": [{"retryDelay": "31.5s"}]}}, timedelta(seconds=31.5)),
        ("gemini", {}, [{"error": {"details": [{"retryDelay": "nan s"}, 3]}}], None),
    ],
)
async def test_a_vendor_that_asks_for_time_gets_it(
    provider: str, headers: dict[str, str], body: object, wait: timedelta | None
) -> None:
    check = await ask(provider, lambda _r: httpx.Response(429, json=body, headers=headers))
    assert (check.status, check.retry_after) == (KeyStatus.UNREACHABLE, wait)


async def test_a_key_that_comes_back_in_a_name_is_not_kept() -> None:
    listed = {"data": [{"id": "gpt-6-luna"}, {"id": f"gpt-{KEY}"}, {"id": "gpt\x00"}, {"id": ""}]}
    check = await ask("openai", lambda _request: httpx.Response(200, json=listed))
    assert check.models == ("gpt-6-luna",)
