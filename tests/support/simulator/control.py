"""The simulator's own API under `/_sim/`, for the tests that run it."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson
from aiohttp import web

from tests.support.simulator.faults import Fault
from tests.support.simulator.keys import DIGEST_LENGTH
from tests.support.simulator.ledger import Served
from tests.support.simulator.options import (
    DISRUPTIONS,
    MANNERS,
    SILENCES,
    UnknownOption,
    checked,
)
from tests.support.simulator.state import Simulator
from tests.support.simulator.vendor import Vendor
from tests.support.simulator.wire import JSON, dump

_MANY: Final = 1_000_000


class Control:
    """Orders faults and shows what was served."""

    def __init__(self, simulator: Simulator, vendors: Iterable[Vendor]) -> None:
        self._simulator = simulator
        self._vendors = {vendor.name: vendor for vendor in vendors}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_sim/health", self.health),
            web.get("/_sim/kinds", self.kinds),
            web.get("/_sim/faults", self.faults),
            web.post("/_sim/faults", self.add_fault),
            web.delete("/_sim/faults", self.clear_faults),
            web.get("/_sim/served", self.served),
            web.delete("/_sim/served", self.wipe_served),
            web.get("/_sim/headers/last", self.last_headers),
            web.get("/_sim/defaults", self.defaults),
            web.put("/_sim/defaults", self.set_defaults),
        ]

    async def health(self, request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def kinds(self, request: web.Request) -> web.Response:
        """Every kind of fault, by vendor; `status_NNN` and `html_NNN` come on top."""
        general = sorted(DISRUPTIONS | SILENCES | MANNERS.keys())
        by_vendor = {name: sorted(vendor.refusals) for name, vendor in self._vendors.items()}
        return _json({"general": general, **by_vendor})

    async def faults(self, request: web.Request) -> web.Response:
        return _json({"faults": self._simulator.faults.as_json()})

    async def add_fault(self, request: web.Request) -> web.Response:
        """One order or a list of them; of a list nothing is taken if one of them is wrong."""
        given = orjson.loads(await request.read())
        orders = given if isinstance(given, list) else [given]
        try:
            for order in orders:
                self._check(order)
            added = [self._simulator.faults.add(order) for order in orders]
        except (UnknownOption, ValueError) as wrong:
            return _json({"error": str(wrong)}, status=422)
        shown: list[dict[str, Any]] = [Fault.as_json(fault) for fault in added]
        return _json(shown if isinstance(given, list) else shown[0], status=201)

    def _check(self, order: dict[str, Any]) -> None:
        vendor, kind = order.get("vendor", "*"), order.get("kind")
        if vendor != "*" and vendor not in self._vendors:
            raise UnknownOption(f"There is no vendor {vendor!r}.")
        asked = [self._vendors[vendor]] if vendor != "*" else list(self._vendors.values())
        general = kind in DISRUPTIONS or kind in SILENCES or kind in MANNERS
        if not general and not any(one.knows(str(kind)) for one in asked):
            raise UnknownOption(f"{vendor} has no fault {kind!r}; see /_sim/kinds.")
        details = ("vendor", "kind", "path", "times", "key_sha256")
        checked({name: value for name, value in order.items() if name not in details})

    async def clear_faults(self, request: web.Request) -> web.Response:
        self._simulator.faults.clear()
        return web.Response(status=204)

    async def served(self, request: web.Request) -> web.Response:
        """Oldest first. `?after=` a number, `?vendor=`, `?key_sha256=`, `?outcome=`, `?limit=`."""
        query = request.query
        after, limit = int(query.get("after", "0")), int(query.get("limit", str(_MANY)))
        names = ("vendor", "key_sha256", "outcome", "model", "response_id")
        wanted = {name: query[name] for name in names if name in query}
        if "key_sha256" in wanted:
            wanted["key_sha256"] = wanted["key_sha256"][:DIGEST_LENGTH]
        found = list(_matching(self._simulator.ledger, after, wanted))
        shown = [served.as_json() for served in found[-limit:]]
        return _json({"served": shown, "count": len(self._simulator.ledger)})

    async def wipe_served(self, request: web.Request) -> web.Response:
        self._simulator.ledger.wipe()
        return web.Response(status=204)

    async def last_headers(self, request: web.Request) -> web.Response:
        last = self._simulator.headers.last(request.query.get("vendor"))
        return _json(last if last else {"error": "No request yet."}, status=200 if last else 404)

    async def defaults(self, request: web.Request) -> web.Response:
        return _json(self._simulator.defaults)

    async def set_defaults(self, request: web.Request) -> web.Response:
        """Options for every request from now on, such as its pace; what is left out is unset."""
        try:
            self._simulator.defaults = checked(orjson.loads(await request.read()))
        except UnknownOption as wrong:
            return _json({"error": str(wrong)}, status=422)
        return _json(self._simulator.defaults)


def _matching(ledger: Iterable[Served], after: int, wanted: dict[str, str]) -> Iterator[Served]:
    for served in ledger:
        if served.number > after and all(
            getattr(served, name) == value for name, value in wanted.items()
        ):
            yield served


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=dump(value), status=status, headers=JSON)
