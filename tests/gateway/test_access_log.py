"""The access log: who asked for what and how it went, and nothing that opens a door."""

from uuid import uuid4

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
