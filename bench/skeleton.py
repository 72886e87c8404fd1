"""What a turn would cost with nothing in it: the same hops and the same waits, and no work.

Two bare proxies, two services of a page each on the same server, driver and clients, the suite's
own PostgreSQL and Valkey. One read, a place by two counters, a commit for a hold and one for the
use of a key beside it, the vendor's call, a commit for what came of it. No token is checked, no
rule looked at, nothing composed, counted, priced, logged or told to billing. So it tells about the
least that a turn with these hops can cost on this machine; its statements are not shared in a
crowd, as a turn's are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template

import httpx
import psutil
import psycopg2

from bench.load import Call, json_call
from bench.processes import OURS
from deploy.companion.engines.binaries import envoy_program
from deploy.companion.ports import free_port
from shared.values import dataclass
from tests.support.suite import Suite

_HERE = Path(__file__)
_EGRESS = Template(_HERE.with_name("skeleton_egress.yaml").read_text())
_GATEWAY = Template(_HERE.with_name("bare_proxy.yaml").read_text())
_READY_WITHIN_SECONDS = 20.0
_TABLES = """
    create table skeleton_session (id integer primary key, content text);
    insert into skeleton_session values (1, repeat('x', 900));
    create table skeleton_hold (id bigint generated always as identity primary key, content text);
    create table skeleton_message (like skeleton_hold including all);
    create table skeleton_use (like skeleton_hold including all);
"""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A running one."""

    url: str
    pids: Mapping[str, int]

    def call(self, body: Mapping[str, object]) -> Call:
        """A turn of it."""
        return json_call(self.url, body, "nobody")


@contextmanager
def skeleton(suite: Suite) -> Iterator[Skeleton]:
    """Run it beside the suite for as long as the block lasts. Raises RuntimeError when it does not
    come up."""
    dsn = f"{suite.installation.postgres().superuser_url}/postgres"
    _make_tables(dsn)
    ports = {name: free_port() for name in ("gateway", "chat", "egress", "keyvault")}
    told = {
        "SKELETON_DSN": dsn,
        "SKELETON_CACHE": _cache_url(suite),
        "SKELETON_EGRESS": str(ports["egress"]),
    }
    vendor = suite.installation.ports()["simulator"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateway = _GATEWAY.substitute(PORT=ports["gateway"], VENDOR_PORT=ports["chat"])
        egress = _EGRESS.substitute(PORT=ports["egress"], KEYVAULT=ports["keyvault"], VENDOR=vendor)
        pids = {
            name: stack.enter_context(_service(name, {**told, "SKELETON_PORT": str(ports[name])}))
            for name in ("chat", "keyvault")
        }
        for name, configuration in (("gateway", gateway), ("egress", egress)):
            path = folder / f"{name}.yaml"
            path.write_text(configuration)
            pids[name] = stack.enter_context(_envoy(path))
        made = Skeleton(f"http://127.0.0.1:{ports['gateway']}/", pids)
        _wait_for(made)
        yield made


def _make_tables(dsn: str) -> None:
    connection = psycopg2.connect(dsn)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(_TABLES)
    finally:
        connection.close()


def _cache_url(suite: Suite) -> str:
    (chat,) = [row.pid for row in suite.running.processes() if row.name == "chat"]
    return psutil.Process(chat).environ()["CACHE_URL"]


@contextmanager
def _service(name: str, told: Mapping[str, str]) -> Iterator[int]:
    command = [sys.executable, "-m", "bench.skeleton_service", name]
    with _ended(subprocess.Popen(command, cwd=OURS, env=os.environ | dict(told))) as pid:
        yield pid


@contextmanager
def _envoy(configuration: Path) -> Iterator[int]:
    command = [str(envoy_program()), "--concurrency", "1", "--use-dynamic-base-id"]
    command += ["--log-level", "error", "--config-path", str(configuration)]
    with _ended(subprocess.Popen(command, cwd=configuration.parent)) as pid:
        yield pid


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[int]:
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(made: Skeleton) -> None:
    call = made.call({"content": "bench"})
    deadline = time.monotonic() + _READY_WITHIN_SECONDS
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(
                call.url, content=call.body, headers=dict(call.headers), trust_env=False
            )
        except httpx.HTTPError:
            answer = None
        if answer is not None and answer.status_code == 200:
            return
        time.sleep(0.05)
    raise RuntimeError("the skeleton does not answer")
