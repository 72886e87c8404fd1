"""Calls through the egress whose head goes ahead: what keyvault and the vendor may hear of them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from shared.clients.egress import (
    Egress,
    NoUsableKey,
    VendorCall,
    VendorConnectionLost,
    open_egress,
)
from shared.errors import DependencyUnavailable
from shared.identity import ServiceIdentity
from shared.telemetry.metrics import VENDOR_CALLS
from tests.support.tokens import identity_of, write_identities
from tests.support.waiting import until
from tests.unit.shared.test_egress import ADA, body_of, said


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ServiceIdentity:
    directory = tmp_path_factory.mktemp("identities")
    write_identities(directory)
    return identity_of(directory, "chat")


@asynccontextmanager
async def a_patient_egress(
    me: ServiceIdentity, *answers: bytes
) -> AsyncIterator[tuple[Egress, list[bytes]]]:
    """One that keeps its connections. It says each answer after a whole request, one that begins
    with a `!` after a head; `heard` has each head, and each body."""
    heard: list[bytes] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                heard.append(head)
                answer = left.pop(0)
                if answer.startswith(b"!"):
                    writer.write(answer[1:])
                    break
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                heard.append(await reader.readexactly(length))
                writer.write(answer)
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with open_egress(f"http://127.0.0.1:{port}/", me) as egress:
        assert await body_of(egress) == b"{}"
        heard.clear()
        yield egress, heard
    listener.close()


def a_call(egress: Egress) -> VendorCall:
    return egress.call("POST", "openai", "/v1/x", by=ADA, body=b'{"a":1}')


def grants_in(heard: list[bytes]) -> list[bytes]:
    return [
        line
        for head in heard
        for line in head.split(b"\r\n")
        if line.startswith(b"x-companion-grant")
    ]


def calls_counted(outcome: str) -> float:
    return float(VENDOR_CALLS.labels("chat", "openai", outcome)._value.get())


YES = said(200, {})


async def test_a_head_that_goes_ahead_carries_the_proofs_and_the_body_follows(
    chat: ServiceIdentity,
) -> None:
    async with a_patient_egress(chat, YES, YES) as (egress, heard):
        before = calls_counted("answered")
        call = a_call(egress)
        assert call.go_ahead()
        await until(lambda: len(heard) == 1)
        assert b"content-length: 7\r\n" in heard[0]
        assert len(grants_in(heard)) == 1
        async with call as answer:
            assert await answer.read() == b"{}"
        assert heard[1:] == [b'{"a":1}']
        assert calls_counted("answered") == before + 1
        call.leave()  # what was entered is left already
        assert calls_counted("answered") == before + 1


async def test_a_call_that_is_left_after_its_head_counts_as_left_and_says_no_more(
    chat: ServiceIdentity,
) -> None:
    async with a_patient_egress(chat, YES, YES, YES) as (egress, heard):
        before = calls_counted("left")
        call = a_call(egress)
        assert call.go_ahead()
        call.leave()
        call.leave()
        assert calls_counted("left") == before + 1
        assert await body_of(egress) == b"{}"
        assert b'{"a":1}' not in heard


async def test_keyvault_says_no_before_the_body(chat: ServiceIdentity) -> None:
    no = said(404, {"code": "key_not_found"}, "ext_authz_denied")
    async with a_patient_egress(chat, YES, b"!" + no, YES) as (egress, heard):
        call = a_call(egress)
        assert call.go_ahead()
        await until(lambda: call._ahead is not None and call._ahead.is_complete)
        with pytest.raises(NoUsableKey):
            async with call:
                pass
        assert len(heard) == 1
        assert await body_of(egress) == b"{}"


async def test_what_the_vendor_never_had_a_body_of_was_not_sent(chat: ServiceIdentity) -> None:
    detail = "upstream_reset_before_response_started{connection_termination}"
    async with a_patient_egress(chat, YES, b"!" + said(503, b"", detail)) as (egress, _):
        call = a_call(egress)
        assert call.go_ahead()
        await until(lambda: call._ahead is not None and call._ahead.is_complete)
        with pytest.raises(VendorConnectionLost) as lost:
            async with call:
                pass
        assert not lost.value.sent


async def test_a_refusal_that_breaks_off_is_no_work_either(chat: ServiceIdentity) -> None:
    """The vendor's own, by the head alone: it had nothing to work on, however that goes on."""
    begun = said(503, b"x" * 100)[:-50]
    async with a_patient_egress(chat, YES, b"!" + begun) as (egress, heard):
        before = calls_counted("cut")
        call = a_call(egress)
        assert call.go_ahead()
        await until(lambda: call._ahead is not None and bool(call._ahead.status))
        with pytest.raises(VendorConnectionLost) as lost:
            async with call as answer:
                assert (answer.status, answer.had_body) == (503, False)
                await answer.read(within=timedelta(seconds=0.05))
        assert not lost.value.sent
        assert len(heard) == 1
        assert calls_counted("cut") == before + 1


async def test_nor_is_one_in_an_encoding_that_nobody_asked_for(chat: ServiceIdentity) -> None:
    odd = said(400, b"x", **{"content-encoding": "br"})
    async with a_patient_egress(chat, YES, b"!" + odd) as (egress, _):
        call = a_call(egress)
        assert call.go_ahead()
        await until(lambda: call._ahead is not None and bool(call._ahead.status))
        with pytest.raises(VendorConnectionLost) as lost:
            async with call:
                pass
        assert not lost.value.sent


@pytest.mark.parametrize("status", [200, 408])
async def test_what_is_said_to_a_head_and_is_no_refusal_has_the_call_made_anew(
    chat: ServiceIdentity, status: int
) -> None:
    late = b"!" + said(status, {"of": "somebody else"})
    async with a_patient_egress(chat, YES, late, YES) as (egress, heard):
        before = calls_counted("answered")
        call = a_call(egress)
        assert call.go_ahead()
        await until(lambda: call._ahead is not None and call._ahead.is_complete)
        async with call as answer:
            assert await answer.read() == b"{}"
        assert heard[2:] == [b'{"a":1}']
        assert len(set(grants_in(heard))) == 2
        assert calls_counted("answered") == before + 1


async def test_who_is_cancelled_while_the_vendor_works_leaves_nothing_open(
    chat: ServiceIdentity,
) -> None:
    async with a_patient_egress(chat, YES, b"") as (egress, heard):
        before = calls_counted("left")
        call = a_call(egress)
        assert call.go_ahead()
        waiting = asyncio.create_task(call.__aenter__())
        await until(lambda: len(heard) == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        call.leave()
        assert calls_counted("left") == before + 1
        await until(lambda: not egress._pool._all)


async def test_the_same_after_the_body_may_have_been_sent(chat: ServiceIdentity) -> None:
    detail = "upstream_reset_before_response_started{connection_termination}"
    async with a_patient_egress(chat, YES, said(503, b"", detail)) as (egress, _):
        call = a_call(egress)
        assert call.go_ahead()
        with pytest.raises(VendorConnectionLost) as lost:
            async with call:
                pass
        assert lost.value.sent


async def test_a_connection_lost_between_head_and_body_is_asked_anew_with_another_grant(
    chat: ServiceIdentity,
) -> None:
    async with a_patient_egress(chat, YES, b"!", YES) as (egress, heard):
        before = calls_counted("answered")
        call = a_call(egress)
        assert call.go_ahead()
        await until(lambda: len(heard) == 1)
        ahead = call._ahead
        assert ahead is not None
        ahead._connection.abort()
        await until(lambda: ahead.trouble is not None)
        async with call as answer:
            assert await answer.read() == b"{}"
        assert heard[2] == b'{"a":1}'
        assert len(set(grants_in(heard))) == 2
        assert calls_counted("answered") == before + 1


async def test_an_egress_that_goes_between_head_and_body_is_told_as_away(
    chat: ServiceIdentity,
) -> None:
    async with a_patient_egress(chat, YES, b"!") as (egress, heard):
        before = calls_counted("withheld"), calls_counted("left")
        call = a_call(egress)
        assert call.go_ahead()
        await until(lambda: len(heard) == 1)
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            egress._pool._port = nobody.getsockname()[1]
            assert call._ahead is not None
            call._ahead._connection.abort()
            with pytest.raises(DependencyUnavailable):
                async with call:
                    pass
        assert len(heard) == 1
        assert (calls_counted("withheld"), calls_counted("left")) == (before[0] + 1, before[1])


async def test_nothing_goes_ahead_without_a_free_connection_or_a_body(
    chat: ServiceIdentity,
) -> None:
    async with a_patient_egress(chat, YES, YES, YES) as (egress, _):
        first, second = a_call(egress), a_call(egress)
        assert egress.has_free()
        assert first.go_ahead()
        assert not egress.has_free()
        assert not second.go_ahead()
        for call in (first, second):
            async with call as answer:
                assert await answer.read() == b"{}"
        assert not egress.call("GET", "openai", "/v1/x", by=ADA).go_ahead()


async def test_a_grant_that_was_signed_beforehand_goes_once(chat: ServiceIdentity) -> None:
    late = b"!" + said(408, {"of": "somebody else"})
    async with a_patient_egress(chat, YES, late, YES) as (egress, heard):
        call = a_call(egress)
        call.prepare()
        assert call._proofs is not None
        signed = call._proofs["x-companion-grant"].encode()
        assert call.go_ahead()
        await until(lambda: call._ahead is not None and call._ahead.is_complete)
        async with call as answer:
            assert await answer.read() == b"{}"
        first, second = grants_in(heard)
        assert first == b"x-companion-grant: " + signed
        assert second != first


@pytest.mark.parametrize(("seconds", "is_good"), [(9, True), (11, False), (-1, False)])
async def test_a_grant_that_was_signed_a_while_ago_is_signed_anew(
    chat: ServiceIdentity, monkeypatch: pytest.MonkeyPatch, seconds: float, is_good: bool
) -> None:
    async with a_patient_egress(chat, YES, YES) as (egress, heard):
        call = a_call(egress)
        call.prepare()
        assert call._proofs is not None
        signed = call._proofs["x-companion-grant"].encode()
        later = time.time() + seconds
        monkeypatch.setattr(time, "time", lambda: later)
        assert call.go_ahead()
        async with call as answer:
            assert await answer.read() == b"{}"
        assert (grants_in(heard) == [b"x-companion-grant: " + signed]) == is_good
