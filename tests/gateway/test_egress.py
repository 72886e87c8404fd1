"""Egress: keyvault decides, Envoy injects, and nothing else goes out or comes in."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from pathlib import Path
from secrets import token_hex

import aiohttp
import pytest
from aiohttp import web

from deploy.envoy.egress import VENDOR_CALLS
from shared.clients.egress import may_have_been_sent
from tests.gateway.conftest import room
from tests.gateway.egress_tools import (
    BASE_PATHS,
    KEY_HEADERS,
    KEY_TOLD,
    PROOFS,
    Egress,
    an_egress,
    grant,
)
from tests.gateway.servers import free_endpoint
from tests.gateway.wire import UPGRADE, open_upgrade, read_chunk, read_head, send_bytes

# The agreed list, written a second time on purpose: egress path, then the path below the base URL.
AGREED = [
    ("POST", "/openai/v1/chat/completions", "/chat/completions"),
    ("POST", "/openai/v1/responses", "/responses"),
    ("POST", "/anthropic/v1/messages", "/v1/messages"),
    ("POST", "/anthropic/v1/messages/count_tokens", "/v1/messages/count_tokens"),
    *(
        ("POST", f"/gemini{path}", path)
        for version in ("v1", "v1beta")
        for path in (
            f"/{version}/models/gemini-3.8-flash:generateContent",
            f"/{version}/models/gemini-3.8-flash:streamGenerateContent",
            f"/{version}/models/gemini-3.8-flash:countTokens",
        )
    ),
    *(
        (method, f"/elevenlabs{path}", path)
        for method, path in (
            ("POST", "/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM"),
            ("POST", "/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM/stream"),
            ("POST", "/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM/with-timestamps"),
            ("POST", "/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM/stream/with-timestamps"),
            ("GET", "/v1/text-to-speech/21m00Tcm4TlvDq8ikWAM/stream-input"),
            ("GET", "/v1/text-to-dialogue/stream-input"),
            ("GET", "/v1/voices"),
            ("GET", "/v2/voices"),
            ("POST", "/v1/voices/add"),
            ("GET", "/v1/voices/21m00Tcm4TlvDq8ikWAM"),
            ("DELETE", "/v1/voices/21m00Tcm4TlvDq8ikWAM"),
            ("GET", "/v1/voices/21m00Tcm4TlvDq8ikWAM/settings"),
            ("GET", "/v1/models"),
        )
    ),
    ("POST", "/compatible/v1/chat/completions", "/chat/completions"),
]
CHAT = "/openai/v1/chat/completions"
FORGED = {
    "Authorization": "Bearer forged",
    "X-Api-Key": "forged",
    "X-Goog-Api-Key": "forged",
    "Xi-Api-Key": "forged",
    "Api-Key": "forged",
    "Proxy-Authorization": "forged",
    "Cookie": "forged",
    "X-Forwarded-For": "forged",
    "X-Forwarded-Host": "forged",
    "X-Forwarded-Anything": "forged",
    "Forwarded": "forged",
    "X-Real-Ip": "forged",
    "Via": "1.1 forged",
    "X-Egress-Detail": "forged",
    "X-Envoy-Upstream-Rq-Timeout-Ms": "1",
    "X-Envoy-Retry-On": "5xx",
    "X-Internal-Service": "forged",
    "X-Http-Method-Override": "forged",
    "X-Http-Method": "forged",
    "X-Method-Override": "forged",
}


@pytest.fixture(scope="module")
async def shared(short_directory: Path) -> AsyncIterator[Egress]:
    async with an_egress(
        room(short_directory, "egress"), authorisation_timeout_seconds=0.5, stream_idle_seconds=2
    ) as egress:
        yield egress


@pytest.fixture
async def egress(shared: Egress) -> AsyncIterator[Egress]:
    """The shared egress, with a keyvault that says yes."""
    yield shared
    shared.keyvault.decide = grant
    for vendor in shared.vendors.values():
        vendor.override = None


def test_the_list_is_the_agreed_one() -> None:
    assert sum(len(calls) for calls in VENDOR_CALLS.values()) == len(AGREED)


@pytest.mark.parametrize(("method", "target", "path"), AGREED)
async def test_a_listed_call_goes_out_with_the_users_key(
    egress: Egress, method: str, target: str, path: str
) -> None:
    vendor = target.split("/")[1]
    answer = await egress.send(f"{target}?a=b", method=method, headers=FORGED, body=b"{}")
    assert (answer.status, answer.json["server"]) == (200, vendor)
    assert answer.json["path"] == f"{BASE_PATHS[vendor]}{path}?a=b"
    headers = answer.json["headers"]
    name, key = KEY_HEADERS[vendor]
    assert [value for header, value in headers if header == name] == [key]
    assert not [value for _, value in headers if "forged" in value]
    assert dict(headers)["host"] == str(egress.vendors[vendor].endpoint)
    assert answer.headers["x-egress-detail"] == "via_upstream"
    assert answer.headers["x-companion-key"] == KEY_TOLD
    assert "x-companion-key" not in dict(headers)


async def test_keyvault_sees_the_path_and_both_proofs_and_no_more(egress: Egress) -> None:
    headers = FORGED | {"x-request-id": "of-this-call", "traceparent": "00-a-b-01"}
    await egress.send(f"{CHAT}?a=b", method="POST", headers=headers, body=b"a body")
    asked = egress.keyvault.asked[-1]
    assert egress.keyvault.paths[-1] == ("POST", f"/internal/egress{CHAT}?a=b")
    for name, value in PROOFS.items():
        assert asked[name] == value
    assert (asked["x-request-id"], asked["traceparent"]) == ("of-this-call", "00-a-b-01")
    assert asked.get("content-length", "0") == "0"
    assert not [value for value in asked.values() if "forged" in value]


async def test_the_vendor_learns_nothing_of_us(egress: Egress) -> None:
    headers = {"x-request-id": "ours", "traceparent": "00-a-b-01", "baggage": "user=ada"}
    answer = await egress.send(CHAT, method="POST", headers=headers, body=b"{}")
    arrived = {name for name, _ in answer.json["headers"]}
    assert arrived == {"host", "content-length", "authorization"} | (arrived & {"accept"})


@pytest.mark.parametrize("vendor", VENDOR_CALLS)
async def test_a_yes_without_a_key_goes_out_without_a_key(egress: Egress, vendor: str) -> None:
    """The vendor then says 401; a forged key never takes the place of the missing one."""

    async def nothing(_: web.BaseRequest) -> web.Response:
        return web.Response()

    egress.keyvault.decide = nothing
    target = next(path for method, path, _ in AGREED if path.startswith(f"/{vendor}/"))
    method = next(method for method, path, _ in AGREED if path == target)
    answer = await egress.send(target, method=method, headers=FORGED)
    assert not {name for name, _ in answer.json["headers"]} & {
        name for name, _ in KEY_HEADERS.values()
    }


@pytest.mark.parametrize("status", [401, 402, 403, 404, 409, 429])
async def test_keyvaults_refusal_reaches_the_caller_as_it_is(egress: Egress, status: int) -> None:
    async def refuse(_: web.BaseRequest) -> web.Response:
        return web.Response(
            status=status,
            body=b'{"code": "key_revoked", "status": %d}' % status,
            content_type="application/problem+json",
            headers={"retry-after": "9", "x-keyvault-secret": "not for callers"},
        )

    before = egress.received()
    egress.keyvault.decide = refuse
    answer = await egress.send(CHAT, method="POST", body=b"{}")
    assert (answer.status, answer.json) == (status, {"code": "key_revoked", "status": status})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "9"
    assert answer.headers["x-egress-detail"] == "ext_authz_denied"
    assert "x-keyvault-secret" not in answer.headers
    assert egress.received() == before


@pytest.mark.parametrize("trouble", ["sealed", "frozen", "hangs up"])
async def test_a_keyvault_in_trouble_lets_nothing_out(egress: Egress, trouble: str) -> None:
    async def fail(request: web.BaseRequest) -> web.Response:
        if trouble == "frozen":
            await asyncio.sleep(5)
        if trouble == "hangs up" and request.transport is not None:
            request.transport.close()
        return web.Response(status=503, text="sealed", headers={"authorization": "Bearer k"})

    before = egress.received()
    egress.keyvault.decide = fail
    answer = await egress.send(CHAT, method="POST", body=b"{}")
    assert (answer.status, answer.json["code"]) == (503, "keyvault_unavailable")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["x-egress-detail"] == "ext_authz_error"
    assert egress.received() == before


async def test_a_restart_of_keyvault_goes_unnoticed(egress: Egress) -> None:
    """A connection that breaks is tried again: keyvault's answer changes nothing at the vendor."""
    asked = len(egress.keyvault.asked)

    async def restart(request: web.BaseRequest) -> web.Response:
        if len(egress.keyvault.asked) == asked + 1 and request.transport is not None:
            request.transport.close()
        return await grant(request)

    before = egress.received()
    egress.keyvault.decide = restart
    assert (await egress.send(CHAT, method="POST", body=b"{}")).status == 200
    assert (len(egress.keyvault.asked), egress.received()) == (asked + 2, before + 1)


async def test_without_keyvault_nothing_goes_out(short_directory: Path) -> None:
    async with an_egress(room(short_directory, "nokv"), keyvault=free_endpoint()) as egress:
        answer = await egress.send(CHAT, method="POST", body=b"{}")
        assert (answer.status, answer.json["code"]) == (503, "keyvault_unavailable")
        assert egress.received() == 0


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/openai"),
        ("GET", "/openai/v1/chat/completions"),
        ("GET", "/openai/v1/models"),
        ("POST", "/openai/v1/audio/speech"),
        ("POST", "/openai/v1/chat/completions/"),
        ("POST", "/openai/v1/chat/completionsx"),
        ("POST", "/openai/v1/embeddings"),
        ("POST", "/openai/v1/realtime/client_secrets"),
        ("GET", "/openai/v1/organization/admin_api_keys"),
        ("POST", "/openai/v2/chat/completions"),
        ("POST", "/OpenAI/v1/chat/completions"),
        ("GET", "/anthropic/v1/models"),
        ("GET", "/anthropic/v1/organizations/api_keys"),
        ("GET", "/gemini/v1/models"),
        ("GET", "/gemini/v1beta/models"),
        ("POST", "/gemini/v1/models/a/b:generateContent"),
        ("POST", "/gemini/v1/models/a:batchGenerateContent"),
        ("POST", "/gemini/v1beta/auth_tokens"),
        ("POST", "/gemini/v1beta2/models/a:generateContent"),
        ("GET", "/elevenlabs/v1/user"),
        ("GET", "/elevenlabs/v1/user/subscription"),
        ("POST", "/elevenlabs/v1/single-use-token/tts_websocket"),
        ("GET", "/elevenlabs/v1/workspace"),
        ("GET", "/elevenlabs/v1/history"),
        ("DELETE", "/elevenlabs/v1/models"),
        ("POST", "/elevenlabs/v1/models"),
        ("GET", "/elevenlabs/v1/models/eleven"),
        ("POST", "/elevenlabs/v1/voices/a/settings/edit"),
        ("PATCH", "/elevenlabs/v1/voices/a"),
        ("POST", "/elevenlabs/v1/voices/a"),
        ("POST", "/elevenlabs/v1/text-to-speech"),
        ("GET", "/compatible/v1/models"),
        ("POST", "/other/v1/chat/completions"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/internal/egress/elevenlabs/v1/models"),
    ],
)
async def test_an_unlisted_call_is_nowhere_and_asks_nobody(
    egress: Egress, method: str, target: str
) -> None:
    before, asked = egress.received(), len(egress.keyvault.asked)
    answer = await egress.send(target, method=method)
    assert (answer.status, answer.json["code"]) == (404, "route_not_found")
    assert answer.headers["x-egress-detail"] == "direct_response"
    assert (egress.received(), len(egress.keyvault.asked)) == (before, asked)


TRICKS = [
    "/openai/v1/../v1/user",
    "/elevenlabs/v1/voices/../user",
    "/elevenlabs/v1/voices/%2e%2e/user",
    "/elevenlabs/v1/voices/..%2fuser",
    "/elevenlabs/v1/voices/..%5cuser",
    "/elevenlabs/v1/voices/..\\user",
    "/elevenlabs/v1/voices/..;/user",
    "/elevenlabs/v1/voices/%252e%252e/user",
    "/elevenlabs/v1/voices/a%2f..%2f..%2fuser",
    "/elevenlabs/v1/voices/a%3f",
    "/elevenlabs/v1/voices/a%23",
    "/elevenlabs/v1/voices/a%00",
    "/elevenlabs/v1/voices/..",
    "/elevenlabs/v1/voices/.",
    "/elevenlabs/v1/voices/a b",
    "/elevenlabs/v1/voices/ä",
    "/openai/..;/elevenlabs/v1/user",
    "/openai//v1/user",
    "/elevenlabs/v1/models;x=y",
    "/elevenlabs/v1/models%20",
    "/elevenlabs/v1/models%0d%0ahost:%20evil",
    "/elevenlabs@evil.example/v1/models",
    "//evil.example/v1/models",
    "http://evil.example/v1/models",
]


@pytest.mark.parametrize("target", TRICKS)
async def test_no_trick_with_a_path_gets_out(egress: Egress, target: str) -> None:
    before, asked = egress.received(), len(egress.keyvault.asked)
    answer = await egress.send(target)
    assert answer.status in (400, 404)
    assert egress.received() == before
    # A detour that is normalised to a listed path would be that path, and judged as such.
    assert len(egress.keyvault.asked) == asked


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/openai//v1///responses", "/sim/openai/v1/responses"),
        ("/anthropic/../openai/v1/responses", "/sim/openai/v1/responses"),
        ("/openai/v1/resp%6fnses", "/sim/openai/v1/responses"),
        ("http://evil.example/openai/v1/responses", "/sim/openai/v1/responses"),
    ],
)
async def test_keyvault_judges_the_path_that_goes_out(
    egress: Egress, target: str, path: str
) -> None:
    answer = await egress.send(target, method="POST", body=b"{}")
    assert (answer.json["server"], answer.json["path"]) == ("openai", path)
    assert egress.keyvault.paths[-1][1] == "/internal/egress/openai/v1/responses"


@pytest.mark.parametrize(
    "hosts",
    ["Host: evil.example", "Host: a\r\nHost: evil.example", "Host: evil.example\r\n:authority: x"],
)
async def test_the_host_is_the_vendors_whatever_the_caller_says(egress: Egress, hosts: str) -> None:
    before = egress.received()
    answer = await send_bytes(
        egress.proxy.port,
        f"GET /elevenlabs/v1/models HTTP/1.1\r\n{hosts}\r\nConnection: close\r\n\r\n".encode(),
    )
    if answer.status == 200:
        assert dict(answer.json["headers"])["host"] == str(egress.vendors["elevenlabs"].endpoint)
    else:
        assert (answer.status, egress.received()) == (400, before)


@pytest.mark.parametrize(
    "name", ["key", "api_key", "access_token", "authorization", "xi-api-key", "single_use_token"]
)
async def test_a_credential_in_the_url_is_refused(egress: Egress, name: str) -> None:
    before, asked = egress.received(), len(egress.keyvault.asked)
    target = "/gemini/v1/models/gemini-3.8-flash:streamGenerateContent"
    answer = await egress.send(f"{target}?alt=sse&{name}=secret-in-url", method="POST", body=b"{}")
    assert (answer.status, answer.json["code"]) == (400, "malformed_request")
    assert (egress.received(), len(egress.keyvault.asked)) == (before, asked)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 429, 500, 503, 529])
async def test_a_vendors_answer_passes_unchanged(egress: Egress, status: int) -> None:
    async def answer_so(_: web.BaseRequest) -> web.Response:
        return web.Response(
            status=status,
            body=b'{"error": {"message": "of the vendor"}}',
            content_type="application/json",
            headers={
                "retry-after": "12",
                "retry-after-ms": "11900",
                "x-ratelimit-remaining-requests": "0",
                "x-should-retry": "false",
                "location": "https://elsewhere.example",
                "server": "vendor",
                "request-id": "req_1",
                "set-cookie": "tracking=1",
                "x-api-key": "an echo of the key",
                "x-egress-detail": "forged",
                "x-companion-key": "forged",
            },
        )

    egress.vendors["openai"].override = answer_so
    answer = await egress.send(CHAT, method="POST", body=b"{}")
    assert answer.status == status
    assert answer.body == b'{"error": {"message": "of the vendor"}}'
    kept = {
        "content-type": "application/json",
        "retry-after": "12",
        "retry-after-ms": "11900",
        "x-ratelimit-remaining-requests": "0",
        "x-should-retry": "false",
        "location": "https://elsewhere.example",
        "server": "vendor",
        "request-id": "req_1",
        "x-egress-detail": "via_upstream",
        "x-companion-key": KEY_TOLD,
    }
    assert kept.items() <= dict(answer.headers).items()
    assert {"set-cookie", "x-api-key"}.isdisjoint(answer.headers)


async def test_a_vendor_that_hangs_up_is_a_503_of_ours(egress: Egress) -> None:
    async def hang_up(request: web.BaseRequest) -> web.Response:
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    egress.vendors["openai"].override = hang_up
    headers = {"x-request-id": "of-this-call"}
    answer = await egress.send(CHAT, method="POST", headers=headers, body=b"{}")
    assert (answer.status, answer.json["code"]) == (503, "vendor_unreachable")
    assert answer.json["request_id"] == "of-this-call"
    assert answer.headers["x-egress-detail"].startswith("upstream_reset")
    assert may_have_been_sent(answer.status, answer.headers["x-egress-detail"])


def hanging_up(how: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """A vendor that ends the connection, before or after it has read the request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if how != "at once":
            await reader.readuntil(b"\r\n\r\n")
        if how == "with garbage":
            writer.write(b"what?\r\n\r\n")
        if how == "with a reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        writer.close()

    return serve


@contextmanager
def a_deaf_port() -> Iterator[int]:
    """One at which no handshake is ever answered, since those who wait for it are too many."""
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(deaf.getsockname())
        yield deaf.getsockname()[1]


async def test_what_was_never_sent_is_told_from_what_the_vendor_may_have_heard(
    short_directory: Path,
) -> None:
    """Only the former may be tried again: the latter may be charged."""
    calls = {
        "openai": ("POST", CHAT),
        "anthropic": ("POST", "/anthropic/v1/messages"),
        "gemini": ("POST", "/gemini/v1/models/gemini-3.8-flash:countTokens"),
        "elevenlabs": ("GET", "/elevenlabs/v1/voices"),
        "compatible": ("POST", "/compatible/v1/chat/completions"),
    }
    async with AsyncExitStack() as stack:
        ports = {}
        for vendor, how in [
            ("openai", "after reading"),
            ("anthropic", "with a reset"),
            ("gemini", "with garbage"),
        ]:
            server = await asyncio.start_server(hanging_up(how), "127.0.0.1", 0)
            await stack.enter_async_context(server)
            ports[vendor] = server.sockets[0].getsockname()[1]
        ports["elevenlabs"] = free_endpoint().port
        ports["compatible"] = stack.enter_context(a_deaf_port())
        urls = {vendor: f"http://127.0.0.1:{port}/base" for vendor, port in ports.items()}
        egress = await stack.enter_async_context(
            an_egress(room(short_directory, "lost"), urls=urls)
        )
        answers = await asyncio.gather(
            *(egress.send(target, method=method) for method, target in calls.values())
        )
    told = {
        vendor: (answer.status, answer.headers["x-egress-detail"])
        for vendor, answer in zip(calls, answers, strict=True)
    }
    assert {vendor: may_have_been_sent(*said) for vendor, said in told.items()} == {
        "openai": True,
        "anthropic": True,
        "gemini": True,
        "elevenlabs": False,  # it refuses connections
        "compatible": False,  # it never answers the handshake
    }, told


async def test_a_vendor_that_falls_silent_is_given_up(egress: Egress) -> None:
    async def think(_: web.BaseRequest) -> web.Response:
        await asyncio.sleep(4)
        return web.Response()

    egress.vendors["openai"].override = think
    answer = await egress.send(CHAT, method="POST", body=b"{}")
    assert (answer.status, answer.json["code"]) == (504, "vendor_timeout")
    assert answer.headers["x-egress-detail"] == "stream_idle_timeout"


async def test_each_chunk_arrives_when_it_was_sent(egress: Egress) -> None:
    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(5):
            await response.write(b"data: %d\n\n" % number)
            await asyncio.sleep(0.05)
        return response

    egress.vendors["openai"].override = stream
    reader, writer = await open_call(egress)
    assert (await read_head(reader))[0] == 200
    arrived: list[tuple[bytes, float]] = []
    while chunk := await read_chunk(reader):
        arrived.append((chunk, time.monotonic()))
    writer.close()
    await writer.wait_closed()
    assert [chunk for chunk, _ in arrived] == [b"data: %d\n\n" % number for number in range(5)]
    # They were sent over 0.2 seconds; held back, they would come at once.
    assert arrived[-1][1] - arrived[0][1] > 0.1


@pytest.mark.parametrize("moment", ["while it thinks", "in mid-stream"])
async def test_leaving_reaches_the_vendor(egress: Egress, moment: str) -> None:
    gone = asyncio.Event()

    async def answer_slowly(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        try:
            if moment == "while it thinks":
                await asyncio.sleep(1.5)
            await response.prepare(request)
            for _ in range(100):
                await response.write(b"x")
                await asyncio.sleep(0.02)
        except (asyncio.CancelledError, ConnectionError):
            gone.set()
            raise
        return response

    egress.vendors["openai"].override = answer_slowly
    reader, writer = await open_call(egress)
    if moment == "in mid-stream":
        await read_head(reader)
    else:
        await asyncio.sleep(0.2)
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(1):
        await gone.wait()


async def test_a_socket_is_opened_with_the_users_key(egress: Egress) -> None:
    path = "/v1/text-to-speech/rachel/stream-input?model_id=eleven_flash_v2_5"
    url = f"http://127.0.0.1:{egress.proxy.port}/elevenlabs{path}"
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url, headers=PROOFS | FORGED, protocols=["audio"]) as socket,
    ):
        seen = await socket.receive_json()
        headers = dict(seen["headers"])
        assert (seen["server"], seen["path"]) == ("elevenlabs", f"/e{path}")
        assert headers["xi-api-key"] == "key-of-ada"
        assert not (set(PROOFS) | {"x-companion-key"}) & set(headers)
        assert socket.protocol == "audio"
        await socket.send_str("hello")
        assert await socket.receive_str() == "elevenlabs: hello"
        await socket.send_str("close")
        await socket.receive()
        assert socket.close_code == 1008


async def test_a_socket_is_refused_on_the_handshake(egress: Egress) -> None:
    async def refuse(_: web.BaseRequest) -> web.Response:
        return web.Response(status=403, text="no")

    port = egress.proxy.port
    assert await open_upgrade(port, "/elevenlabs/v1/models", UPGRADE | PROOFS) == 400
    assert await open_upgrade(port, "/elevenlabs/v1/unknown", UPGRADE | PROOFS) in (400, 404)
    egress.keyvault.decide = refuse
    path = "/elevenlabs/v1/text-to-speech/rachel/stream-input"
    assert await open_upgrade(port, path, UPGRADE | PROOFS) == 403


async def test_no_line_of_the_log_holds_a_key_or_a_token(egress: Egress) -> None:
    await egress.send(
        f"{CHAT}?token=in-the-query",
        method="POST",
        headers=FORGED | {"x-request-id": "logged-call"},
    )
    (line,) = await egress.proxy.logged("logged-call")
    assert (line["method"], line["route"]) == ("POST", "openai")
    assert line["path"] == "/sim/openai/v1/chat/completions"
    text = egress.proxy.access_log.read_text() + egress.proxy.output.read_text()
    for secret in ("key-of-ada", "forged", "in-the-query", "secret-in-url", *PROOFS.values()):
        assert secret not in text


async def test_a_key_that_was_taken_for_a_voice_is_not_written(egress: Egress) -> None:
    voice, key = "21m00Tcm4TlvDq8ikWAM", f"sk_{token_hex(24)}"
    for name, written in ((voice, f"/e/v1/voices/{voice}"), (key, "…")):
        request_id = f"asked-for-{len(name)}"
        headers = PROOFS | {"x-request-id": request_id}
        await egress.send(f"/elevenlabs/v1/voices/{name}", headers=headers)
        (line,) = await egress.proxy.logged(request_id)
        assert (line["path"], line["route"]) == (written, "elevenlabs")
    assert key not in egress.proxy.access_log.read_text() + egress.proxy.output.read_text()


async def test_a_header_with_an_underscore_is_refused(egress: Egress) -> None:
    answer = await egress.send("/elevenlabs/v1/models", headers={"x_api_key": "forged"})
    assert (answer.status, answer.json["code"]) == (400, "malformed_request")


async def open_call(egress: Egress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A call on a connection that the test reads, and ends, by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", egress.proxy.port)
    lines = [f"POST {CHAT} HTTP/1.1", "Host: egress", "Content-Length: 2"]
    lines += [f"{name}: {value}" for name, value in PROOFS.items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n{}")
    return reader, writer
