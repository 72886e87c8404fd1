"""What Kubernetes has Envoy do before it stops it: `deploy/k8s/base/drain.sh`."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.k8s.render import HERE
from tests.gateway.conftest import Gateway, a_workplace, room
from tests.gateway.servers import free_endpoint
from tests.gateway.tokens import a_token, bearer
from tests.gateway.wire import read_chunk, read_head, send

SCRIPT = HERE / "base" / "drain.sh"


@pytest.fixture
async def leaving(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway as in a pod, with its admin interface on loopback."""
    async with a_workplace() as workplace:
        yield await workplace.gateway(
            room(tmp_path, "leaving"), admin=free_endpoint(), metrics=free_endpoint()
        )


async def _drain(gateway: Gateway, *, most_seconds: int) -> asyncio.subprocess.Process:
    admin = gateway.proxy.settings.admin
    assert not isinstance(admin, Path)
    return await asyncio.create_subprocess_exec(
        *("bash", str(SCRIPT), str(admin.port), str(most_seconds), "1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def _stream(
    gateway: Gateway, events: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy.port)
    token = a_token(gateway.key, tier="pro")
    head = f"Host: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(f"GET /chat/sse?events={events} HTTP/1.1\r\n{head}".encode())
    await read_head(reader)
    return reader, writer


async def test_a_stream_is_heard_to_its_end(leaving: Gateway) -> None:
    reader, writer = await _stream(leaving, 40)  # two seconds of it
    draining = await _drain(leaving, most_seconds=30)
    heard = 0
    while await read_chunk(reader):
        heard += 1
        if heard == 35:
            assert draining.returncode is None
    writer.close()
    assert heard == 40
    async with asyncio.timeout(5):
        assert await draining.wait() == 0
    assert draining.stdout is not None and await draining.stdout.read() == b""


async def test_it_says_that_it_leaves_and_still_answers(leaving: Gateway) -> None:
    _, writer = await _stream(leaving, 100)
    draining = await _drain(leaving, most_seconds=2)
    metrics = leaving.proxy.settings.metrics
    assert metrics is not None
    async with asyncio.timeout(5):
        while (await send(metrics.port, "/ready")).status == 200:
            await asyncio.sleep(0.05)
    asked = {"Connection": "keep-alive"} | bearer(a_token(leaving.key))
    answer = await leaving.send("/chat/sessions", headers=asked)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    # A stream that goes on for too long is not waited for.
    async with asyncio.timeout(8):
        assert await draining.wait() == 0
    writer.close()
