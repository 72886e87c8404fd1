"""Which pages may read our answers: exact origins, no credentials, a fixed list of headers."""

import pytest

from tests.gateway.conftest import ORIGIN, Gateway
from tests.gateway.tokens import a_token, bearer

ALLOWED_HEADERS = {
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "x-api-key",
    "x-goog-api-key",
    "xi-api-key",
    "x-voice-consent",
    # What official SDKs send of their own in a browser.
    "anthropic-version",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "openai-organization",
    "openai-project",
    "user-agent",
    "x-fern-language",
    "x-fern-runtime",
    "x-fern-runtime-version",
    "x-fern-sdk-name",
    "x-fern-sdk-version",
    "x-goog-api-client",
    "x-server-timeout",
    "x-stainless-arch",
    "x-stainless-helper",
    "x-stainless-helper-method",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
}
EXPOSED_HEADERS = {
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "idempotency-replayed",
    "x-request-id",
    "x-sandbox",
    "x-token-refresh",
    "x-should-retry",
    "request-id",
    "x-companion-provider",
    "x-companion-fallback-from",
    "x-companion-cost-microusd",
    "x-speech-id",
    "x-character-count",
    "x-voice-provider",
    "x-voice-cached",
    "x-voice-format-fallback",
    "character-cost",
    # The same limits in the words of the vendors' SDKs.
    *(
        f"x-ratelimit-{what}-{kind}"
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
    *(
        f"anthropic-ratelimit-{kind}-{what}"
        for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
}
STRANGERS = [
    "https://evil.example",
    "chrome-extension://other",
    f"{ORIGIN}x",
    f"{ORIGIN}.evil.example",
    "https://app.example.evil.example",
    "https://sub.app.example",
    "http://app.example",
    "https://app.example:8443",
    "HTTPS://APP.EXAMPLE",
    "null",
    "*",
]


def preflight(origin: str, method: str = "POST") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,idempotency-key",
    }


def words(text: str) -> set[str]:
    return {word.strip().lower() for word in text.split(",")}


@pytest.mark.parametrize("origin", [ORIGIN, "https://app.example"])
@pytest.mark.parametrize(
    "path",
    ["/chat/sessions", "/auth/login", "/oauth/token", "/keys", "/v1/responses", "/unknown", "/"],
)
async def test_a_known_page_may_ask(gateway: Gateway, origin: str, path: str) -> None:
    counts = sum(len(server.received) for server in gateway.servers.values())
    answer = await gateway.send(path, method="OPTIONS", headers=preflight(origin))
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert words(answer.headers["access-control-allow-headers"]) == ALLOWED_HEADERS
    assert words(answer.headers["access-control-allow-methods"]) == {
        *("get", "post", "put", "patch", "delete")
    }
    assert "access-control-allow-credentials" not in answer.headers
    assert sum(len(server.received) for server in gateway.servers.values()) == counts


@pytest.mark.parametrize("origin", STRANGERS)
async def test_a_stranger_may_not(gateway: Gateway, origin: str) -> None:
    counts = sum(len(server.received) for server in gateway.servers.values())
    for path in ("/chat/sessions", "/auth/login", "/unknown"):
        asked = await gateway.send(path, method="OPTIONS", headers=preflight(origin))
        assert "access-control-allow-origin" not in asked.headers
    assert sum(len(server.received) for server in gateway.servers.values()) == counts
    for path in ("/health", "/keys", "/unknown"):
        done = await gateway.send(path, headers={"Origin": origin})
        assert not [name for name in done.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("path", "with_token", "status"),
    [
        ("/keys", True, 200),
        ("/health", False, 200),
        ("/keys", False, 401),
        ("/x", False, 404),
        ("/a;b", True, 404),
    ],
)
async def test_a_known_page_reads_answers_and_errors(
    gateway: Gateway, path: str, with_token: bool, status: int
) -> None:
    headers = {"Origin": ORIGIN} | (bearer(a_token(gateway.key)) if with_token else {})
    answer = await gateway.send(path, headers=headers)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert words(answer.headers["access-control-expose-headers"]) == EXPOSED_HEADERS
    assert "access-control-allow-credentials" not in answer.headers


async def test_options_without_a_preflight_is_an_ordinary_call(gateway: Gateway) -> None:
    assert (await gateway.send("/keys", method="OPTIONS")).status == 401


async def test_a_page_reads_that_its_headers_are_too_large(gateway: Gateway) -> None:
    """Envoy says so before it knows the Origin; there is nothing in it that is anybody's."""
    headers = {"Origin": ORIGIN, "x-a": "x" * 30_000}
    answer = await gateway.send("/health", headers=headers)
    assert (answer.status, answer.json["code"]) == (431, "header_too_large")
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "path",
    ["/.well-known/jwks.json", "/.well-known/oauth-authorization-server", "/health", "/docs", "/x"],
)
@pytest.mark.parametrize("origin", [ORIGIN, "https://evil.example", None])
async def test_no_cache_shows_one_origin_anothers_answer(
    gateway: Gateway, path: str, origin: str | None
) -> None:
    answer = await gateway.send(path, headers={"Origin": origin} if origin else {})
    assert words(answer.headers["vary"]) == {"origin"}
