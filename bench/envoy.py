"""What each part of the two proxies costs: `python -m bench.envoy gateway|egress`.

The rendered configuration runs once as it is and once more for each part that is taken away, all
beside each other in front of one server that answers at once, and a bare proxy with them. Rounds
go through all of them in turn; the median of a variant's rounds is shown, and what it spares.
`--beside` adds the configuration of another checkout.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import httpx
import psutil
from joserfc.jwk import ECKey

from bench.bare_proxy import bare_proxy
from bench.processes import family, read
from deploy.companion.engines.binaries import envoy_program
from deploy.companion.ports import free_port
from shared.tokens import sign_access_token

USERS = 80
CHUNKS, EVERY_SECONDS = 50, 0.01
HERE = Path(__file__).resolve().parent.parent
ISSUER = "https://companion.invalid/auth"

Configuration = dict[str, Any]
Change = Callable[[Configuration], None]
Costs = dict[str, float]  # CPU-µs by what was measured


# --- the server and the client ---------------------------------------------------------------


class Server(asyncio.Protocol):
    """Stands for everything behind a proxy: keys, keyvault, chat, vendor."""

    keys: bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.unread = b""

    def data_received(self, data: bytes) -> None:
        self.unread += data
        while (end := self.unread.find(b"\r\n\r\n")) >= 0:
            head = self.unread[:end].lower()
            length = _length(head)
            if len(self.unread) < end + 4 + length:
                return
            self.unread = self.unread[end + 4 + length :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path.startswith(b"/.well-known/"):
            self._send(self.keys)
        elif path.startswith(b"/internal/"):
            self._send(b"", b"authorization: Bearer bench-key-1\r\n")
        elif b"\r\naccept: text/event-stream" in head:
            self._stream()
        else:
            self._send(b'{"id":"0198","choices":[{"text":"' + b"word " * 60 + b'"}]}', _FIELDS)

    def _send(self, body: bytes, fields: bytes = b"") -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            + fields
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )

    def _stream(self) -> None:
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            + _FIELDS
            + b"transfer-encoding: chunked\r\n\r\n"
        )
        self._event(0)

    def _event(self, number: int) -> None:
        if number == CHUNKS:
            self.transport.write(b"0\r\n\r\n")
            return
        event = b'data: {"id":"0198","delta":{"content":"word"},"number":%4d}\n\n' % number
        self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        asyncio.get_running_loop().call_later(EVERY_SECONDS, self._event, number + 1)


_FIELDS = (
    b"cache-control: no-store\r\nratelimit: minute;r=99;t=60\r\nserver: bench\r\n"
    b"ratelimit-policy: minute;q=100;w=60\r\nx-request-cost: 12\r\n"
)


def _length(head: bytes) -> int:
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


class Client(asyncio.Protocol):
    """One connection that is kept; one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.waiting: asyncio.Future[int] | None = None

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """The status of the answer, once all of it is here."""
        self.got = b""
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.waiting

    def data_received(self, data: bytes) -> None:
        self.got += data
        end = self.got.find(b"\r\n\r\n")
        if end < 0 or self.waiting is None or self.waiting.done():
            return
        head = self.got[:end].lower()
        chunked = b"\r\ntransfer-encoding: chunked" in head
        if (
            self.got.endswith(b"\r\n0\r\n\r\n")
            if chunked
            else len(self.got) >= end + 4 + _length(head)
        ):
            self.waiting.set_result(int(head[9:12]))

    def connection_lost(self, _: Exception | None) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(ConnectionError("closed"))


@dataclass(slots=True)
class Load:
    """Connections to one proxy."""

    port: int
    requests: Iterator[bytes]
    clients: list[Client] = field(default_factory=list)

    async def open(self, number: int) -> list[Client]:
        loop = asyncio.get_running_loop()
        while len(self.clients) < number:
            _, client = await loop.create_connection(Client, "127.0.0.1", self.port)
            self.clients.append(client)
        return self.clients[:number]

    async def in_flight(self, requests: int, at_once: int) -> None:
        left = iter(range(requests))

        async def work(client: Client) -> None:
            for _ in left:
                _good(await client.ask(next(self.requests)))

        await asyncio.gather(*map(work, await self.open(at_once)))

    async def at_rate(self, requests: int, per_second: float) -> None:
        clients = itertools.cycle(await self.open(16))
        began, under_way = time.perf_counter(), []
        for number in range(requests):
            await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            under_way.append(next(clients).ask(next(self.requests)))
        for status in await asyncio.gather(*under_way):
            _good(status)


def _good(status: int) -> None:
    if status != 200:
        raise RuntimeError(f"status {status}")


# --- the proxies -----------------------------------------------------------------------------


def rendered(which: str, checkout: Path, environ: Mapping[str, str]) -> str:
    """The configuration that a checkout makes of these settings."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.envoy.render", which],
        cwd=checkout,
        env=os.environ | environ,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def as_json(configuration: str, folder: Path) -> Configuration:
    """The same configuration as Envoy itself understands it, to take parts away from."""
    with envoy(configuration, folder, "read") as proxy:
        dump = proxy.admin("/config_dump").json()
    return next(c["bootstrap"] for c in dump["configs"] if "bootstrap" in c)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running Envoy."""

    pid: int
    socket: Path

    def admin(self, path: str) -> httpx.Response:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket))) as client:
            return client.get(f"http://admin{path}").raise_for_status()


@contextmanager
def envoy(configuration: str, folder: Path, name: str) -> Iterator[Proxy]:
    """An Envoy with this configuration, for as long as the block lasts."""
    place = folder / name
    place.mkdir()
    path = place / ("envoy.json" if configuration.startswith("{") else "envoy.yaml")
    path.write_text(configuration)
    command = [str(envoy_program()), "--concurrency", "1", "--use-dynamic-base-id"]
    command += ["--log-level", "error", "--file-flush-interval-msec", "1000"]
    with subprocess.Popen(
        [*command, "--config-path", str(path)], cwd=place, stdout=subprocess.DEVNULL
    ) as process:
        proxy = Proxy(process.pid, place / "admin.sock")
        try:
            _wait_for(proxy, process)
            yield proxy
        finally:
            process.terminate()


def _wait_for(proxy: Proxy, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            proxy.admin("/ready")
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("a proxy does not start")


def settings(which: str, server: int) -> dict[str, str]:
    """What the renderer reads; everything behind is the one server."""
    there = f"127.0.0.1:{server}"
    if which == "gateway":
        names = ("AUTH", "AUTH_INTERNAL", "KEYVAULT", "BILLING", "CHAT", "VOICE")
        return {f"GATEWAY_{name}": there for name in names} | {
            "GATEWAY_SHIELD_REQUESTS_PER_SECOND": "1000000",
            "CORS_ORIGINS": "chrome-extension://abcdefghijklmnop",
        }
    vendors = {"OPENAI": "/openai/v1", "ANTHROPIC": "", "GEMINI": "", "ELEVENLABS": ""}
    return {"EGRESS_KEYVAULT": there, "EGRESS_CA_BUNDLE": "/dev/null"} | {
        f"PROVIDER_{name}_URL": f"http://{there}{path}" for name, path in vendors.items()
    }


def request(which: str, token: str, *, stream: bool) -> bytes:
    """What a client sends to the gateway, or chat to the egress."""
    body = json.dumps({"content": "bench " * 20, "stream": stream}).encode()
    accept = "text/event-stream" if stream else "application/json"
    if which == "gateway":
        path = f"/chat/sessions/{uuid4()}/messages"
        own = f"authorization: Bearer {token}\r\naccept-encoding: gzip\r\n"
    else:
        path = "/openai/v1/chat/completions"
        own = f"x-companion-grant: {token}\r\nx-companion-user: {token}\r\n"
        own += f"x-request-id: {uuid4()}\r\ntraceparent: 00-{'ab' * 16}-{'cd' * 8}-01\r\n"
    return (
        f"POST {path} HTTP/1.1\r\nhost: companion.test\r\nuser-agent: bench/1\r\n"
        f"accept: {accept}\r\ncontent-type: application/json\r\n{own}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


# --- what is taken away ----------------------------------------------------------------------


def manager(configuration: Configuration) -> Any:
    """The HTTP connection manager of the first listener."""
    listener = configuration["static_resources"]["listeners"][0]
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def without_filter(*names: str) -> Change:
    def change(configuration: Configuration) -> None:
        here = manager(configuration)
        here["http_filters"] = [
            f for f in here["http_filters"] if f["name"].rpartition(".")[2] not in names
        ]
        full = {f"envoy.filters.http.{name}" for name in names}
        for host in here["route_config"]["virtual_hosts"]:
            for place in (host, *host["routes"]):
                of_filters = place.get("typed_per_filter_config", {})
                for name in full & of_filters.keys():
                    del of_filters[name]

    return change


def without(*fields: str) -> Change:
    """Without these fields of the connection manager."""

    def change(configuration: Configuration) -> None:
        for name in fields:
            manager(configuration).pop(name, None)

    return change


def without_memory(configuration: Configuration) -> None:
    """No token is remembered: each one's signature is checked at each request."""
    for here in manager(configuration)["http_filters"]:
        for provider in here["typed_config"].get("providers", {}).values():
            provider.pop("jwt_cache_config", None)


def one_route(configuration: Configuration) -> None:
    """Only the route that the requests take."""
    (host,) = manager(configuration)["route_config"]["virtual_hosts"]
    taken = [r for r in host["routes"] if r["name"] in ("chat-free", "openai") and "route" in r]
    host["routes"] = [dict(taken[-1], match={"prefix": "/"})]


def without_ambiguity(configuration: Configuration) -> None:
    (host,) = manager(configuration)["route_config"]["virtual_hosts"]
    host["routes"] = [r for r in host["routes"] if r["name"] not in ("nowhere", "no-host")]


def without_host_extras(configuration: Configuration) -> None:
    (host,) = manager(configuration)["route_config"]["virtual_hosts"]
    for name in (
        "retry_policy",
        "response_headers_to_add",
        "response_headers_to_remove",
        "request_headers_to_remove",
    ):
        host.pop(name, None)


def without_idle_timers(configuration: Configuration) -> None:
    manager(configuration).pop("stream_idle_timeout", None)
    manager(configuration)["stream_idle_timeout"] = "0s"
    (host,) = manager(configuration)["route_config"]["virtual_hosts"]
    for route in host["routes"]:
        route.get("route", {}).pop("idle_timeout", None)


def without_cluster_extras(configuration: Configuration) -> None:
    for cluster in configuration["static_resources"]["clusters"]:
        cluster.pop("outlier_detection", None)


def without_stats(configuration: Configuration) -> None:
    configuration["stats_config"] = {"stats_matcher": {"reject_all": True}}


def without_histograms(configuration: Configuration) -> None:
    excluded = [{"suffix": s} for s in ("_time", "_ms", "_length_ms", "_per_cx")]
    configuration["stats_config"] = {"stats_matcher": {"exclusion_list": {"patterns": excluded}}}


def large_buffers(configuration: Configuration) -> None:
    configuration["static_resources"]["listeners"][0].pop("per_connection_buffer_limit_bytes", None)


def first_log_only(configuration: Configuration) -> None:
    here = manager(configuration)
    here["access_log"] = [here["access_log"][0]]
    here["access_log"][0].pop("filter", None)


def bare_ends(configuration: Configuration) -> None:
    """Nothing but the router and one route."""
    keep = {"@type", "stat_prefix", "codec_type", "http_filters", "route_config"}
    here = manager(configuration)
    for name in set(here) - keep:
        del here[name]
    without_filter(
        "cors", "local_ratelimit", "ext_authz", "jwt_authn", "buffer", "set_filter_state"
    )(configuration)
    here["stream_idle_timeout"] = "0s"
    one_route(configuration)
    without_host_extras(configuration)
    without_cluster_extras(configuration)
    (host,) = here["route_config"]["virtual_hosts"]
    host["routes"][0]["route"].pop("idle_timeout", None)


STRIP = "early_header_mutation_extensions"
COMMON: Mapping[str, Change] = {
    "access log": without("access_log"),
    "stripped headers": without(STRIP),
    "own replies": without("local_reply_config"),
    "all routes but one": one_route,
    "headers and retries of the host": without_host_extras,
    "idle timers": without_idle_timers,
    "statistics": without_stats,
    "histograms": without_histograms,
    "buffer limit": large_buffers,
    "all of it": bare_ends,
}
PARTS: Mapping[str, Mapping[str, Change]] = {
    "gateway": {
        "cors": without_filter("cors"),
        "shield": without_filter("local_ratelimit"),
        "personal tokens": without_filter("ext_authz"),
        "token check": without_filter("jwt_authn"),
        "remembered tokens": without_memory,
        "body limit": without_filter("buffer"),
        "two of three access logs": first_log_only,
        "ambiguous paths and hosts": without_ambiguity,
        "request ids": without("generate_request_id", "always_set_request_id_in_response"),
        "outlier detection": without_cluster_extras,
        **COMMON,
    },
    "egress": {
        "key check": without_filter("ext_authz"),
        "kept request id": without_filter("set_filter_state"),
        **COMMON,
    },
}


# --- the measurement -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    pid: int
    calls: Load
    streams: Load


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int
    requests: int
    per_second: float
    streams: int


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.envoy", description=__doc__)
    parser.add_argument("which", choices=sorted(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--requests", type=int, default=2000, help="a round, 16 in flight; 0 for none"
    )
    parser.add_argument("--rate", type=float, default=200, help="a second; 0 for none")
    parser.add_argument("--streams", type=int, default=50, help="a round, all at once; 0 for none")
    parser.add_argument("--beside", type=Path, help="another checkout of this repository")
    parser.add_argument("--only", help="parts to take away, joined by commas; - for none")
    arguments = parser.parse_args()
    plan = Plan(arguments.rounds, arguments.requests, arguments.rate, arguments.streams)
    parts = dict(PARTS[arguments.which])
    if arguments.only:
        parts = {name: parts[name] for name in arguments.only.split(",") if name != "-"}
    with tempfile.TemporaryDirectory(prefix="eb-") as folder:
        asyncio.run(_run(arguments.which, Path(folder), parts, plan, arguments.beside))


async def _run(
    which: str, folder: Path, parts: Mapping[str, Change], plan: Plan, beside: Path | None
) -> None:
    key = ECKey.generate_key("P-256", parameters={"kid": "bench", "alg": "ES256", "use": "sig"})
    Server.keys = json.dumps({"keys": [key.as_dict(private=False)]}).encode()
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tokens = [_token(key) for _ in range(USERS)]
    with ExitStack() as stack:
        variants = await asyncio.to_thread(
            _variants, stack, which, port, folder, parts, tokens, beside
        )
        _separate([v.pid for v in variants])
        print(await _measured(variants, plan))


def _token(key: ECKey) -> str:
    now = int(time.time())
    claims: dict[str, object] = {
        "iss": ISSUER,
        "aud": "companion",
        "sub": str(uuid4()),
        "sid": str(uuid4()),
        "jti": str(uuid4()),
        "tier": "free",
        "role": "member",
        "org": None,
        "scope": "chat keys",
        "auth_time": now,
        "amr": ["pwd"],
    }
    return sign_access_token(key, claims, issued_at=now, lifetime_seconds=1200)


def _variants(
    stack: ExitStack,
    which: str,
    server: int,
    folder: Path,
    parts: Mapping[str, Change],
    tokens: Sequence[str],
    beside: Path | None,
) -> list[Variant]:
    def variant(name: str, pid: int, port: int) -> Variant:
        calls, streams = (
            itertools.cycle([request(which, token, stream=stream) for token in tokens])
            for stream in (False, True)
        )
        return Variant(name, pid, Load(port, calls), Load(port, streams))

    def started(name: str, configuration: Configuration, place: str) -> Variant:
        port = free_port()
        changed = copy.deepcopy(configuration)
        listener = changed["static_resources"]["listeners"][0]
        listener["address"]["socket_address"]["port_value"] = port
        changed["admin"] = {"address": {"pipe": {"path": str(folder / place / "admin.sock")}}}
        proxy = stack.enter_context(envoy(json.dumps(changed), folder, place))
        return variant(name, proxy.pid, port)

    def configured(checkout: Path) -> Configuration:
        prefix = which.upper()
        own = {
            f"{prefix}_LISTEN": f"127.0.0.1:{free_port()}",
            f"{prefix}_ADMIN": str(folder / "read" / "admin.sock"),
            f"{prefix}_ACCESS_LOG": str(folder / "access.log"),
        }
        text = rendered(which, checkout, settings(which, server) | own)
        read = as_json(text, folder)
        (folder / "read").rename(folder / f"read-{uuid4().hex[:6]}")
        return read

    bare = stack.enter_context(bare_proxy(server))
    found = [variant("a bare proxy", bare.pid, int(bare.url.rpartition(":")[2]))]
    whole = configured(HERE)
    found.append(started("as it is", whole, "0"))
    if beside is not None:
        found.append(started("beside", configured(beside), "b"))
    for number, (name, change) in enumerate(parts.items(), 1):
        changed = copy.deepcopy(whole)
        change(changed)
        found.append(started(f"without {name}", changed, str(number)))
    return found


def _separate(pids: Sequence[int]) -> None:
    """The proxies on one core, server and client on another, if there are two."""
    cores = psutil.Process().cpu_affinity() or []
    if len(cores) < 2:
        return
    psutil.Process().cpu_affinity(cores[1:])
    for pid in pids:
        for thread in psutil.Process(pid).threads():
            psutil.Process(thread.id).cpu_affinity(cores[:1])


async def _measured(variants: Sequence[Variant], plan: Plan) -> str:
    for variant in variants:
        await variant.calls.in_flight(200, 16)
    spent: dict[str, list[Costs]] = {v.name: [] for v in variants}
    for number in range(plan.rounds):
        turns = variants if number % 2 == 0 else list(reversed(variants))
        for variant in turns:
            spent[variant.name].append(await _one_round(variant, plan))
    return _report(spent)


async def _one_round(variant: Variant, plan: Plan) -> Costs:
    pids, costs = family(variant.pid), {}

    async def measure(name: str, work: Awaitable[None], divisor: float) -> None:
        before = read(pids).cpu_seconds
        await work
        costs[name] = (read(pids).cpu_seconds - before) * 1e6 / divisor

    calls, streams = variant.calls, variant.streams
    if steady := int(plan.per_second):
        work = calls.at_rate(steady, plan.per_second)
        await measure(f"a request, {steady} a second", work, steady)
    if plan.requests:
        work = calls.in_flight(plan.requests, 16)
        await measure("a request, 16 in flight", work, plan.requests)
    if plan.streams:
        work = streams.in_flight(plan.streams, plan.streams)
        await measure(f"a chunk, {plan.streams} streams", work, plan.streams * CHUNKS)
    return costs


def _report(spent: Mapping[str, Sequence[Costs]]) -> str:
    """Medians, and the median of a variant's differences from the whole, round by round."""
    whole = spent["as it is"]
    ways = list(whole[0])
    lines = [f"| CPU-µs | {' | '.join(f'{way} | spared' for way in ways)} |"]
    lines.append("|---" * (1 + 2 * len(ways)) + "|")
    for name, rounds in spent.items():
        cells = [name]
        for way in ways:
            pairs = [(w[way], r[way]) for w, r in zip(whole, rounds, strict=True)]
            cells.append(f"{median(mine for _, mine in pairs):.1f}")
            cells.append(f"{median(all_of_it - mine for all_of_it, mine in pairs):.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
