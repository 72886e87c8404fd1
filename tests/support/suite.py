"""The whole suite as a person runs it: `companion up` in a directory of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import psycopg2

from deploy.companion.installation import Installation
from deploy.companion.ports import free_port
from deploy.companion.running import Running
from deploy.companion.settings import ROOT, Settings
from shared.settings import service_database_url
from tests.support.simulator.process import RunningSimulator

T = TypeVar("T")

READY_SECONDS = 120


@dataclass
class Suite:
    """A running suite: its gateway, its processes, its databases and its vendors."""

    installation: Installation
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def running(self) -> Running:
        return Running.require(self.installation)

    @cached_property
    def simulator(self) -> RunningSimulator:
        return RunningSimulator(self.installation.addresses().of("simulator"))

    def internal_url(self, service: str) -> str:
        """The port of a service that the gateway does not know."""
        return f"http://127.0.0.1:{self.installation.ports()[f'{service}-internal']}"

    def rows(self, service: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What stands in a service's database."""
        url = service_database_url(self.installation.addresses().database_url, service)
        connection = psycopg2.connect(url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                return cursor.fetchall()
        finally:
            connection.close()

    def command(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`companion …`, as an operator of this suite calls it."""
        settings = self.installation.settings
        return subprocess.run(
            [sys.executable, "-m", "deploy.companion", *words],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "COMPANION_DATA_DIR": str(settings.data_dir),
                "PORT": str(settings.port),
                "SANDBOX": "1",
                **environment,
            },
            capture_output=True,
            text=True,
        )

    def kill(self, name: str) -> int:
        """`kill -9` a process; answers the id that died."""
        pid = self.running.pid_of(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def log(self, name: str) -> str:
        return self.installation.data.log(name).read_text(errors="replace")

    def stop(self) -> int:
        """Ctrl-C; answers the exit code."""
        if "simulator" in self.__dict__:
            self.simulator.close()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@contextmanager
def running_suite(directory: Path, **environment: str) -> Iterator[Suite]:
    """A suite with simulated vendors, stopped at the end."""
    suite = _ready_suite(directory, environment)
    try:
        yield suite
    finally:
        if suite.process.poll() is None:
            suite.stop()


def _ready_suite(directory: Path, environment: Mapping[str, str]) -> Suite:
    tries_left = 3
    while True:
        suite, tries_left = _started(directory, environment), tries_left - 1
        try:
            _wait_until_ready(suite)
            return suite
        except BaseException as error:
            if suite.process.poll() is None:
                suite.stop()
            # Another process may have been given a port between its choice and its use.
            is_taken = "is taken by" in suite.output.read_text()
            if not (is_taken and tries_left and isinstance(error, AssertionError)):
                raise


def _started(directory: Path, environment: Mapping[str, str]) -> Suite:
    variables = {
        **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")},
        "COMPANION_DATA_DIR": str(directory / "data"),
        "PORT": str(free_port()),
        "SANDBOX": "1",
        # Tests sign in often; what the hash costs is tested elsewhere.
        "GATEWAY_SHIELD_REQUESTS_PER_SECOND": "5000",
        # And all open accounts from one address.
        "AUTH_REGISTRATIONS_NETWORK": "1000000",
        "AUTH_RESETS_NETWORK": "1000000",
        **environment,
    }
    output = directory / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.companion", "up"],
            cwd=ROOT,
            env=variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Suite(Installation.open(Settings.from_environment(variables)), process, output)


def _wait_until_ready(suite: Suite) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if suite.process.poll() is not None:
            break
        running = Running.find(suite.installation)
        if running is not None and running.ready_after_seconds is not None:
            return
        time.sleep(0.1)
    raise AssertionError(f"the suite did not start:\n{suite.output.read_text()}")


@dataclass
class Person:
    """A user of the gateway."""

    suite: Suite
    client: httpx.AsyncClient
    name: str = field(default_factory=lambda: f"u{uuid4().hex[:12]}")
    password: str = field(default_factory=lambda: f"phrase {uuid4().hex}")
    id: str = ""
    refresh_token: str = ""
    session_id: str = ""
    api_key: str = ""

    async def register(self) -> None:
        answer = await self.client.post(
            "/auth/register",
            json={
                "email": f"{self.name}@example.com",
                "username": self.name,
                "password": self.password,
            },
        )
        assert answer.status_code == 201, answer.text
        await self.sign_in()

    async def sign_in(self) -> None:
        answer = await self.client.post(
            "/auth/login", json={"login": self.name, "password": self.password}
        )
        assert answer.status_code == 200, answer.text
        self._signed_in(answer.json())

    async def refresh(self) -> dict[str, Any]:
        answer = await self.client.post("/auth/refresh", json={"refresh_token": self.refresh_token})
        assert answer.status_code == 200, answer.text
        self._signed_in(answer.json())
        user: dict[str, Any] = answer.json()["user"]
        return user

    def _signed_in(self, body: Mapping[str, Any]) -> None:
        self.id, self.refresh_token = body["user"]["id"], body["refresh_token"]
        self.client.headers["authorization"] = f"Bearer {body['access_token']}"

    async def become(self, tier: str) -> None:
        """Change the tier and take a token that knows it."""
        answer = await self.client.put("/billing/subscription", json={"tier": tier})
        assert answer.status_code == 200, answer.text

        async def tier_of_a_new_token() -> str:
            return str((await self.refresh())["tier"])

        await eventually(tier_of_a_new_token, lambda seen: seen == tier)

    async def store_key(self, provider: str = "openai", key: str = "") -> dict[str, Any]:
        """Store a key and wait for the vendor's word on it."""
        self.api_key = key or f"marked-key-{uuid4().hex}"
        answer = await self.client.put(f"/keys/{provider}", json={"api_key": self.api_key})
        assert answer.status_code == 202, answer.text

        async def stored() -> dict[str, Any]:
            return dict((await self.client.get(f"/keys/{provider}")).json())

        return await eventually(stored, lambda key: key["status"] != "pending")

    async def start_session(self) -> None:
        answer = await self.client.post("/chat/sessions", json={})
        assert answer.status_code == 201, answer.text
        self.session_id = answer.json()["id"]

    async def ask(self, content: str, **parts: Any) -> httpx.Response:
        return await self.client.post(
            f"/chat/sessions/{self.session_id}/messages", json={"content": content, **parts}
        )

    async def usage(self) -> dict[str, Any]:
        answer = await self.client.get("/billing/usage")
        assert answer.status_code == 200, answer.text
        totals: dict[str, Any] = answer.json()["totals"]
        return totals


def a_person(suite: Suite) -> Person:
    """A person who has not registered yet. Close `client` at the end."""
    client = httpx.AsyncClient(base_url=suite.url, timeout=30, trust_env=False)
    return Person(suite, client)


async def eventually(
    look: Callable[[], Awaitable[T]], true: Callable[[T], bool], seconds: float = 30
) -> T:
    """Look until it is true; fails with what was seen last."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await look()
        if true(seen):
            return seen
        assert time.monotonic() < deadline, f"never came true; seen last: {seen}"
        await asyncio.sleep(0.05)
