"""What all vendors share: where keys are looked for, which paths exist, how a refusal looks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import web

from tests.support.simulator.call import Answers, Call
from tests.support.simulator.refusals import Refusal, Refused, numbered
from tests.support.simulator.state import Simulator


class Vendor(ABC):
    """One vendor: where it looks for the key and how it refuses. Subclasses add the routes."""

    name: ClassVar[str]
    refusals: ClassVar[Mapping[str, Refusal]]
    request_id_prefix: ClassVar[str] = "req_"

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """Every path that the vendor serves."""

    @abstractmethod
    def key_of(self, request: web.Request) -> str | None:
        """The key that came with the request, where this vendor looks for it."""

    def model_of(self, call: Call) -> str:
        return str(call.body.get("model", ""))

    def streams(self, call: Call) -> bool:
        return call.body.get("stream") is True

    def check_headers(self, call: Call) -> None:  # noqa: B027 - most vendors ask for nothing
        """What a vendor asks of the headers besides the key."""

    def refusal(self, kind: str, call: Call) -> Refusal:
        """The refusal of that name; some name what the call was missing."""
        return self.refusals[kind]

    def knows(self, kind: str) -> bool:
        return kind in self.refusals or numbered(kind) is not None

    @abstractmethod
    def plain(self, status: int, message: str) -> Refusal:
        """Any status in the vendor's form."""

    def render(self, refusal: Refusal, call: Call) -> tuple[Any, Mapping[str, str]]:
        """Body and headers of a refusal, with what belongs to this very request."""
        return refusal.body, refusal.headers

    def key_may_come_later(self, call: Call) -> bool:
        """Whether a call without a key gets a second chance to show one."""
        return False

    def _on(
        self,
        method: str,
        path: str,
        handler: Answers,
        *,
        generates: bool = False,
        has_order: bool = False,
    ) -> web.RouteDef:
        async def answer(request: web.Request) -> web.StreamResponse:
            return await Call(self, request, generates=generates).run(handler, has_order=has_order)

        return web.route(method, f"/{self.name}{path}", answer)

    def get(self, path: str, handler: Answers) -> web.RouteDef:
        return self._on("GET", path, handler)

    def post(self, path: str, handler: Answers) -> web.RouteDef:
        return self._on("POST", path, handler)

    def generate(self, path: str, handler: Answers) -> web.RouteDef:
        """A POST that costs money and therefore goes into the ledger."""
        return self._on("POST", path, handler, generates=True, has_order=True)

    def delete(self, path: str, handler: Answers) -> web.RouteDef:
        return self._on("DELETE", path, handler)

    def socket(self, path: str, handler: Answers) -> web.RouteDef:
        """A WebSocket that costs money."""
        return self._on("GET", path, handler, generates=True)

    def otherwise(self) -> web.RouteDef:
        """Every path the vendor does not know."""

        async def unknown(call: Call) -> web.StreamResponse:
            raise Refused(call.vendor.plain(404, f"Unknown path {call.path}."))

        return self._on("*", "/{rest:.*}", unknown)
