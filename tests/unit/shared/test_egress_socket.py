"""Sockets through the egress: whose refusal it is, and that our proofs go nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from aiohttp import web
from websockets.exceptions import ConnectionClosedOK

from shared.clients import vendor_sockets
from shared.clients.egress import (
    GRANT_HEADER,
    Egress,
    KeyRefused,
    NoUsableKey,
    VendorConnectionLost,
    VendorSocketRefused,
    open_egress,
)
from shared.clients.egress_refusals import DETAIL_HEADER
from shared.errors import DependencyUnavailable, Unavailable
from shared.identity import OnBehalfOf, ServiceIdentity
from shared.ids import UserId
from tests.support.tokens import identity_of, write_identities

ADA = OnBehalfOf(UserId(UUID(int=1)), "request-77", "the-users-token", UUID(int=2))


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> ServiceIdentity:
    directory: Path = tmp_path_factory.mktemp("identities")
    write_identities(directory)
    return identity_of(directory, "voice")


@asynccontextmanager
async def an_egress(
    me: ServiceIdentity, answer: web.Response | None = None
) -> AsyncIterator[tuple[Egress, list[web.Request]]]:
    """One that gives this answer to an upgrade, or else says everything back."""
    heard: list[web.Request] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        heard.append(request)
        if answer is not None:
            return answer
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
            if message.data == "goodbye":
                await socket.close()
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with open_egress(f"http://127.0.0.1:{runner.addresses[0][1]}", me) as egress:
            yield egress, heard
    finally:
        await runner.cleanup()


async def _passed_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(1 << 16):
        target.write(data)
        await target.drain()


@asynccontextmanager
async def behind_a_proxy(egress: Egress, me: ServiceIdentity) -> AsyncIterator[Egress]:
    """The same behind one that passes on all but that the other side has hung up, as Envoy does for
    a while."""
    host, _, port = egress._base_url.removeprefix("http://").rpartition(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_there, to_there = await asyncio.open_connection(host, int(port))
        back = asyncio.create_task(_passed_on(from_there, writer))
        try:
            await _passed_on(reader, to_there)
        finally:
            back.cancel()
            for each in (to_there, writer):
                each.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        address = server.sockets[0].getsockname()
        async with open_egress(f"http://127.0.0.1:{address[1]}", me) as proxied:
            yield proxied


@asynccontextmanager
async def one_that_never_agrees(me: ServiceIdentity) -> AsyncIterator[tuple[Egress, asyncio.Event]]:
    """A vendor that takes no goodbye; and whether the connection to it has ended."""
    gone = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        while request.transport is not None:
            await asyncio.sleep(0.01)
        gone.set()
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with open_egress(f"http://127.0.0.1:{runner.addresses[0][1]}", me) as egress:
            yield egress, gone
    finally:
        await runner.cleanup()


def refusing(status: int, detail: str, body: str = "{}", **headers: str) -> web.Response:
    return web.Response(status=status, text=body, headers={DETAIL_HEADER: detail, **headers})


async def test_words_go_both_ways_and_the_proofs_are_shown(voice: ServiceIdentity) -> None:
    async with (
        an_egress(voice) as (egress, heard),
        egress.socket("elevenlabs", "/v1/x?a=b", by=ADA) as socket,
    ):
        await socket.send("hello")
        assert await socket.recv() == "hello"
    (request,) = heard
    assert request.path_qs == "/elevenlabs/v1/x?a=b"
    assert request.headers["x-companion-user"] == "the-users-token"
    assert request.headers[GRANT_HEADER]
    assert request.headers["x-request-id"] == "request-77"


@pytest.mark.parametrize("speaks_last", ["vendor", "we"])
async def test_once_both_have_said_goodbye_nobody_waits_for_the_other_to_hang_up(
    voice: ServiceIdentity, monkeypatch: pytest.MonkeyPatch, speaks_last: str
) -> None:
    monkeypatch.setattr(vendor_sockets, "_CLOSE_SECONDS", 60.0)
    async with (
        an_egress(voice) as (plain, _),
        behind_a_proxy(plain, voice) as egress,
        asyncio.timeout(10),
        egress.socket("elevenlabs", "/v1/x", by=ADA) as socket,
    ):
        await socket.send("hello" if speaks_last == "we" else "goodbye")
        await socket.recv()
        if speaks_last == "vendor":
            with pytest.raises(ConnectionClosedOK):
                await socket.recv()


@pytest.mark.parametrize(("patience", "again"), [(0.05, False), (60.0, True)])
async def test_who_is_cancelled_leaves_no_connection_open(
    voice: ServiceIdentity, monkeypatch: pytest.MonkeyPatch, patience: float, again: bool
) -> None:
    monkeypatch.setattr(vendor_sockets, "_CLOSE_SECONDS", patience)
    opened = asyncio.Event()
    async with one_that_never_agrees(voice) as (egress, gone), asyncio.timeout(10):

        async def speak() -> None:
            async with egress.socket("elevenlabs", "/v1/x", by=ADA):
                opened.set()
                await asyncio.Event().wait()

        speaking = asyncio.create_task(speak())
        await opened.wait()
        speaking.cancel()
        if again:
            # While it says goodbye.
            _, waiting = await asyncio.wait({speaking}, timeout=0.1)
            assert waiting
            speaking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await speaking
        await gone.wait()


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (refusing(404, "ext_authz_denied", '{"code":"key_not_found"}'), NoUsableKey),
        (refusing(403, "ext_authz_denied", '{"code":"grant_refused"}'), KeyRefused),
        (refusing(403, "ext_authz_denied", "no JSON"), KeyRefused),
        (refusing(503, "ext_authz_error"), DependencyUnavailable),
        (refusing(404, "route_not_found"), Unavailable),
        (refusing(503, "no_healthy_upstream"), VendorConnectionLost),
        (refusing(401, "via_upstream"), VendorSocketRefused),
    ],
)
async def test_a_refused_upgrade_is_told_by_whose_it_is(
    voice: ServiceIdentity, answer: web.Response, failure: type[Exception]
) -> None:
    async with an_egress(voice, answer) as (egress, _):
        with pytest.raises(failure):
            async with egress.socket("elevenlabs", "/v1/x", by=ADA):
                pass


async def test_a_header_may_come_twice(voice: ServiceIdentity) -> None:
    answer = refusing(429, "via_upstream")
    for seconds in ("1", "2"):
        answer.headers.add("Retry-After", seconds)
    async with an_egress(voice, answer) as (egress, _):
        with pytest.raises(VendorSocketRefused) as refused:
            async with egress.socket("elevenlabs", "/v1/x", by=ADA):
                pass
    assert refused.value.headers.get("retry-after") == "1, 2"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_refusal(voice: ServiceIdentity, status: int) -> None:
    async with an_egress(voice) as (elsewhere, heard):
        location = f"ws{elsewhere._base_url.removeprefix('http')}/stolen"
        answer = refusing(status, "via_upstream", location=location)
        async with an_egress(voice, answer) as (egress, _):
            with pytest.raises(VendorSocketRefused) as refused:
                async with egress.socket("elevenlabs", "/v1/x", by=ADA):
                    pass
        assert refused.value.status == status
        assert not heard


async def test_an_egress_that_is_away_is_ours_and_one_that_is_mute_the_vendors(
    voice: ServiceIdentity,
) -> None:
    async with open_egress("http://127.0.0.1:9", voice) as egress:
        with pytest.raises(DependencyUnavailable):
            async with egress.socket("elevenlabs", "/v1/x", by=ADA):
                pass
    soon = timedelta(seconds=0)
    async with an_egress(voice) as (egress, _):
        with pytest.raises(VendorConnectionLost) as lost:
            async with egress.socket("elevenlabs", "/v1/x", by=ADA, open_within=soon):
                pass
    assert not lost.value.sent
