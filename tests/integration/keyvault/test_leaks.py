"""The leak hunt: marked keys go through every door and every failure; then we look for them."""

from __future__ import annotations

import json
import logging
import secrets
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from deploy.companion.engines.binaries import postgres_programs
from services.keyvault.storage.key_uses import SqlKeyUses
from shared.db.database import Database
from tests.integration.keyvault.harness import SECRET, Keyvault, Surroundings, a_user
from tests.integration.keyvault.misplaced import MISPLACED
from tests.integration.keyvault.workers import VENDORS, Worker, working
from tests.support.engines import PostgresServer, ValkeyServer
from tests.support.simulator.process import running_simulator

# Of no shape that redaction would know: what hides these is that nobody writes them down.
MARKS = ("good", "invalid", "limited", "noquota", "unreachable", "unreachable-reset")


@dataclass
class Hunt:
    """The marked keys, and everything that was said while they were in use."""

    marked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def new_key(self, mark: str = "good") -> str:
        key = f"sim-{mark}-{secrets.token_hex(16)}"
        self.marked.append(key)
        return key

    def hear(self, answer: Any) -> Any:
        self.said.append(f"{answer.status_code} {answer.headers!r} {answer.text}")
        return answer

    def traces_in(self, content: bytes) -> list[str]:
        """The keys that the content holds in one form or another."""
        return [key for key in self.marked if any(form in content for form in forms_of(key))]


def forms_of(key: str) -> list[bytes]:
    # Without the last four characters: those are the hint.
    told = key[:-4].encode()
    return [told, told.hex().encode(), b64encode(told)[:-4], quote(told).encode(), told[::-1]]


class Listening(logging.Handler):
    """Hears every record of every logger, as it was made and as it is written."""

    def __init__(self, hunt: Hunt, formatter: logging.Formatter | None) -> None:
        super().__init__(logging.NOTSET)
        self._hunt = hunt
        self._written = formatter or logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        # The tests' own client writes down where it goes, as a user's would.
        if record.name == "httpx" and "http://keyvault/" in record.getMessage():
            return
        self._hunt.said.append(repr(vars(record)))
        self._hunt.said.append(self._written.format(record))


@pytest.fixture
def hunt() -> Iterator[Hunt]:
    hunt = Hunt(marked=[SECRET])
    yield hunt


@pytest.fixture
async def worker(
    hunt: Hunt, around: Surroundings, keyvault: Keyvault, valkey_server: ValkeyServer
) -> AsyncIterator[Worker]:
    with running_simulator() as simulator, valkey_server.fresh_database() as broker_url:
        urls = {name: getattr(simulator, name) for name in VENDORS}
        async with working(
            replace(around, broker_url=broker_url, provider_urls=urls), log_level="debug"
        ) as worker:
            root = logging.getLogger()
            levels = {name: logging.getLogger(name).level for name in _loggers()}
            for name in levels:
                logging.getLogger(name).setLevel(logging.DEBUG)
            listening = Listening(hunt, root.handlers[0].formatter)
            root.addHandler(listening)
            yield worker
            root.removeHandler(listening)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _loggers() -> list[str]:
    return ["", *logging.Logger.manager.loggerDict]


async def test_the_hunt_finds_what_is_there(hunt: Hunt, worker: Worker) -> None:
    key = hunt.new_key()
    logging.getLogger("somewhere.deep").debug("a slip: %s", key)
    assert key in hunt.traces_in("\n".join(hunt.said).encode())
    for slip in (key.encode(), key.encode().hex().encode(), b64encode(key.encode())):
        assert hunt.traces_in(b"... " + slip + b" ...") == [key]


@pytest.mark.slow
async def test_no_key_is_ever_found_outside(
    hunt: Hunt,
    worker: Worker,
    database: Database,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    await store_use_and_validate(hunt, worker)
    await send_keys_to_where_none_belongs(hunt, worker)
    await break_things(hunt, worker, database, monkeypatch)
    assert len(hunt.marked) > 25
    assert len(hunt.said) > 200

    assert hunt.traces_in("\n".join(hunt.said).encode()) == []
    printed = capfd.readouterr()
    assert hunt.traces_in((printed.out + printed.err).encode()) == []
    metrics = await worker.keyvault.internal.get("/metrics")
    assert hunt.traces_in(metrics.content) == []
    assert hunt.traces_in(await every_row(database)) == []
    assert hunt.traces_in(dump(postgres_server)) == []
    assert hunt.traces_in(broker(worker.broker_url)) == []
    # A commit that waits for the disk takes everything before it to the write-ahead log.
    await database.execute("set local synchronous_commit = on; update inbox set handled_at = now()")
    contents = {path: path.read_bytes() for path in files_of(postgres_server)}
    assert any(b"key.validation_requested" in content for content in contents.values())
    assert {path: found for path in contents if (found := hunt.traces_in(contents[path]))} == {}


async def store_use_and_validate(hunt: Hunt, worker: Worker) -> None:
    """Every vendor with every kind of key, through every route."""
    keyvault, mint = worker.keyvault, worker.keyvault.around.mint
    for provider in VENDORS:
        for mark in MARKS:
            user = a_user()
            hunt.hear(await keyvault.put(user, hunt.new_key(mark), provider=provider))
            await worker.work()
            hunt.said.append(json.dumps(await worker.told()))
            for method, path in (
                ("GET", "/keys"),
                ("GET", f"/keys/{provider}"),
                ("GET", "/keys/audit"),
                ("POST", f"/keys/{provider}/validate"),
            ):
                hunt.hear(await keyvault.public.request(method, path, headers=mint.headers(user)))
            service = "voice" if provider == "elevenlabs" else "chat"
            # The one answer that must carry the key; it goes to the proxy alone.
            await keyvault.egress(user, f"{provider}/v1/x", provider=provider, service=service)
            hunt.hear(await keyvault.egress(user, f"{provider}/v1/x", service="billing"))
            hunt.hear(await keyvault.public.delete(f"/keys/{provider}", headers=mint.headers(user)))
    await worker.work()


async def send_keys_to_where_none_belongs(hunt: Hunt, worker: Worker) -> None:
    """Bodies off their schema, paths, queries, headers."""
    keyvault, mint = worker.keyvault, worker.keyvault.around.mint
    headers = mint.headers(a_user())
    for _, body, _ in MISPLACED:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        hunt.hear(
            await keyvault.public.put(
                "/keys/openai",
                content=content,
                headers={**headers, "content-type": "application/json"},
            )
        )
    key = hunt.new_key()
    for client in (keyvault.public, keyvault.internal):
        for method in ("GET", "PUT", "POST", "DELETE", "PATCH"):
            for path in (f"/keys/{key}", f"/keys/openai?key={key}", f"/{key}"):
                hunt.hear(await client.request(method, path, headers=headers))
    for named in ("x-request-id", "traceparent", "authorization", "x-companion-user"):
        sent = {**keyvault.proofs(a_user()), **headers, named: f"{key} {key}"}
        hunt.hear(await keyvault.public.get("/keys", headers=sent))
        hunt.hear(await keyvault.internal.post("/internal/egress/openai/v1/x", headers=sent))


async def break_things(
    hunt: Hunt, worker: Worker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken seal, a bug, a database that fails, a vault that is sealed."""
    keyvault, user = worker.keyvault, a_user()
    hunt.hear(await keyvault.put(user, hunt.new_key()))
    await database.execute(
        "update provider_key set envelope = set_byte(envelope, 40, get_byte(envelope, 40) # 1) "
        "where owner_id = $1",
        user,
    )
    assert hunt.hear(await keyvault.egress(user)).status_code == 500
    await worker.work()  # the worker can't open it either, and buries the request

    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(SqlKeyUses, "note", fail)
        assert hunt.hear(await keyvault.egress(user)).status_code == 500
    await database.execute("alter table provider_key rename to elsewhere")
    try:
        for _ in range(2):
            assert hunt.hear(await keyvault.put(a_user(), hunt.new_key())).status_code == 500
            hunt.hear(await keyvault.egress(user))
    finally:
        await database.execute("alter table elsewhere rename to provider_key")
    vault = worker.wired.actions.use_key.vault
    vault.seal("for the test")
    hunt.hear(await keyvault.put(a_user(), hunt.new_key()))
    await worker.work()


async def every_row(database: Database) -> bytes:
    """All tables as text; bytes appear in hexadecimal."""
    names = await database.fetch(
        "select table_name as name from information_schema.tables where table_schema = 'public'"
    )
    rows = [
        row["line"]
        for table in names
        for row in await database.fetch(f"select t::text as line from {table['name']} t")
    ]
    assert any("key.validation_requested" in row for row in rows)
    return "\n".join(rows).encode()


def dump(server: PostgresServer) -> bytes:
    """What a backup of the database holds."""
    program = postgres_programs() / "pg_dump"
    url = server.url_of("companion_keyvault")
    return subprocess.run([program, url], capture_output=True, check=True).stdout


def files_of(server: PostgresServer) -> Iterator[Path]:
    """The server's data, its write-ahead log and its own log."""
    yield server.child.log
    for path in server.engine.data.rglob("*"):
        if path.is_file() and path.suffix != ".pid":
            yield path


def broker(url: str) -> bytes:
    """Everything that the broker holds."""
    with redis.Redis.from_url(url) as client:
        return b"\n".join(name + (client.dump(name) or b"") for name in client.scan_iter())
