"""The access log: who asked for what and how it went, and nothing that opens a door."""

from secrets import token_hex, token_urlsafe
from uuid import uuid4

import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.tokens import ADA, a_token, bearer


async def test_a_line_tells_a_call(gateway: Gateway) -> None:
    token = a_token(gateway.key, tier="pro")
    answer = await gateway.send("/chat/sessions?limit=1", headers=bearer(token))
    request_id = answer.headers["x-request-id"]
    (line,) = await gateway.proxy.logged(request_id)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/chat/sessions", 200)
    assert (line["user_id"], line["tier"], line["pool"]) == (ADA, "pro", "chat-pro")
    assert line["duration_ms"] >= 0


async def test_no_line_holds_a_secret(gateway: Gateway) -> None:
    secret = f"secret-{uuid4()}"
    token = a_token(gateway.key)
    headers = bearer(token) | {
        "x-api-key": secret,
        "xi-api-key": secret,
        "x-goog-api-key": secret,
        "Cookie": secret,
        "Sec-WebSocket-Protocol": secret,
        "traceparent": secret,
    }
    targets = [
        f"/keys?access_token={secret}",
        f"/unknown?token={secret}",
        f"/auth//me?key={secret}",
        f"/chat/openapi.json?{secret}",
        f"/auth/invitations/{secret}/accept?x={secret}",
        f"/auth//invitations/{secret}/accept",
        f"/keys/{secret}",
        f"/keys/{secret}/validate?x={secret}",
        f"/keys/openai/{secret}",
        f"/keys/../auth/invitations/{secret}/accept",
        f"/oauth/reset-password?token={secret}",
        f"/oauth/accept-invitation?token={secret}",
        f"/billing/admin/dashboard/open?token={secret}",
    ]
    answers = [await gateway.send(target, headers=headers) for target in targets]
    ids = [answer.headers["x-request-id"] for answer in answers]
    for request_id in ids:
        await gateway.proxy.logged(request_id)
    text = gateway.proxy.access_log.read_text() + gateway.proxy.output.read_text()
    assert secret not in text
    assert token not in text
    (invitation,) = await gateway.proxy.logged(ids[4])
    assert invitation["path"] == "/auth/invitations/…"
    (key,) = await gateway.proxy.logged(ids[targets.index(f"/keys/{secret}")])
    assert key["path"] == "/keys/…"


async def test_a_line_about_keys_tells_which(gateway: Gateway) -> None:
    headers = bearer(a_token(gateway.key))
    for path in (
        "/keys/openai",
        "/keys/openai/validate",
        "/keys/audit",
        f"/keys/organisations/{ADA}/openai",
    ):
        answer = await gateway.send(f"{path}?x=1", headers=headers)
        (line,) = await gateway.proxy.logged(answer.headers["x-request-id"])
        assert line["path"] == path


@pytest.mark.parametrize(
    "secret",
    [
        # A dash early, in the middle and late would make short words of one in four thousand.
        f"ttc_{token_urlsafe(32).replace('-', '_')}",
        f"sk-ant-api03-{token_urlsafe(70).replace('-', '_')}",
        f"sk_{token_hex(24)}",
        f"AIza{token_hex(18)}",
        f"whsec_{token_hex(16)}",
        token_hex(16),
    ],
    ids=["personal token", "anthropic", "elevenlabs", "gemini", "webhook", "older elevenlabs"],
)
async def test_a_secret_that_was_taken_for_an_id_is_not_written(
    gateway: Gateway, secret: str
) -> None:
    headers = bearer(a_token(gateway.key))
    for path in (
        f"/auth/tokens/{secret}",
        f"/voice/voices/{secret}/settings?search=x",
        f"/elevenlabs/v1/voices/{secret}",
        f"/v1/models/{secret}",
        f"/oauth/reset-password/{secret}",
        f"/KEYS/{secret}",
        f"/gemini/v1beta/models/{secret}:generateContent",
        f"/{secret}",
    ):
        answer = await gateway.send(path, headers=headers)
        (line,) = await gateway.proxy.logged(answer.headers["x-request-id"])
        assert line["path"] == "…", path
        assert line["route"], path
    assert secret not in gateway.proxy.access_log.read_text() + gateway.proxy.output.read_text()


async def test_ids_models_and_our_own_words_are_written(gateway: Gateway) -> None:
    headers = bearer(a_token(gateway.key))
    for path in (
        f"/auth/organisations/{ADA}/members/{uuid4()}",
        f"/chat/sessions/{uuid4()}/messages/{uuid4()}/regenerate",
        "/auth/tokens/not-an-id",
        "/.well-known/oauth-authorization-server/auth",
        "/gemini/v1beta/models/gemini-3.1-flash-lite-preview:streamGenerateContent",
        "/anthropic/v1/models/claude-sonnet-4-5-20250929",
        "/elevenlabs/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM/stream/with-timestamps",
        "/",
    ):
        answer = await gateway.send(f"{path}?x=1", headers=headers)
        (line,) = await gateway.proxy.logged(answer.headers["x-request-id"])
        assert line["path"] == path
