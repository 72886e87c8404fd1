"""A stand-in for the egress Envoy and the keyvault behind it, for tests of chat and voice.

It asks for both proofs, takes them off, adds the user's key and passes everything on, as it comes.
What Envoy itself does to paths and headers is tested with the real one.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import aiohttp
from aiohttp import WSMsgType, web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from shared.clients.egress import GRANT_HEADER
from shared.clients.egress_refusals import DETAIL_HEADER
from shared.clients.hang_up import hang_up
from shared.errors import Unauthenticated
from shared.identity import USER_HEADER, Grant, Peers
from shared.revocation import KEY_HEADER
from shared.tiers import COMPATIBLE
from shared.vendors import vendors
from tests.support.simulator.process import RunningSimulator
from tests.support.tokens import TokenMint

# What a vendor's base URL already holds of the path, as the SDKs take that URL.
_IN_BASE_URL = {"openai": "/v1", COMPATIBLE: "/v1"}
_NOT_PASSED_ON = frozenset(
    {
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "authorization",
        "x-api-key",
        "x-goog-api-key",
        "xi-api-key",
        "x-request-id",
        "traceparent",
        GRANT_HEADER,
        USER_HEADER,
    }
)
_OF_SOCKETS = frozenset(
    {
        "upgrade",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
    }
)
_NOT_PASSED_BACK = frozenset({"connection", "transfer-encoding", "set-cookie"})


@dataclass(frozen=True, slots=True)
class EgressCall:
    """A call that was let through."""

    grant: Grant
    method: str
    path: str
    query: str = ""


@dataclass(slots=True)
class EgressStandIn:
    """`keys` holds the users' keys by user and vendor, `owners` of some whose they are, as keyvault
    tells it; `own_server_key` is the operator's. A test may change all of it at any time."""

    vendor_urls: Mapping[str, str]
    peers: Peers
    mint: TokenMint
    keys: dict[tuple[UUID, str], str] = field(default_factory=dict)
    owners: dict[str, UUID] = field(default_factory=dict)
    own_server_key: str = "sim-operator"
    keyvault_is_down: bool = False
    refusal: tuple[int, str] | None = None
    calls: list[EgressCall] = field(default_factory=list)
    # How many calls of a user find no connection to their vendor.
    out_of_reach: dict[UUID, int] = field(default_factory=dict)
    url: str = ""
    _session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[EgressStandIn]:
        """Serve on a free loopback port."""
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Cancelled as soon as its client is gone, so that the vendor sees it too.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(
            auto_decompress=False, connector=aiohttp.TCPConnector(limit=0)
        ) as self._session:
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        provider, _, _ = request.path.removeprefix("/").partition("/")
        if provider not in self.vendor_urls:
            return web.Response(status=404)
        if self.keyvault_is_down:
            return web.Response(status=503, headers={DETAIL_HEADER: "ext_authz_error"})
        if self.refusal is not None:
            return _denied(*self.refusal)
        try:
            grant = self._granted(request, provider)
        except (Unauthenticated, JoseError, ValueError, KeyError):
            return _denied(401, "grant_invalid")  # as keyvault says it
        key = self.keys.get((grant.user_id, provider))
        if provider == COMPATIBLE:
            key = self.own_server_key
        if key is None:
            return _denied(404, "key_not_found")
        self.calls.append(EgressCall(grant, request.method, request.path, request.query_string))
        if self.out_of_reach.get(grant.user_id):
            self.out_of_reach[grant.user_id] -= 1
            return _lost("remote_connection_failure|delayed_connect_error:_Connection_refused")
        return await self._forward(request, provider, key)

    def _granted(self, request: web.Request, provider: str) -> Grant:
        grant = self.peers.grant_of(request.headers[GRANT_HEADER])
        token = jwt.decode(request.headers[USER_HEADER], KeySet([self.mint.key]))
        if (
            grant.provider != provider
            or token.claims["sub"] != str(grant.user_id)
            or token.claims["exp"] < time.time()
            or request.headers["x-request-id"] != grant.request_id
        ):
            raise ValueError("the two proofs do not fit")
        return grant

    async def _forward(self, request: web.Request, provider: str, key: str) -> web.StreamResponse:
        assert self._session is not None
        prefix = f"/{provider}{_IN_BASE_URL.get(provider, '')}"
        url = self.vendor_urls[provider] + request.raw_path.removeprefix(prefix)
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _NOT_PASSED_ON
        }
        # As keyvault does: the vendor's other headers are the caller's.
        carried = vendors.get(provider, vendors["openai"]).key_headers(key)
        headers.update({name: value for name, value in carried.items() if key in value})
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await _joined(request, url, headers)
        body = await request.read()
        try:
            async with self._session.request(
                request.method,
                url,
                headers=headers,
                data=io.BytesIO(body) if body else None,
                allow_redirects=False,
            ) as answer:
                return await _pass_back(request, answer, self.owners.get(key))
        except aiohttp.ClientConnectorError:
            return _lost("remote_connection_failure|delayed_connect_error:_Connection_refused")
        except aiohttp.ClientError:
            return _lost("connection_termination")


async def _joined(request: web.Request, url: str, headers: Mapping[str, str]) -> web.StreamResponse:
    """The client's socket and the vendor's, message for message."""
    asked = {name: value for name, value in headers.items() if name.lower() not in _OF_SOCKETS}
    try:
        vendor = await connect(
            url.replace("http", "ws", 1),
            additional_headers=asked,
            proxy=None,
            compression=None,
            max_size=None,
            close_timeout=0.1,  # as Envoy does: who leaves is gone
        )
    except InvalidStatus as refused:
        return _refusal(refused)
    except (OSError, InvalidHandshake):
        return _lost("connection_termination")
    client = web.WebSocketResponse(max_msg_size=0)
    client.headers[DETAIL_HEADER] = "via_upstream"
    assert vendor.response is not None
    if "request-id" in vendor.response.headers:
        client.headers["request-id"] = vendor.response.headers["request-id"]
    try:
        await client.prepare(request)
        said = asyncio.create_task(_pass_words(client, vendor))
        try:
            await _pass_words_back(vendor, client, request)
        finally:
            said.cancel()
    finally:
        await hang_up(vendor)
    return client


def _refusal(refused: InvalidStatus) -> web.Response:
    kept = {
        name: value
        for name, value in refused.response.headers.raw_items()
        if name.lower() not in _NOT_PASSED_BACK | {"content-length"}
    }
    return web.Response(
        status=refused.response.status_code,
        body=bytes(refused.response.body),
        headers={**kept, DETAIL_HEADER: "via_upstream"},
    )


async def _pass_words_back(
    vendor: ClientConnection, client: web.WebSocketResponse, request: web.Request
) -> None:
    try:
        async for message in vendor:
            assert isinstance(message, str)
            await client.send_str(message)
        close = vendor.close_code or 1000
        await client.close(code=close, message=(vendor.close_reason or "").encode())
    except ConnectionClosed as closed:
        if closed.rcvd is not None:
            await client.close(code=closed.rcvd.code, message=closed.rcvd.reason.encode())
        elif request.transport is not None:
            # As Envoy does: a cut upstream is a cut downstream.
            request.transport.abort()


async def _pass_words(client: web.WebSocketResponse, vendor: ClientConnection) -> None:
    async for message in client:
        if message.type is WSMsgType.TEXT:
            with suppress(ConnectionClosed):
                await vendor.send(message.data)
    await vendor.close()


def _lost(how: str) -> web.Response:
    detail = f"upstream_reset_before_response_started{{{how}}}"
    return web.Response(status=503, headers={DETAIL_HEADER: detail})


async def _pass_back(
    request: web.Request, answer: aiohttp.ClientResponse, owner: UUID | None
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status)
    for name, value in answer.headers.items():
        if name.lower() not in _NOT_PASSED_BACK:
            response.headers.add(name, value)
    response.headers[DETAIL_HEADER] = "via_upstream"
    if owner is not None:
        response.headers[KEY_HEADER] = f"{owner} 1"
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_any():
            await response.write(piece)
    except aiohttp.ClientError:
        # As Envoy does: a cut upstream is a cut downstream.
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


def _denied(status: int, code: str) -> web.Response:
    return web.json_response(
        {"code": code, "detail": "The key may not be used."},
        status=status,
        headers={DETAIL_HEADER: "ext_authz_denied"},
    )


def egress_to(
    simulator: RunningSimulator, *, trusted_identities: Path, mint: TokenMint
) -> EgressStandIn:
    """A stand-in before the simulator. Run it with `async with ….running()`."""
    return EgressStandIn(
        vendor_urls={
            "openai": simulator.openai,
            "anthropic": simulator.anthropic,
            "gemini": simulator.gemini,
            "elevenlabs": simulator.elevenlabs,
            COMPATIBLE: simulator.openai,
        },
        peers=Peers.from_file("keyvault", trusted_identities),
        mint=mint,
    )
