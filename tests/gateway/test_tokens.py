"""Which tokens open the gateway: every probe of the token check, on the real filter."""

import time
from collections.abc import Callable

import pytest
from joserfc.jwk import ECKey

from tests.gateway.conftest import Gateway
from tests.gateway.tokens import (
    ADA,
    a_key,
    a_token,
    bearer,
    token_signed_with_the_public_key,
    token_with_another_body,
    token_with_header,
    unsigned_token,
)
from tests.gateway.wire import send_bytes

BAD_TOKENS: dict[str, Callable[[ECKey], str]] = {
    "signed with HMAC and the public key": token_signed_with_the_public_key,
    "unsigned": lambda _: unsigned_token(),
    "another body under a good signature": token_with_another_body,
    "no expiry": lambda key: a_token(key, exp=None),
    "valid for a year": lambda key: a_token(key, exp=int(time.time()) + 365 * 86_400),
    "valid for half an hour": lambda key: a_token(key, exp=int(time.time()) + 1_800),
    "expired 30 seconds ago": lambda key: a_token(key, exp=int(time.time()) - 30),
    "not valid yet": lambda key: a_token(key, nbf=int(time.time()) + 60),
    "another audience": lambda key: a_token(key, aud="keyvault"),
    "no audience": lambda key: a_token(key, aud=None),
    "another issuer": lambda key: a_token(key, iss="https://elsewhere.invalid"),
    "no issuer": lambda key: a_token(key, iss=None),
    "unknown key": lambda _: a_token(a_key("second")),
    "another key under a known name": lambda _: a_token(a_key("first")),
    "personal access token": lambda _: "ttc_0123456789abcdef",
    "not a token": lambda _: "x.y.z",
    "empty": lambda _: "",
}


async def test_a_good_token_passes_and_is_forwarded(gateway: Gateway) -> None:
    token = a_token(gateway.key)
    answer = await gateway.send("/keys", headers=bearer(token))
    assert answer.status == 200
    headers = dict(answer.json["headers"])
    assert headers["authorization"] == f"Bearer {token}"
    assert headers["x-user-id"] == ADA
    assert headers["x-tier"] == "free"


@pytest.mark.parametrize("path", ["/keys", "/chat/x", "/anthropic/v1/messages"])
async def test_the_name_of_the_scheme_may_be_small(gateway: Gateway, path: str) -> None:
    token = a_token(gateway.key)
    answer = await gateway.send(path, headers={"Authorization": f"bearer {token}"})
    assert answer.status == 200
    assert dict(answer.json["headers"])["x-user-id"] == ADA


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_a_bad_token_is_refused_however_it_is_announced(gateway: Gateway, kind: str) -> None:
    bad = BAD_TOKENS[kind](gateway.key)
    for shown in (f"bearer {bad}", f"bearer Bearer {bad}", f"Bearer bearer {bad}"):
        answer = await gateway.send("/keys", headers={"Authorization": shown})
        assert answer.status == 401


async def test_a_token_within_the_clock_skew_passes(gateway: Gateway) -> None:
    token = a_token(gateway.key, exp=int(time.time()) - 3)
    assert (await gateway.send("/keys", headers=bearer(token))).status == 200


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_a_bad_token_is_refused(gateway: Gateway, kind: str) -> None:
    before = len(gateway.servers["keyvault"].received)
    answer = await gateway.send("/keys", headers=bearer(BAD_TOKENS[kind](gateway.key)))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json["code"] == "unauthenticated"
    assert len(gateway.servers["keyvault"].received) == before


@pytest.mark.parametrize(
    "place",
    [
        "/keys?access_token={}",
        "/keys?token={}",
        "/keys?authorization=Bearer%20{}",
    ],
)
async def test_a_token_in_the_url_opens_nothing(gateway: Gateway, place: str) -> None:
    answer = await gateway.send(place.format(a_token(gateway.key)))
    assert answer.status == 401


@pytest.mark.parametrize(
    "header",
    ["x-api-key", "x-goog-api-key", "xi-api-key", "cookie", "proxy-authorization"],
)
async def test_a_token_in_another_header_opens_nothing(gateway: Gateway, header: str) -> None:
    answer = await gateway.send("/keys", headers={header: a_token(gateway.key)})
    assert answer.status == 401


@pytest.mark.parametrize("scheme", ["Basic", "bearer_", "Token"])
async def test_only_the_bearer_scheme_counts(gateway: Gateway, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {a_token(gateway.key)}"}
    assert (await gateway.send("/keys", headers=headers)).status == 401


async def test_two_tokens_must_both_be_good(gateway: Gateway) -> None:
    both = f"Bearer {a_token(gateway.key)}, Bearer {unsigned_token()}"
    assert (await gateway.send("/keys", headers={"Authorization": both})).status == 401


@pytest.mark.parametrize(
    ("path", "header", "server"),
    [
        ("/anthropic/v1/messages", "x-api-key", "chat-free"),
        ("/gemini/v1/models/gemini-pro:generateContent", "x-goog-api-key", "chat-free"),
        ("/elevenlabs/v1/text-to-speech/rachel", "xi-api-key", "voice-free"),
    ],
)
async def test_an_sdk_sends_the_token_as_its_api_key(
    gateway: Gateway, path: str, header: str, server: str
) -> None:
    token = a_token(gateway.key)
    good = await gateway.send(path, method="POST", headers={header: token}, body=b"{}")
    assert (good.status, good.json["server"]) == (200, server)
    assert dict(good.json["headers"])[header] == token
    bad = await gateway.send(path, method="POST", headers={header: unsigned_token()}, body=b"{}")
    assert bad.status == 401
    both = bearer(token) | {header: unsigned_token()}
    assert (await gateway.send(path, method="POST", headers=both, body=b"{}")).status == 401
    other = {"x-other-key": token}
    assert (await gateway.send(path, method="POST", headers=other, body=b"{}")).status == 401


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/anthropic/v1/messages", "x-api-key"),
        ("/gemini/v1/models/gemini-pro:generateContent", "x-goog-api-key"),
        ("/elevenlabs/v1/text-to-speech/rachel", "xi-api-key"),
    ],
)
@pytest.mark.parametrize("blanks", [("",), ("  ",), ("", " ")])
async def test_a_blank_key_header_of_an_sdk_is_none(
    gateway: Gateway, path: str, header: str, blanks: tuple[str, ...]
) -> None:
    async def status(*shown: str) -> int:
        lines = [f"POST {path} HTTP/1.1", "Host: a", "Connection: close", "Content-Length: 0"]
        lines += [*(f"{header}: {blank}" for blank in blanks), *shown, "", ""]
        return (await send_bytes(gateway.proxy.port, "\r\n".join(lines).encode())).status

    good, bad = a_token(gateway.key), unsigned_token()
    assert await status(f"Authorization: Bearer {good}") == 200
    assert await status(f"Authorization: Bearer {bad}") == 401
    assert await status() == 401
    assert await status("Authorization: ") == 401


@pytest.mark.parametrize("blank", ["", " "])
async def test_a_blank_authorization_beside_an_sdks_key_is_none(
    gateway: Gateway, blank: str
) -> None:
    shown = {"Authorization": blank, "x-api-key": a_token(gateway.key)}
    answer = await gateway.send("/anthropic/v1/messages", method="POST", headers=shown, body=b"{}")
    assert answer.status == 200


async def test_a_flood_of_unknown_keys_fetches_nothing(gateway: Gateway) -> None:
    auth = gateway.servers["auth"]
    before = auth.keys_shown
    stranger = a_token(a_key("stranger"))
    for _ in range(20):
        assert (await gateway.send("/keys", headers=bearer(stranger))).status == 401
    assert auth.keys_shown == before


async def test_a_token_on_a_public_call_is_not_looked_at(gateway: Gateway) -> None:
    answer = await gateway.send(
        "/auth/login", method="POST", headers=bearer(unsigned_token()), body=b"{}"
    )
    assert answer.status == 200
    assert "x-user-id" not in dict(answer.json["headers"])


@pytest.mark.parametrize("header", [{}, {"typ": "refresh+jwt", "kid": "first"}])
async def test_the_type_of_a_token_is_left_to_the_services(
    gateway: Gateway, header: dict[str, str]
) -> None:
    """Envoy reads neither `typ` nor `crit`, and tries every key when none is named.

    This is no wish but a warning: services check what the gateway does not.
    """
    token = token_with_header(gateway.key, **header)
    assert (await gateway.send("/keys", headers=bearer(token))).status == 200
