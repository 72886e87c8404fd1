"""Calls through the egress: what is sent, whose answer it is, and what becomes of trouble."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from shared.clients import egress as module
from shared.clients.egress import (
    Egress,
    KeyRefused,
    KeysWithheld,
    KeyUsedTooOften,
    NoUsableKey,
    VendorConnectionLost,
    open_egress,
)
from shared.errors import DependencyUnavailable, Unavailable
from shared.identity import OnBehalfOf, Peers, ServiceIdentity
from shared.ids import UserId
from tests.support.tokens import identity_of, write_identities

ADA = OnBehalfOf(UserId(UUID(int=1)), "request-77", "the-users-token", UUID(int=2))
SOON = timedelta(seconds=2)
Send = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("identities")
    write_identities(directory)
    return directory


@pytest.fixture
def chat(directory: Path) -> ServiceIdentity:
    return identity_of(directory, "chat")


@asynccontextmanager
async def an_egress(
    me: ServiceIdentity, answer: bytes | Send, *, under: str = ""
) -> AsyncIterator[tuple[Egress, list[bytes]]]:
    """One that hears a whole request and gives this answer, then ends the connection."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            heard.append(head + await reader.readexactly(length))
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with open_egress(f"http://127.0.0.1:{port}{under}/", me) as egress:
        yield egress, heard
    listener.close()


def said(status: int, body: bytes | Any, detail: str | None = "via_upstream", **more: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"x-egress-detail": detail, **more} if detail else more
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"HTTP/1.1 {status} X\r\n{lines}content-length: {len(content)}\r\n\r\n".encode() + content
    )


async def body_of(egress: Egress, path: str = "/v1/x", **parts: Any) -> bytes:
    async with egress.call("POST", "openai", path, by=ADA, body=b"{}", **parts) as answer:
        return await answer.read()


async def test_the_call_carries_both_proofs_and_the_body_as_it_is(
    chat: ServiceIdentity, directory: Path
) -> None:
    more = {"x-more": "m"}
    async with (
        an_egress(chat, said(201, b"hello", Thing="x"), under="/base") as (egress, heard),
        egress.call("POST", "openai", "/v1/x?y=1", by=ADA, body=b'{"a":1}', headers=more) as answer,
    ):
        assert (answer.status, answer.headers["tHING"]) == (201, "x")
        assert await answer.read() == b"hello"
        assert await answer.read_some(within=SOON) == b""
    head, _, body = heard[0].decode().partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    assert (first, body) == ("POST /base/openai/v1/x?y=1 HTTP/1.1", '{"a":1}')
    assert headers["content-type"] == "application/json"
    assert (headers["x-request-id"], headers["x-more"]) == ("request-77", "m")
    assert headers["x-companion-user"] == "the-users-token"
    grant = Peers.from_file("keyvault", directory / "trusted.json").grant_of(
        headers["x-companion-grant"]
    )
    assert (grant.user_id, grant.provider, grant.request_id) == (
        ADA.user_id,
        "openai",
        "request-77",
    )


async def test_a_path_that_holds_more_than_letters_is_encoded(chat: ServiceIdentity) -> None:
    async with an_egress(chat, said(200, b"")) as (egress, heard):
        await body_of(egress, "/v1/models/é x\r\ny?a=%20b")
    assert heard[0].startswith(b"POST /openai/v1/models/%C3%A9%20x%0D%0Ay?a=%20b HTTP/1.1\r\n")


@pytest.mark.parametrize("status", [200, 401, 404, 429, 500, 503])
async def test_the_vendors_answer_is_given_whatever_its_status(
    chat: ServiceIdentity, status: int
) -> None:
    async with (
        an_egress(chat, said(status, b"theirs")) as (egress, _),
        egress.call("GET", "openai", "/v1/x", by=ADA) as answer,
    ):
        assert answer.status == status
        assert await answer.read() == b"theirs"


DENIED = "ext_authz_denied"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (said(404, {"code": "key_not_found"}, DENIED), NoUsableKey),
        (said(409, {"code": "key_not_usable"}, DENIED), NoUsableKey),
        (said(403, {"code": "not_your_key"}, DENIED), KeyRefused),
        (said(403, b"no JSON", DENIED), KeyRefused),
        (said(403, b"[1]", DENIED), KeyRefused),
        (said(503, {"code": "vault_sealed"}, DENIED), DependencyUnavailable),
        # The answer to its first use was lost, as when a keyvault dies.
        (said(403, {"code": "grant_replayed"}, DENIED), DependencyUnavailable),
        (said(401, {"code": "grant_expired"}, DENIED), DependencyUnavailable),
        # A clock of ours that is ahead, or a key that is not known yet.
        (said(401, {"code": "grant_invalid"}, DENIED), DependencyUnavailable),
        (said(503, {"code": "service_stopped"}, DENIED), KeysWithheld),
        (said(429, {"code": "service_rate_reached"}, DENIED), KeysWithheld),
        (said(429, {"code": "user_rate_reached"}, DENIED), KeyUsedTooOften),
        (said(403, b"", "ext_authz_error"), DependencyUnavailable),
        (said(404, b"", "route_not_found"), Unavailable),
        (said(404, b"", None), Unavailable),
    ],
)
async def test_what_is_not_the_vendors_is_a_failure_of_ours(
    chat: ServiceIdentity, answer: bytes, failure: type[Exception]
) -> None:
    async with an_egress(chat, answer) as (egress, _):
        with pytest.raises(failure):
            await body_of(egress)


_RESET = "upstream_reset_before_response_started"


@pytest.mark.parametrize(
    ("status", "detail", "sent"),
    [
        (503, f"{_RESET}{{remote_connection_failure|delayed_connect_error:_refused}}", False),
        (503, f"{_RESET}{{local_connection_failure}}", False),
        (503, f"{_RESET}{{connection_timeout}}", False),
        (503, f"{_RESET}{{overflow}}", False),
        (503, "no_healthy_upstream", False),
        (503, "cluster_not_found", False),
        (400, "path_normalization_failed", False),
        (503, f"{_RESET}{{connection_termination}}", True),
        (503, f"{_RESET}{{remote_reset}}", True),
        (503, f"{_RESET}{{connection_termination|remote_connection_failure}}", True),
        (502, f"{_RESET}{{protocol_error}}", True),
        (504, "stream_idle_timeout", True),
        (503, None, True),
    ],
)
async def test_a_vendor_out_of_reach_is_told_by_the_egress(
    chat: ServiceIdentity, status: int, detail: str | None, sent: bool
) -> None:
    answer = said(status, b"", detail)
    async with an_egress(chat, answer) as (egress, _):
        with pytest.raises(VendorConnectionLost) as lost:
            await body_of(egress)
    assert lost.value.sent is sent


async def cutting(writer: asyncio.StreamWriter) -> None:
    writer.write(said(200, b"hi").replace(b"content-length: 2", b"content-length: 20"))


async def falling_silent(writer: asyncio.StreamWriter) -> None:
    await cutting(writer)
    await asyncio.sleep(5)


async def test_an_answer_that_is_cut_is_a_lost_connection(chat: ServiceIdentity) -> None:
    async with an_egress(chat, cutting) as (egress, _):
        with pytest.raises(VendorConnectionLost) as lost:
            await body_of(egress)
        assert lost.value.sent
        async with egress.call("GET", "openai", "/v1/x", by=ADA) as answer:
            assert await answer.read_some(within=SOON) == b"hi"
            with pytest.raises(VendorConnectionLost):
                await answer.read_some(within=SOON)


async def test_silence_is_a_lost_connection(chat: ServiceIdentity) -> None:
    async def never(_writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    short = timedelta(milliseconds=20)
    async with an_egress(chat, never) as (egress, _):
        with pytest.raises(VendorConnectionLost, match="in time") as lost:
            await body_of(egress, first_byte_within=short)
    assert lost.value.sent
    async with an_egress(chat, falling_silent) as (egress, _):
        async with egress.call("GET", "openai", "/v1/x", by=ADA) as answer:
            assert await answer.read_some(within=SOON) == b"hi"
            with pytest.raises(VendorConnectionLost, match="in time"):
                await answer.read_some(within=short)
        async with egress.call("GET", "openai", "/v1/x", by=ADA) as answer:
            with pytest.raises(VendorConnectionLost, match="in time"):
                await answer.read(within=short)


@pytest.mark.parametrize("answer", [b"garbage", b"", said(200, b"x", **{"content-encoding": "br"})])
async def test_what_nobody_can_read_is_a_lost_connection(
    chat: ServiceIdentity, answer: bytes
) -> None:
    async with an_egress(chat, answer) as (egress, _):
        with pytest.raises(VendorConnectionLost) as lost:
            await body_of(egress)
    assert lost.value.sent


async def test_a_body_has_a_largest_size(
    chat: ServiceIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGEST_BODY", 4)
    async with an_egress(chat, said(200, b"12345")) as (egress, _):
        with pytest.raises(VendorConnectionLost, match="large"):
            await body_of(egress)


async def test_an_egress_that_is_away_has_sent_nothing(chat: ServiceIdentity) -> None:
    async with open_egress("http://127.0.0.1:1", chat) as egress:
        with pytest.raises(DependencyUnavailable):
            await body_of(egress)
        with pytest.raises(DependencyUnavailable):
            await egress.check()


async def test_an_egress_that_is_there_is_well(chat: ServiceIdentity) -> None:
    async with an_egress(chat, said(200, b"")) as (egress, heard):
        await egress.check()
        assert heard == []


@pytest.mark.parametrize("url", ["https://egress:1", "egress:1", "http://", ""])
async def test_an_address_of_another_kind_fails_at_the_start(
    chat: ServiceIdentity, url: str
) -> None:
    with pytest.raises(ValueError, match="EGRESS_URL"):
        async with open_egress(url, chat):
            pass


@pytest.mark.parametrize("way", ["call", "request"])
async def test_a_paid_call_learns_on_whose_key_it_ran_or_that_nobody_told(
    chat: ServiceIdentity, way: str
) -> None:
    firm = UUID(int=70)

    async def asked(answer: bytes | Send) -> UUID | None:
        # One request of it ran on the organisation's key; then comes another.
        by, key = ADA.for_call()
        by.key.answered("openai", f"{firm} 1")
        async with an_egress(chat, answer) as (egress, _):
            with suppress(VendorConnectionLost, Unavailable):
                ask = getattr(egress, way)
                body: Any = b"{}" if way == "call" else {}
                async with ask("POST", "openai", "/v1/x", by=by, body=body, first_byte_within=SOON):
                    pass
        return key.organisation(ADA.user_id)

    async def nothing(_writer: asyncio.StreamWriter) -> None:
        """The connection ends before an answer."""

    assert await asked(said(200, b"", **{"x-companion-key": f"{firm} 1"})) == firm
    assert await asked(said(200, b"", **{"x-companion-key": f"{ADA.user_id} 1"})) is None
    assert await asked(said(200, b"")) is None
    assert await asked(nothing) is None
    # Keyvault's or the egress' own no: no vendor was asked.
    assert await asked(said(503, {"code": "x"}, "something_else")) == firm
