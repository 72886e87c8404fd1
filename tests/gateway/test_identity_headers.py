"""Headers that say who calls, and from where: only the gateway may write them."""

from ipaddress import ip_address

import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.tokens import ADA, a_token, bearer
from tests.gateway.wire import UPGRADE, open_upgrade

FORGED = {
    "X-User-Id": "root",
    "X-Org-Id": "root",
    "X-Tier": "enterprise",
    "X-Scope": "admin",
    "X-Session-Id": "root",
    "X-Role": "operator",
    "X-Internal-Service": "billing",
    "X-Internal-Anything-At-All": "yes",
    "X-Companion-Grant": "forged",
    "X-Companion-User": "forged",
    "X-Egress-Detail": "via_upstream",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-User": "root",
    "Forwarded": "for=203.0.113.1;host=evil.example",
    "X-Real-Ip": "203.0.113.1",
    "X-Original-Url": "/internal",
    "X-Rewrite-Url": "/internal",
    "X-Http-Method-Override": "DELETE",
    "X-Envoy-Original-Path": "/elsewhere",
    "X-Envoy-Upstream-Rq-Timeout-Ms": "1",
    "X-Envoy-Retry-On": "5xx",
    "X-Envoy-Max-Retries": "9",
    "X-Envoy-Expected-Rq-Timeout-Ms": "1",
    "X-Envoy-Decorator-Operation": "forged",
    "X-Sandbox": "true",
}
STRIPPED = {name.lower() for name in FORGED} - {"x-user-id", "x-tier"}


async def test_nothing_forged_arrives_on_a_public_call(gateway: Gateway) -> None:
    answer = await gateway.send("/auth/login", method="POST", headers=FORGED, body=b"{}")
    arrived = {name for name, _ in answer.json["headers"]}
    assert not arrived & (STRIPPED | {"x-user-id", "x-tier"})


async def test_claims_replace_forged_headers_on_a_call_with_a_token(gateway: Gateway) -> None:
    answer = await gateway.send("/keys", headers=FORGED | bearer(a_token(gateway.key, tier="pro")))
    headers = answer.json["headers"]
    assert not {name for name, _ in headers} & STRIPPED
    assert [value for name, value in headers if name == "x-user-id"] == [ADA]
    assert [value for name, value in headers if name == "x-tier"] == ["pro"]


async def test_a_claim_that_the_token_lacks_leaves_no_header(gateway: Gateway) -> None:
    token = a_token(gateway.key, tier=None)
    answer = await gateway.send("/chat/models", headers=FORGED | bearer(token))
    assert answer.json["server"] == "chat-free"
    assert "x-tier" not in dict(answer.json["headers"])


async def test_a_forged_tier_does_not_open_a_pool(gateway: Gateway) -> None:
    """Without a token a socket passes to its service: as nobody, whatever it claims."""
    before = len(gateway.servers["chat-free"].received)
    refused = len(gateway.servers["chat-enterprise"].received)
    assert await open_upgrade(gateway.proxy.port, "/chat/ws", FORGED | UPGRADE) == 101
    assert len(gateway.servers["chat-free"].received) == before + 1
    assert len(gateway.servers["chat-enterprise"].received) == refused
    assert gateway.servers["chat-free"].last.header("x-user-id") is None
    assert gateway.servers["chat-free"].last.header("x-tier") is None


async def test_forged_headers_reach_nobody_on_an_unknown_path(gateway: Gateway) -> None:
    before = {name: len(server.received) for name, server in gateway.servers.items()}
    assert (await gateway.send("/unknown", headers=FORGED)).status == 404
    assert {name: len(server.received) for name, server in gateway.servers.items()} == before


@pytest.mark.parametrize("name", ["x_user_id", "X_Tier", "x-user_id", "x_companion_grant"])
async def test_a_header_with_an_underscore_is_refused(gateway: Gateway, name: str) -> None:
    """Many a server behind reads it as the one with a hyphen."""
    answer = await gateway.send("/health", headers={name: "root"})
    assert (answer.status, answer.json["code"]) == (400, "malformed_request")


async def test_the_client_is_who_connects(gateway: Gateway) -> None:
    forged = {"X-Forwarded-For": "203.0.113.1", "X-Forwarded-Proto": "https"}
    headers = dict((await gateway.send("/health", headers=forged)).json["headers"])
    # For a peer on loopback Envoy names this machine's own address, whichever that is.
    ip_address(headers["x-forwarded-for"])
    assert headers["x-forwarded-for"] != "203.0.113.1"
    assert headers["x-forwarded-proto"] == "http"


async def test_a_trusted_proxy_says_who_the_client_is(behind_a_proxy: Gateway) -> None:
    told = {"X-Forwarded-For": "203.0.113.66, 203.0.113.7", "X-Forwarded-Proto": "https"}
    headers = dict((await behind_a_proxy.send("/health", headers=told)).json["headers"])
    assert headers["x-forwarded-for"].startswith("203.0.113.66, 203.0.113.7,")
    assert headers["x-forwarded-proto"] == "https"
    # The proxy saw .7; what the client put before it is its own claim.
    logged = await behind_a_proxy.proxy.logged(headers["x-request-id"])
    assert logged[0]["client"] == "203.0.113.7"


async def test_every_answer_has_an_id_of_our_own_making(gateway: Gateway) -> None:
    answer = await gateway.send("/health", headers={"X-Request-Id": "chosen by the client"})
    seen = dict(answer.json["headers"])["x-request-id"]
    assert answer.headers["x-request-id"] == seen
    assert len(seen) == 36


async def test_a_trace_goes_on(gateway: Gateway) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await gateway.send("/health", headers={"traceparent": parent})
    assert dict(answer.json["headers"])["traceparent"] == parent


async def test_a_services_own_header_of_that_name_is_not_taken_for_ours(gateway: Gateway) -> None:
    """What comes back from a service is its business: only requests are stripped."""
    assert (await gateway.send("/health")).headers["x-user-id"] == "from the service"
