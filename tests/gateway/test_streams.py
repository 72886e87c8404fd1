"""Answers that take their time: events arrive as they were sent, and sockets stay open."""

import asyncio
import time

import aiohttp
import pytest
from aiohttp import web

from tests.gateway.conftest import Gateway
from tests.gateway.tokens import a_key, a_token, bearer, unsigned_token
from tests.gateway.wire import UPGRADE, open_upgrade, read_chunk, read_head


async def test_each_event_arrives_when_it_was_sent(gateway: Gateway) -> None:
    token = a_token(gateway.key, tier="pro")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy.port)
    writer.write(
        f"GET /chat/sse HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    status, headers = await read_head(reader)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    arrived: list[tuple[bytes, float]] = []
    while chunk := await read_chunk(reader):
        arrived.append((chunk, time.monotonic()))
    writer.close()
    await writer.wait_closed()
    assert [chunk for chunk, _ in arrived] == [f"data: {n}\n\n".encode() for n in range(5)]
    # They were sent over 0.2 seconds; held back, they would come at once.
    assert arrived[-1][1] - arrived[0][1] > 0.1


async def test_a_stream_outlives_the_time_for_ordinary_answers(impatient: Gateway) -> None:
    """The gateway waits one second for ordinary answers; this one takes two."""
    answer = await impatient.send("/chat/sse?events=40", headers=bearer(a_token(impatient.key)))
    assert answer.body.count(b"data:") == 40


LONG_ANSWERS = [
    ("/auth/me/export", "auth"),
    ("/billing/usage/records", "billing"),
    ("/billing/admin/exports/0198c0de-0000-7000-8000-00000000f11e/file", "billing"),
]


@pytest.mark.parametrize(("path", "service"), LONG_ANSWERS)
async def test_a_file_may_take_longer_than_an_ordinary_answer(
    behind_a_proxy: Gateway, path: str, service: str
) -> None:
    headers = bearer(a_token(behind_a_proxy.key)) | {"X-Forwarded-For": "203.0.113.1"}
    answer = await behind_a_proxy.send(f"{path}?events=30", headers=headers)
    assert (answer.status, answer.body.count(b"data:")) == (200, 30)
    assert behind_a_proxy.servers[service].last.path == f"{path}?events=30"


@pytest.mark.parametrize(("path", "service"), LONG_ANSWERS)
async def test_so_may_its_head(behind_a_proxy: Gateway, path: str, service: str) -> None:
    """What it is made of may be collected before it begins."""
    headers = bearer(a_token(behind_a_proxy.key)) | {"X-Forwarded-For": "203.0.113.5"}
    answer = await behind_a_proxy.send(path, method="HEAD", headers=headers)
    assert (answer.status, answer.body) == (200, b"")
    (line,) = await behind_a_proxy.proxy.logged(answer.headers["x-request-id"])
    assert (line["method"], line["route"]) == ("HEAD", f"{service}-file")


@pytest.mark.parametrize("path", ["/auth/me", "/billing/usage", "/billing/admin/exports/x"])
async def test_an_ordinary_answer_may_not(behind_a_proxy: Gateway, path: str) -> None:
    headers = bearer(a_token(behind_a_proxy.key)) | {"X-Forwarded-For": "203.0.113.2"}
    answer = await behind_a_proxy.send(f"{path}?events=30", headers=headers)
    assert 0 < answer.body.count(b"data:") < 30


async def test_a_file_is_not_held_open_for_good(behind_a_proxy: Gateway) -> None:
    """By a reader who takes a little now and then."""
    headers = bearer(a_token(behind_a_proxy.key)) | {"X-Forwarded-For": "203.0.113.4"}
    answer = await behind_a_proxy.send("/auth/me/export?events=100", headers=headers)
    assert 30 < answer.body.count(b"data:") < 100


async def test_a_file_of_which_nothing_comes_is_given_up(behind_a_proxy: Gateway) -> None:
    auth = behind_a_proxy.servers["auth"]
    headers = bearer(a_token(behind_a_proxy.key)) | {"X-Forwarded-For": "203.0.113.3"}
    # The keys are known by now.
    await behind_a_proxy.send("/auth/me", headers=headers)
    auth.override = _silent
    try:
        answer = await behind_a_proxy.send("/auth/me/export", headers=headers)
    finally:
        auth.override = None
    assert (answer.status, answer.json["code"]) == (504, "service_timeout")


async def _silent(_request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(3)
    return web.Response()


async def test_a_silent_stream_is_given_up(impatient: Gateway) -> None:
    answer = await impatient.send("/chat/slow", headers=bearer(a_token(impatient.key)))
    assert (answer.status, answer.json["code"]) == (504, "service_timeout")


async def test_leaving_reaches_the_service(gateway: Gateway) -> None:
    pool = gateway.servers["chat-enterprise"]
    token = a_token(gateway.key, tier="enterprise")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy.port)
    head = f"Host: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(f"GET /chat/sse?events=200 HTTP/1.1\r\n{head}".encode())
    await read_head(reader)
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(2):
        await pool.aborted.wait()


async def test_an_upload_streams_through(gateway: Gateway) -> None:
    """Chat and voice see the head of a request before its body is complete."""
    pool = gateway.servers["voice-free"]
    before = len(pool.received)
    token = a_token(gateway.key)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.proxy.port)
    writer.write(
        f"POST /voice/voices HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
        "Content-Length: 10\r\n\r\nfirst".encode()
    )
    async with asyncio.timeout(2):
        while len(pool.received) == before:
            await asyncio.sleep(0.01)
    writer.write(b"later")
    assert (await read_head(reader))[0] == 200
    writer.close()
    await writer.wait_closed()
    assert pool.last.body_bytes == 10


@pytest.mark.parametrize(("path", "service"), [("/chat/ws", "chat"), ("/voice/realtime", "voice")])
@pytest.mark.parametrize("tier", ["free", "pro"])
async def test_a_socket_goes_to_the_pool_of_its_token(
    gateway: Gateway, path: str, service: str, tier: str
) -> None:
    url = f"http://127.0.0.1:{gateway.proxy.port}{path}"
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url, headers=bearer(a_token(gateway.key, tier=tier))) as socket,
    ):
        assert (await socket.receive_json())["server"] == f"{service}-{tier}"
        await socket.send_str("hello")
        assert await socket.receive_str() == f"{service}-{tier}: hello"
        await socket.send_str("close")
        await socket.receive()
        assert socket.close_code == 1008


@pytest.mark.parametrize("form", ["bearer.{}", "bearer,{}"])
async def test_a_browsers_socket_shows_its_token_as_a_subprotocol(
    gateway: Gateway, form: str
) -> None:
    offered = ["companion.v1", *form.format(a_token(gateway.key, tier="enterprise")).split(",")]
    url = f"http://127.0.0.1:{gateway.proxy.port}/chat/ws"
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url, protocols=offered) as socket,
    ):
        seen = await socket.receive_json()
        assert seen["server"] == "chat-enterprise"
        assert dict(seen["headers"])["sec-websocket-protocol"] == ",".join(offered)
        assert socket.protocol == "companion.v1"


@pytest.mark.parametrize("path", ["/chat/ws", "/voice/realtime"])
async def test_a_socket_may_show_its_token_later_but_never_a_bad_one(
    gateway: Gateway, path: str
) -> None:
    port = gateway.proxy.port
    assert await open_upgrade(port, path, UPGRADE) == 101
    stranger = a_token(a_key())
    bad = [
        bearer(unsigned_token()),
        bearer(stranger),
        {"Sec-WebSocket-Protocol": f"companion.v1, bearer.{stranger}"},
        {"Sec-WebSocket-Protocol": f"bearer, {stranger}"},
        {"Sec-WebSocket-Protocol": f"bearer,{stranger}"},
    ]
    for headers in bad:
        assert await open_upgrade(port, path, UPGRADE | headers) == 401
    assert await open_upgrade(port, f"{path}?access_token={stranger}", UPGRADE) == 101


@pytest.mark.parametrize("headers", [{}, {"Upgrade": "websocket"}, {"Upgrade": "h2c"}])
async def test_a_socket_path_without_an_upgrade_needs_a_token(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    connection = {"Connection": "close"}
    answer = await gateway.send("/chat/ws", method="POST", headers=headers | connection)
    assert answer.status in (400, 401, 403)


@pytest.mark.parametrize("path", ["/chat/sessions", "/voice/speech", "/keys", "/v1/responses"])
async def test_no_other_path_takes_an_upgrade(gateway: Gateway, path: str) -> None:
    headers = UPGRADE | bearer(a_token(gateway.key))
    assert await open_upgrade(gateway.proxy.port, path, headers) == 400
    assert await open_upgrade(gateway.proxy.port, path, UPGRADE) in (400, 401)


async def test_a_vendors_socket_takes_the_token_in_the_sdks_header(gateway: Gateway) -> None:
    path = "/elevenlabs/v1/text-to-speech/rachel/stream-input?model_id=x"
    token = a_token(gateway.key, tier="pro")
    assert await open_upgrade(gateway.proxy.port, path, UPGRADE | {"xi-api-key": token}) == 101
    assert gateway.servers["voice-pro"].last.path == path
    # Without one it opens too: the vendor's samples show it in the first message.
    assert await open_upgrade(gateway.proxy.port, path, UPGRADE) == 101
    assert gateway.servers["voice-free"].last.header("x-user-id") is None
    forged = {"xi-api-key": token[:-4] + "AAAA"}
    assert await open_upgrade(gateway.proxy.port, path, UPGRADE | forged) == 401
    # A blank one is none.
    blank = UPGRADE | {"xi-api-key": " "}
    assert await open_upgrade(gateway.proxy.port, path, blank) == 101
    assert await open_upgrade(gateway.proxy.port, path, blank | bearer(token)) == 101
    assert await open_upgrade(gateway.proxy.port, path, blank | bearer(unsigned_token())) == 401
    assert (await gateway.send(path)).status == 401, "only as a socket"


async def test_an_idle_socket_is_closed_in_the_end(impatient: Gateway) -> None:
    """After two quiet seconds; the second in which a request must arrive does not concern it."""
    url = f"http://127.0.0.1:{impatient.proxy.port}/chat/ws"
    async with aiohttp.ClientSession() as client, client.ws_connect(url) as socket:
        await socket.receive_json()
        await asyncio.sleep(1.3)
        await socket.send_str("still here")
        assert await socket.receive_str() == "chat-free: still here"
        async with asyncio.timeout(4):
            assert (await socket.receive()).type in (
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.ERROR,
            )
