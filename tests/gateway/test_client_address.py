"""The client's address that auth counts by: written by the gateway, from the peer or from the hop
that the last trusted proxy saw."""

from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.gateway.conftest import Gateway, a_workplace, room
from tests.gateway.wire import send_bytes

ADDRESS = "x-envoy-external-address"
ELSEWHERE = "203.0.113.66"
FORGED: Mapping[str, str] = {
    "X-Envoy-External-Address": ELSEWHERE,
    "X-Envoy-Internal": "true",
    "X-Forwarded-For": ELSEWHERE,
    "X-Real-Ip": ELSEWHERE,
    "X-Client-Ip": ELSEWHERE,
    "True-Client-Ip": ELSEWHERE,
    "Cf-Connecting-Ip": ELSEWHERE,
    "Forwarded": f"for={ELSEWHERE}",
}


@pytest.fixture(scope="module")
async def behind_one(short_directory: Path) -> AsyncIterator[Gateway]:
    """A gateway that believes one proxy in front of it."""
    async with a_workplace() as workplace:
        yield await workplace.gateway(room(short_directory, "one-proxy"), trusted_proxies=1)


async def seen_by_auth(gateway: Gateway, headers: Mapping[str, str]) -> list[str]:
    answer = await gateway.send("/auth/login", method="POST", headers=headers, body=b"{}")
    assert answer.json["server"] == "auth"
    return [value for name, value in answer.json["headers"] if name == ADDRESS]


async def test_auth_sees_the_peer(gateway: Gateway) -> None:
    assert await seen_by_auth(gateway, {}) == ["127.0.0.1"]


@pytest.mark.parametrize("name", FORGED)
async def test_no_header_of_a_client_sets_its_address(gateway: Gateway, name: str) -> None:
    assert await seen_by_auth(gateway, {name: FORGED[name]}) == ["127.0.0.1"]


async def test_all_of_them_together_and_repeated_do_not_either(gateway: Gateway) -> None:
    assert await seen_by_auth(gateway, FORGED) == ["127.0.0.1"]
    request = (
        "POST /auth/login HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n"
        "Content-Length: 2\r\n"
        f"X-Envoy-External-Address: {ELSEWHERE}\r\nx-envoy-external-address: 198.51.100.1\r\n"
        f"X-Forwarded-For: {ELSEWHERE}\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n{{}}"
    )
    answer = await send_bytes(gateway.proxy.port, request.encode())
    found = [value for name, value in answer.json["headers"] if name == ADDRESS]
    assert found == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("198.51.100.7", "198.51.100.7"),
        (f"{ELSEWHERE}, 198.51.100.7", "198.51.100.7"),
        (f"{ELSEWHERE}, 10.0.0.1, 127.0.0.1, 198.51.100.7", "198.51.100.7"),
        (f"{ELSEWHERE}, 2001:db8::7", "2001:db8::7"),
        ("10.1.2.3", "10.1.2.3"),
    ],
)
async def test_behind_a_proxy_the_hop_that_it_saw_counts(
    behind_one: Gateway, forwarded: str, client: str
) -> None:
    headers = {"X-Forwarded-For": forwarded, "X-Envoy-External-Address": ELSEWHERE}
    [found] = await seen_by_auth(behind_one, headers)
    assert ip_address(found) == ip_address(client)


@pytest.mark.parametrize("forwarded", ["nonsense", f"{ELSEWHERE}, nonsense", f"{ELSEWHERE}, "])
async def test_a_hop_that_is_no_address_does_not_let_the_client_choose_one(
    behind_one: Gateway, forwarded: str
) -> None:
    assert ELSEWHERE not in await seen_by_auth(behind_one, {"X-Forwarded-For": forwarded})


async def test_a_call_past_the_proxy_counts_as_the_peers(behind_one: Gateway) -> None:
    """Nobody should be able to come around the proxy; whoever does has only their own address."""
    headers = {"X-Envoy-External-Address": ELSEWHERE}
    assert await seen_by_auth(behind_one, headers) == ["127.0.0.1"]
