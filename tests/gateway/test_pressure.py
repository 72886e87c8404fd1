"""What somebody without an account, or with one, can make the gateway hold for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.gateway.conftest import Gateway, a_workplace, room
from tests.gateway.tokens import a_token, bearer
from tests.gateway.wire import UPGRADE, read_head

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
