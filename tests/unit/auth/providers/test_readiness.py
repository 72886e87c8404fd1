"""How services look from outside."""

import asyncio

import httpx
import pytest

from services.auth.domain.ports import ServiceState
from services.auth.providers.readiness import OwnReadiness, PeerReadiness
from shared.errors import DependencyUnavailable


def answering(status: int | Exception) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (200, ServiceState.OK),
        (503, ServiceState.NOT_READY),
        (404, ServiceState.NOT_READY),
        (500, ServiceState.NOT_READY),
        (302, ServiceState.NOT_READY),
        (httpx.ConnectError("refused"), ServiceState.UNREACHABLE),
        (httpx.ReadTimeout("slow"), ServiceState.UNREACHABLE),
        (httpx.RemoteProtocolError("gone"), ServiceState.UNREACHABLE),
    ],
)
async def test_an_answer_tells_how_a_peer_is(answer: int | Exception, state: ServiceState) -> None:
    async with answering(answer) as client:
        assert await PeerReadiness(client, "http://127.0.0.1:1/readyz")() is state


async def test_a_senseless_address_is_unreachable() -> None:
    async with httpx.AsyncClient() as client:
        assert await PeerReadiness(client, "readyz")() is ServiceState.UNREACHABLE


async def test_our_own_checks_count() -> None:
    async def good() -> None:
        return

    async def bad() -> None:
        raise DependencyUnavailable("database")

    async def stuck() -> None:
        await asyncio.Event().wait()

    assert await OwnReadiness({"a": good, "b": good})() is ServiceState.OK
    assert await OwnReadiness({"a": good, "b": bad})() is ServiceState.NOT_READY
    assert await OwnReadiness({"a": good, "b": stuck})() is ServiceState.NOT_READY
