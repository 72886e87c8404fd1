"""One request on its way through the simulator."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from tests.support.simulator import connections
from tests.support.simulator.ids import new_id
from tests.support.simulator.keys import Verdict, digest, judge
from tests.support.simulator.ledger import Served
from tests.support.simulator.options import (
    DISRUPTIONS,
    SILENCES,
    Options,
    UnknownOption,
    read_directives,
)
from tests.support.simulator.refusals import Refusal, Refused, Vanished, numbered, page
from tests.support.simulator.wire import dump

if TYPE_CHECKING:
    from tests.support.simulator.vendor import Vendor


class Call:
    """Lives as long as the request; what is asked of the answer gathers in `options`."""

    __slots__ = (
        "_malformed",
        "body",
        "generates",
        "key",
        "key_sha256",
        "options",
        "path",
        "request",
        "request_id",
        "response",
        "served",
        "vendor",
    )

    def __init__(self, vendor: "Vendor", request: web.Request, *, generates: bool) -> None:
        self.vendor = vendor
        self.request = request
        self.generates = generates
        # The ledger keeps a hundred thousand of these, and they are few different ones.
        self.path = sys.intern(request.path[len(vendor.name) + 1 :])
        self.key = vendor.key_of(request)
        self.key_sha256 = digest(self.key)
        self.request_id = new_id(vendor.request_id_prefix)
        self.body: dict[str, Any] = {}
        self._malformed = False
        self.options = vendor.simulator.defaults
        self.served: Served | None = None
        self.response: web.StreamResponse | None = None

    async def run(self, handler: "Answers", *, has_order: bool) -> web.StreamResponse:
        try:
            await self._enter(has_order=has_order)
            return await handler(self)
        except Refused as refused:
            return await self._refuse(refused.refusal)
        except web.HTTPRequestEntityTooLarge:
            return await self._refuse(self.vendor.refusal("too_large", self))
        except Vanished:
            return self.response or web.Response()
        except ConnectionError:
            self.finish("client_gone")
            return self.response or web.Response()
        except asyncio.CancelledError:
            self.finish("client_gone")
            raise
        except Exception:
            self.finish("error", 500)
            raise

    async def _enter(self, *, has_order: bool) -> None:
        simulator = self.vendor.simulator
        simulator.headers.record(self.vendor.name, self.request)
        if self.generates:
            await self._open_ledger(has_order=has_order)
        self.vendor.check_headers(self)
        await self._check_key()
        fault = simulator.faults.take(self.vendor.name, self.path, self.key_sha256)
        if fault is not None:
            await self.obey(fault)
        if self._malformed:
            raise self.refused(400, "We could not parse the JSON body of your request.")

    async def _open_ledger(self, *, has_order: bool) -> None:
        # Nothing was asked by a head that is broken off before its body.
        if has_order:
            self.body = await self._json_or_nothing()
        served = self.served = self.vendor.simulator.ledger.open(
            self.vendor.name, self.path, self.key_sha256
        )
        served.model = sys.intern(self.vendor.model_of(self))
        served.stream = self.vendor.streams(self)

    def promise(
        self,
        response_id: str,
        usage: dict[str, int],
        usage_after: Callable[[int], dict[str, int]] | None = None,
    ) -> None:
        """Put into the ledger what the client is about to be told."""
        if self.served is not None:
            self.served.response_id = response_id
            self.served.usage = usage
            self.served.usage_after = usage_after

    def brought_back(self, thoughts: int) -> None:
        """Note how much of what it had given out for keeping came back."""
        if self.served is not None:
            self.served.brought_back = thoughts

    async def json(self) -> dict[str, Any]:
        """The body of a call that generates nothing."""
        self.body = await self._json_or_nothing()
        if self._malformed:
            raise self.refused(400, "We could not parse the JSON body of your request.")
        return self.body

    async def _json_or_nothing(self) -> dict[str, Any]:
        try:
            body = orjson.loads(await self.request.read())
        except orjson.JSONDecodeError:
            body = None
        if isinstance(body, dict):
            return body
        self._malformed = True
        return {}

    def take_key(self, key: str | None) -> None:
        """A key that came after the headers."""
        self.key, self.key_sha256 = key, digest(key)
        if self.served is not None:
            self.served.key_sha256 = self.key_sha256

    async def _check_key(self) -> None:
        if self.key is None and self.vendor.key_may_come_later(self):
            return
        verdict = judge(self.key, generates=self.generates)
        if verdict is Verdict.RESET:
            await self._vanish("connection_reset")
        if verdict is not Verdict.GOOD:
            raise Refused(self.vendor.refusal(verdict, self))

    def listen(self, text: str) -> tuple[str, Options]:
        """The text without its directives; a misspelt one is refused."""
        try:
            return read_directives(text)
        except UnknownOption as unknown:
            raise self.refused(400, str(unknown)) from None

    async def obey(self, asked: Options) -> None:
        """Take over options; those that forbid an answer end the call here."""
        self.options = asked.over(self.options)
        kind = asked.get("fault")
        if kind is None:
            return
        if self.served is not None:
            self.served.fault = kind
        if kind in SILENCES:
            await self._vanish(kind)
        if kind not in DISRUPTIONS:
            raise Refused(self.refusal_of(kind))

    def refusal_of(self, kind: str) -> Refusal:
        """`status_418` is any status in the vendor's form, `echo_401` one whose message repeats the
        key, `html_502` one in the form of a proxy."""
        if (found := numbered(kind)) is not None:
            form, status = found
            message = "The simulator was asked to refuse this."
            if form == "echo":
                message = f"This is refused for the key {self.key}."
            return page(status) if form == "html" else self.vendor.plain(status, message)
        if kind not in self.vendor.refusals:
            return self.vendor.plain(400, f"{self.vendor.name} has no fault {kind!r}.")
        return self.vendor.refusal(kind, self).adjusted(self.options)

    def refused(self, status: int, message: str) -> Refused:
        return Refused(self.vendor.plain(status, message))

    async def _vanish(self, kind: str) -> None:
        await self.pause_before_first_byte()
        self.finish("cut", 0)
        if kind == "connection_reset":
            await connections.reset(self.request)
        else:
            await connections.hang_up(self.request)
        raise Vanished

    async def pause_before_first_byte(self) -> None:
        seconds = self.options.seconds("first_byte_delay_ms")
        if seconds:
            await asyncio.sleep(seconds)

    async def _refuse(self, refusal: Refusal) -> web.StreamResponse:
        await self.pause_before_first_byte()
        self.finish("error", refusal.status)
        body, headers = self.vendor.render(refusal, self)
        is_page = isinstance(body, str)
        kind = "text/html" if is_page else "application/json"
        payload = body.encode() if is_page else dump(body)
        return web.Response(
            status=refusal.status, body=payload, headers={"Content-Type": kind, **headers}
        )

    def finish(self, outcome: str, status: int = 200) -> None:
        if self.served is not None:
            self.served.finish(outcome, status)


Answers = Callable[[Call], Awaitable[web.StreamResponse]]
