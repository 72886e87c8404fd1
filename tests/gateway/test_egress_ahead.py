"""The head of a call goes ahead of its body, through a real egress: keyvault is asked by it, and
the vendor has nothing to work on until the body follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from aiohttp import web

from shared.clients import egress as client
from shared.clients.egress import (
    KeyRefused,
    NoUsableKey,
    VendorCall,
    VendorConnectionLost,
    open_egress,
)
from shared.errors import DependencyUnavailable
from shared.identity import OnBehalfOf, ServiceIdentity
from shared.ids import UserId
from tests.gateway.conftest import room
from tests.gateway.egress_tools import BASE_PATHS, Egress, an_egress, grant
from tests.gateway.servers import free_endpoint
from tests.support.tokens import identity_of, write_identities
from tests.support.waiting import until

ADA = OnBehalfOf(UserId(UUID(int=1)), "request-of-ada", "token-of-ada", UUID(int=2))
BODY = b'{"ask":"this"}'
KEY = "Bearer key-of-ada"


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ServiceIdentity:
    directory = tmp_path_factory.mktemp("identities")
    write_identities(directory)
    return identity_of(directory, "chat")


@pytest.fixture(scope="module")
async def shared(short_directory: Path) -> AsyncIterator[Egress]:
    async with an_egress(
        room(short_directory, "egress-ahead"), authorisation_timeout_seconds=0.5
    ) as egress:
        yield egress


@pytest.fixture
async def proxy(shared: Egress) -> AsyncIterator[Egress]:
    for vendor in shared.vendors.values():
        vendor.received.clear()
        vendor.aborted.clear()
    shared.keyvault.asked.clear()
    yield shared
    shared.keyvault.decide = grant
    for vendor in shared.vendors.values():
        vendor.override = None


@pytest.fixture
async def egress(proxy: Egress, chat: ServiceIdentity) -> AsyncIterator[client.Egress]:
    """With a connection that is free."""
    async with open_egress(f"http://127.0.0.1:{proxy.proxy.port}", chat) as egress:
        await answered(a_call(egress))
        proxy.keyvault.asked.clear()
        proxy.vendors["openai"].received.clear()
        yield egress


def a_call(egress: client.Egress, body: bytes = BODY) -> VendorCall:
    return egress.call("POST", "openai", "/v1/chat/completions", by=ADA, body=body)


async def answered(call: VendorCall) -> int:
    async with call as answer:
        await answer.read()
        return answer.status


def is_the_last_of_its_connection(call: VendorCall) -> bool:
    """Whether a body that crosses the answer on its way is nothing to the next call."""
    return call._ahead is not None and call._ahead.headers.get("connection") == "close"


def heard(proxy: Egress) -> list[tuple[str | None, int]]:
    """The key and the bytes of a body of each call that came to the vendor."""
    return [
        (got.header("authorization"), got.body_bytes) for got in proxy.vendors["openai"].received
    ]


async def test_keyvault_and_the_vendor_hear_of_the_head_alone(
    proxy: Egress, egress: client.Egress
) -> None:
    call = a_call(egress)
    assert call.go_ahead()
    await until(lambda: proxy.vendors["openai"].received)
    await asyncio.sleep(0.05)
    assert heard(proxy) == [(KEY, 0)]
    assert await answered(call) == 200
    assert heard(proxy) == [(KEY, len(BODY))]
    assert len(proxy.keyvault.asked) == 1
    # The connection was good for another one.
    assert a_call(egress).go_ahead()


async def test_a_call_that_is_left_never_has_a_body_and_is_cut(
    proxy: Egress, egress: client.Egress
) -> None:
    vendor, cut = proxy.vendors["openai"], asyncio.Event()

    async def read_on(request: web.BaseRequest) -> web.Response:
        try:
            await request.read()
        except BaseException:
            cut.set()
            raise
        return web.Response()

    vendor.override = read_on
    call = a_call(egress)
    assert call.go_ahead()
    await until(lambda: proxy.keyvault.asked)
    await asyncio.sleep(0.05)
    call.leave()
    async with asyncio.timeout(5):
        await cut.wait()
    vendor.override = None
    assert await answered(a_call(egress)) == 200


async def test_a_call_that_is_left_while_keyvault_thinks_reaches_no_vendor(
    proxy: Egress, egress: client.Egress
) -> None:
    may_answer = asyncio.Event()

    async def slowly(request: web.BaseRequest) -> web.Response:
        await may_answer.wait()
        return await grant(request)

    proxy.keyvault.decide = slowly
    call = a_call(egress)
    assert call.go_ahead()
    await until(lambda: proxy.keyvault.asked)
    call.leave()
    await asyncio.sleep(0.05)
    may_answer.set()
    proxy.keyvault.decide = grant
    assert await answered(a_call(egress)) == 200
    assert heard(proxy) == [(KEY, len(BODY))]


async def test_a_body_that_comes_while_keyvault_thinks_waits_for_it(
    proxy: Egress, egress: client.Egress
) -> None:
    may_answer = asyncio.Event()

    async def slowly(request: web.BaseRequest) -> web.Response:
        await may_answer.wait()
        return await grant(request)

    proxy.keyvault.decide = slowly
    body = b'"%s"' % (b"x" * 500_000)
    call = a_call(egress, body)
    assert call.go_ahead()
    answer = asyncio.create_task(answered(call))
    await until(lambda: proxy.keyvault.asked)
    assert heard(proxy) == []
    may_answer.set()
    assert await asyncio.wait_for(answer, 5) == 200
    assert heard(proxy) == [(KEY, len(body))]


async def test_keyvaults_no_comes_before_the_body(proxy: Egress, egress: client.Egress) -> None:
    async def refuse(_request: web.BaseRequest) -> web.Response:
        return web.json_response({"code": "not_your_key", "detail": "No."}, status=403)

    proxy.keyvault.decide = refuse
    call = a_call(egress)
    assert call.go_ahead()
    await until(lambda: call._ahead is not None and call._ahead.status)
    assert is_the_last_of_its_connection(call)
    with pytest.raises(KeyRefused):
        await answered(call)
    proxy.keyvault.decide = grant
    assert await answered(a_call(egress)) == 200
    assert heard(proxy) == [(KEY, len(BODY))]


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_the_vendors_no_comes_before_the_body(
    proxy: Egress, egress: client.Egress, status: int
) -> None:
    async def refuse(_request: web.BaseRequest) -> web.Response:
        return web.json_response({"error": "no"}, status=status)

    proxy.vendors["openai"].override = refuse
    call = a_call(egress)
    assert call.go_ahead()
    await until(lambda: call._ahead is not None and call._ahead.status)
    assert is_the_last_of_its_connection(call)
    async with call as answer:
        assert (answer.status, answer.had_body) == (status, False)
        assert await answer.read() == b'{"error": "no"}'
    proxy.vendors["openai"].override = None
    assert await answered(a_call(egress)) == 200
    assert heard(proxy) == [(KEY, len(BODY))]


async def test_what_a_vendor_answers_to_a_head_and_is_no_refusal_has_it_asked_anew(
    proxy: Egress, egress: client.Egress
) -> None:
    async def hasty(_request: web.BaseRequest) -> web.Response:
        proxy.vendors["openai"].override = None
        return web.Response(text="of nothing")

    proxy.vendors["openai"].override = hasty
    call = a_call(egress)
    assert call.go_ahead()
    await until(lambda: call._ahead is not None and call._ahead.status)
    assert await answered(call) == 200
    assert heard(proxy) == [(KEY, len(BODY))]
    assert len(proxy.keyvault.asked) == 2


async def test_a_keyvault_that_hangs_is_told_as_away(proxy: Egress, egress: client.Egress) -> None:
    async def hang(_request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    proxy.keyvault.decide = hang
    call = a_call(egress)
    assert call.go_ahead()
    with pytest.raises(DependencyUnavailable):
        await answered(call)
    assert heard(proxy) == []


async def test_a_vendor_that_ends_the_connection_after_the_head_had_nothing_to_charge_for(
    proxy: Egress, egress: client.Egress
) -> None:
    async def hang_up(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    proxy.vendors["openai"].override = hang_up
    call = a_call(egress)
    assert call.go_ahead()
    await until(lambda: call._ahead is not None and call._ahead.status)
    with pytest.raises(VendorConnectionLost) as lost:
        await answered(call)
    assert not lost.value.sent


async def test_a_vendor_that_cannot_be_reached_was_not_sent_the_call(
    short_directory: Path, chat: ServiceIdentity
) -> None:
    urls = {name: f"http://{free_endpoint()}{path}" for name, path in BASE_PATHS.items()}
    async with (
        an_egress(room(short_directory, "egress-ahead-none"), urls=urls) as proxy,
        open_egress(f"http://127.0.0.1:{proxy.proxy.port}", chat) as egress,
    ):
        for _ in range(2):
            call = a_call(egress)
            call.go_ahead()
            with pytest.raises(VendorConnectionLost) as lost:
                await answered(call)
            assert not lost.value.sent


MANNERS = ["", "slow"] * 5 + ["no-key", "no-key-slow", "busy", "hangs-up"] * 2 + ["stuck"]


@dataclass
class Crowd:
    """Many callers at once, some of whom leave; keyvault and the vendor say no to some by their
    heads, and are slow with others. What becomes of a call is in its name."""

    egress: client.Egress
    luck: Random
    answered: list[str] = field(default_factory=list)
    left: set[str] = field(default_factory=set)  # before their bodies
    had_body: set[str] = field(default_factory=set)

    async def decide(self, request: web.BaseRequest) -> web.Response:
        """As keyvault."""
        name = request.headers["x-request-id"]
        if "slow" in name:
            await asyncio.sleep(0.004)
        if "stuck" in name:
            await asyncio.sleep(0.6)  # the egress waits for half a second
        if "no-key" in name:
            return web.json_response({"code": "key_not_found", "detail": name}, status=404)
        return await grant(request)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """As the vendor."""
        name = request.headers["x-name"]
        if "busy" in name:
            return web.Response(status=429, text=name)
        if "hangs-up" in name:
            assert request.transport is not None
            request.transport.close()
        assert await request.text() == name
        self.had_body.add(name)
        return web.Response(text=name)

    async def call_all(self, caller: int) -> None:
        for number in range(15):
            manner = self.luck.choice(MANNERS)
            await self._call(f"{caller}.{number}-{manner}")

    async def _call(self, name: str) -> None:
        by = replace(ADA, request_id=name)
        path, headers = "/v1/chat/completions", {"x-name": name}
        call = self.egress.call("POST", "openai", path, by=by, body=name.encode(), headers=headers)
        if call.go_ahead():
            await asyncio.sleep(self.luck.random() * 0.008)
            if self.luck.random() < 0.3:
                self.left.add(name)
                call.leave()
                return
        try:
            async with call as answer:
                assert await answer.read() == name.encode()
                assert answer.status == (429 if "busy" in name else 200)
                self.answered.append(name)
        except NoUsableKey as refused:
            assert "no-key" in name
            assert refused.message == name
        except VendorConnectionLost:
            # Whoever says no and has not read the body may end the connection before it is heard.
            assert "hangs-up" in name or "busy" in name
        except DependencyUnavailable:
            # On a busy machine keyvault may be late for anybody.
            assert name not in self.had_body


async def test_whatever_happens_each_gets_the_answer_to_what_they_asked(
    proxy: Egress, egress: client.Egress
) -> None:
    crowd = Crowd(egress, Random(89))
    proxy.keyvault.decide = crowd.decide
    proxy.vendors["openai"].override = crowd.serve
    async with asyncio.TaskGroup() as together:
        for caller in range(12):
            together.create_task(crowd.call_all(caller))
    assert len(crowd.answered) > 12
    assert crowd.left
    assert not crowd.left & crowd.had_body
    assert not [name for name in crowd.had_body if "no-key" in name]
