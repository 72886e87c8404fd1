"""What somebody without an account, or with one, can make the gateway hold for them."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml

from deploy.envoy.gateway import ipv6_networks_of
from deploy.envoy.render import Endpoint, GatewaySettings, render_gateway
from tests.gateway.conftest import Gateway, a_workplace, room
from tests.gateway.servers import free_endpoint
from tests.gateway.test_personal_tokens import granting
from tests.gateway.tokens import a_token, bearer
from tests.gateway.wire import UPGRADE, read_head, send

MEBIBYTE = 1024 * 1024
HEAP = 128


@pytest.fixture(scope="module")
async def small(short_directory: Path) -> AsyncIterator[Gateway]:
    """A gateway with little memory and little patience, that counts sockets from the fifth on."""
    async with a_workplace() as workplace:
        yield await workplace.gateway(
            room(short_directory, "small"),
            heap_mebibytes=HEAP,
            idle_seconds=1,
            shield_sockets_per_second=2,
            trusted_proxies=1,
        )


def memory_of(gateway: Gateway) -> float:
    """In MiB."""
    return float(psutil.Process(gateway.proxy.process.pid).memory_info().rss / MEBIBYTE)


async def an_unfinished_body(stack: AsyncExitStack, port: int, head: str, sent: int) -> None:
    """A request that announces a mebibyte and sends so much of it, left as it is."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.callback(writer.close)
    writer.write(f"{head}Content-Length: {MEBIBYTE}\r\n\r\n".encode() + b"x" * sent)
    with suppress(ConnectionError):
        await writer.drain()


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/auth/login", 16 * 1024),
        ("/oauth/token", 16 * 1024),
        ("/billing/admin/dashboard/open", 16 * 1024),
        ("/billing/stripe/webhook", 128 * 1024),
    ],
)
async def test_without_a_token_little_is_held_back(gateway: Gateway, path: str, limit: int) -> None:
    fits = await gateway.send(path, method="POST", body=b"x" * limit)
    assert (fits.status, fits.json["body_bytes"]) == (200, limit)
    for chunked in (False, True):
        over = await gateway.send(path, method="POST", body=b"x" * (limit + 1), chunked=chunked)
        assert (over.status, over.json["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/auth/me", 64 * 1024),
        ("/keys/openai", 16 * 1024),
        ("/billing/usage/events", MEBIBYTE),
        ("/billing/admin/plan-prices", MEBIBYTE),
        ("/billing/subscription", 64 * 1024),
    ],
)
async def test_with_a_token_no_more_than_the_path_needs(
    gateway: Gateway, path: str, limit: int
) -> None:
    token = bearer(a_token(gateway.key))
    fits = await gateway.send(path, method="POST", headers=token, body=b"x" * limit)
    assert (fits.status, fits.json["body_bytes"]) == (200, limit)
    over = await gateway.send(path, method="POST", headers=token, body=b"x" * (limit + 1))
    assert (over.status, over.json["code"]) == (413, "too_large")


async def test_near_its_limit_of_memory_nothing_new_is_taken(small: Gateway) -> None:
    token = a_token(small.key)
    head = f"POST /billing/admin/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
    await small.send("/auth/me", headers=bearer(token))
    async with AsyncExitStack() as stack:
        # In all six times as much as there is room for, at the pace of a fast line.
        for number in range(6 * HEAP):
            await an_unfinished_body(stack, small.proxy.port, head, MEBIBYTE - 10)
            if number % 20 == 0:
                await asyncio.sleep(0.1)
        assert memory_of(small) < 3 * HEAP
    async with asyncio.timeout(10):
        while (await small.send("/health")).status != 200:
            await asyncio.sleep(0.2)


async def test_a_connection_on_which_nothing_is_said_is_closed(small: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", small.proxy.port)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def opened(gateway: Gateway, host: int) -> int:
    """The status with which a socket is opened, or not, for the client of that address."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy.port)
    fields = {"Host": "a", **UPGRADE, "X-Forwarded-For": f"203.0.113.{host}"}
    lines = [f"{name}: {value}" for name, value in fields.items()]
    writer.write(("GET /chat/ws HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode())
    status, _ = await read_head(reader)
    writer.close()
    return status


async def test_sockets_are_counted_by_address_and_apart(small: Gateway) -> None:
    statuses = [await opened(small, 60) for _ in range(8)]
    assert statuses[:4] == [101] * 4
    assert statuses[-1] == 429
    calls = {"X-Forwarded-For": "203.0.113.60"}
    assert (await small.send("/health", headers=calls)).status == 200
    assert await opened(small, 61) == 101


CONNECTIONS = 80
REFUSED = "envoy_connection_limit_limited_connections"


def a_free_port_everywhere() -> Endpoint:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        return Endpoint("0.0.0.0", listener.getsockname()[1])


@pytest.fixture(scope="module")
async def public(short_directory: Path) -> AsyncIterator[Gateway]:
    """A gateway that clients reach by themselves, with room for few connections."""
    async with a_workplace() as workplace:
        yield await workplace.gateway(
            room(short_directory, "public"),
            listen=a_free_port_everywhere(),
            max_connections=CONNECTIONS,
            metrics=free_endpoint(),
        )


async def served(stack: AsyncExitStack, gateway: Gateway, address: str) -> bool:
    """Whether a connection from that address, which is kept, is answered."""
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", gateway.proxy.port, local_addr=(address, 0)
        )
        stack.callback(writer.close)
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        return await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    except ConnectionError:
        return False


async def test_one_address_can_not_hold_every_connection(public: Gateway) -> None:
    async with AsyncExitStack() as stack:
        held = [await served(stack, public, "127.0.0.2") for _ in range(CONNECTIONS)]
        assert held == [True] * (CONNECTIONS // 4) + [False] * (CONNECTIONS * 3 // 4)
        others = [await served(stack, public, f"127.0.1.{n}") for n in range(1, 33)]
        # All but those who fall into the same share, an eighth.
        assert 20 <= sum(others) < 32
        metrics = public.proxy.settings.metrics
        assert metrics is not None
        shown = (await send(metrics.port, "/metrics")).body.decode()
        assert re.search(
            rf"^{REFUSED}{{envoy_connection_limit_prefix=\"share\"}} [1-9]", shown, re.M
        )
    async with AsyncExitStack() as stack, asyncio.timeout(10):
        while not await served(stack, public, "127.0.0.2"):
            await asyncio.sleep(0.1)


async def test_all_shares_let_in_alike(public: Gateway) -> None:
    async def status(address: str, head: str) -> int:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", public.proxy.port, local_addr=(address, 0)
        )
        writer.write(f"GET /auth/me HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode())
        found, _ = await read_head(reader)
        writer.close()
        return found

    shown = f"Authorization: Bearer {a_token(public.key)}\r\n"
    for address in (f"127.0.2.{n}" for n in range(1, 33)):
        assert [await status(address, head) for head in ("", shown)] == [401, 200]


async def test_a_personal_token_and_a_socket_pass_in_every_share(public: Gateway) -> None:
    """All that one exchange leads to is one text for all shares."""
    port, personal = public.proxy.port, f"Authorization: Bearer ttc_{'0' * 49}\r\n"
    public.servers["auth-internal"].override = granting(a_token(public.key, tier="pro"))

    async def status(address: str, request: str) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        writer.write(f"{request}\r\n".encode())
        found, _ = await read_head(reader)
        writer.close()
        return found

    upgrade = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE.items())
    asked = f"GET /v1/models HTTP/1.1\r\nHost: a\r\n{personal}"
    socket_of_chat = f"GET /chat/ws HTTP/1.1\r\nHost: a\r\n{personal}{upgrade}"
    try:
        for address in (f"127.0.3.{n}" for n in range(1, 33)):
            assert [await status(address, head) for head in (asked, socket_of_chat)] == [200, 101]
            assert "ttc_" not in str(public.servers["chat-pro"].last)
    finally:
        public.servers["auth-internal"].override = None


def share_of(address: str) -> int:
    """Of eight, the one of a client of IPv6."""
    fitting = [n for n in range(7, 0, -1) if re.fullmatch(ipv6_networks_of(n, 8), address)]
    return fitting[0] if fitting else 0


IN_A_NETWORK_OF_ITS_OWN = ("unshare", "--user", "--map-root-user", "--net")


def has_networks() -> bool:
    """Whether this user may make one, with addresses of its own."""
    command = [*IN_A_NETWORK_OF_ITS_OWN, "ip", "link", "set", "lo", "up"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not has_networks(), reason="nobody here may make a network of their own")
async def test_a_site_of_ipv6_can_not_hold_every_connection(
    public: Gateway, tmp_path: Path
) -> None:
    known = public.proxy.settings
    assert isinstance(known, GatewaySettings)
    settings = replace(
        known,
        listen=Endpoint("::", 8080),
        admin=Endpoint("127.0.0.1", 9901),
        metrics=None,
        access_log=tmp_path / "access.log",
    )
    configuration = tmp_path / "gateway.yaml"
    configuration.write_text(render_gateway(settings))
    site = [f"2001:db8:1:{n % 4 or 9}::5" for n in range(30)]
    others = [f"2001:db8:{n:x}:2::5" for n in range(16, 48)]
    program = await asyncio.create_subprocess_exec(
        *IN_A_NETWORK_OF_ITS_OWN,
        *(sys.executable, "-m", "tests.gateway.ipv6_clients", str(configuration), "8080"),
        *(*site, *others),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    said, _ = await asyncio.wait_for(program.communicate(), 120)
    held = json.loads(said)
    assert held[:30] == [True] * (CONNECTIONS // 4) + [False] * (30 - CONNECTIONS // 4)
    # Whoever else falls into that share is shut out with it, and nobody else.
    assert held[30:] == [share_of(address) != share_of(site[0]) for address in others]
    assert 20 <= sum(held[30:]) < 32


def test_a_site_of_ipv6_falls_into_one_share() -> None:
    site = ["2001:db8:1:2::5", "2001:db8:1::1", "2001:db8:1:ffff:1:2:3:4"]
    assert {share_of(address) for address in site} == {0}
    shares = {share_of(f"2001:db8:{n:x}:2::5") for n in range(256)}
    assert shares == set(range(8))
    assert share_of("2001:db8::1") == share_of("::1") == share_of("2001:db8:0:1::1") == 0
    # What is left out of a short form must not bring what the client chose in its place.
    assert {share_of(f"2600::{n:x}:6:7:8") for n in range(16)} == {0}


@pytest.mark.parametrize(
    ("listen", "trusted_proxies", "shares"),
    [("0.0.0.0", 0, 8), ("0.0.0.0", 1, 1), ("127.0.0.1", 0, 1)],
)
def test_there_are_no_shares_where_all_come_from_one_address(
    public: Gateway, listen: str, trusted_proxies: int, shares: int
) -> None:
    known = public.proxy.settings
    assert isinstance(known, GatewaySettings)
    settings = replace(known, listen=Endpoint(listen, 8080), trusted_proxies=trusted_proxies)
    document = yaml.safe_load(render_gateway(settings))
    listener = document["static_resources"]["listeners"][0]
    assert len(listener["filter_chains"]) == shares
    assert ("filter_chain_matcher" in listener) == (shares > 1)
