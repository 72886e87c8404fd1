"""How fast usage gets into the ledger, and out as a total: `python -m bench.ledger [PART …]`.

intake   usage events a second: a bare set-based insert of the same rows, the action alone, a whole
         message (unpacked, hashed, read, recorded), and through Valkey and a worker of billing,
         whose linking of the chain runs beside it. As many at once as the worker has processes.
         A relay packs up to 500 events; what another number would save, `--batch` shows.
linking  links a second, with the sums by hour and day.
month    the total of a month for a user with many rows of the ledger, from the hours.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import structlog
import uvloop

from bench.ledger_month import FilledMonth
from bench.processes import Meter
from services.billing.actions.link_ledger import LinkLedger
from services.billing.actions.record_usage import RecordUsage
from services.billing.actions.report_usage import ReportUsage
from services.billing.domain.ledger import Entry
from services.billing.domain.price_book import PriceBook
from services.billing.domain.usage_columns import UsageColumns
from services.billing.providers.list_prices import PublicPrices
from services.billing.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.db.database import Database, open_database
from shared.db.migrations import upgrade
from shared.events import Fact
from shared.events.usage import UsageRecorded
from shared.ids import UserId
from shared.messaging import batch as batches
from shared.messaging import packed
from shared.messaging.consumer import Consumer
from shared.messaging.publisher import Publisher
from shared.messaging.queues import declare_queues
from shared.settings import service_database_url
from tests.support.billing import EPOCH, a_usage
from tests.support.engines import (
    PostgresServer,
    running_postgres,
    running_rabbitmq,
    running_valkey,
)
from tests.support.tokens import write_identities

MODELS = (
    ("openai", "gpt-6-luna"),
    ("openai", "gpt-6.1-sol"),
    ("anthropic", "claude-sonnet-5-5"),
    ("gemini", "gemini-3.8-flash"),
)
Batch = list[Fact[UsageRecorded]]
# Of each process of a worker.
_FIRST_ONES = 3


def main() -> None:
    """Run the parts that were asked for, or all, and print their tables."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=20_000, help="a round of the intake")
    parser.add_argument("--batch", type=int, default=500, help="events in a message")
    parser.add_argument("--rows", type=int, default=100_000, help="of the user of the month")
    parser.add_argument("--workers", type=int, default=2, help="processes of billing's worker")
    parser.add_argument("--rabbitmq", action="store_true", help="as broker, in place of Valkey")
    parser.add_argument("--hasty", action="store_true", help="a PostgreSQL that waits for no disk")
    arguments = parser.parse_args()
    for name in arguments.parts or PARTS:
        # As in a worker.
        print(uvloop.run(PARTS[name](arguments)))


def _batches(arguments: argparse.Namespace, users: Sequence[UUID]) -> list[Batch]:
    now, epoch = datetime.now(UTC), uuid4()
    facts = []
    for number in range(arguments.events):
        provider, model = MODELS[number % len(MODELS)]
        user = users[number % len(users)]
        facts.append(
            a_usage(
                user=user, provider=provider, model=model, at=now, epoch=epoch, sequence=number + 1
            )
        )
    starts = range(0, arguments.events, arguments.batch)
    return [facts[start : start + arguments.batch] for start in starts]


async def intake(arguments: argparse.Namespace) -> str:
    """Events a second, each way in the same round."""
    found: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    users = [uuid4() for _ in range(1000)]
    async with _bench_database(hasty=arguments.hasty) as bench:
        ways = _Ways(bench.database)
        await bench.database.execute("create table bare_entry (like ledger_entry including all)")
        # All connections are there before their processes' time is counted.
        at_once = range(arguments.workers)
        await asyncio.gather(*(bench.database.execute("select pg_sleep(0.1)") for _ in at_once))
        with (
            running_valkey(bench.folder) as valkey,
            valkey.fresh_database() as cache_url,
            _broker(bench.folder, cache_url, rabbitmq=arguments.rabbitmq) as broker_url,
        ):
            urls = _Urls(cache_url, broker_url)
            declare_queues(ways.listen, broker_url)
            for number in range(arguments.rounds):
                print(f"round {number + 1} of {arguments.rounds} ...", file=sys.stderr)
                for name, prepare in ways.all.items():
                    work = [prepare(batch) for batch in _batches(arguments, users)]
                    meter = Meter({"client": os.getpid(), "server": bench.server.child.pid})
                    seconds = await _timed(work, arguments.workers)
                    found.setdefault(name, []).append(arguments.events / seconds)
                    spent = sum(meter.spent().values()) / arguments.events * 1e6
                    cpu.setdefault(name, []).append(spent)
                await ways.link()
                name = "broker, worker, ledger"
                rate, spent = await _through_broker(bench, urls, arguments, users)
                found.setdefault(name, []).append(rate)
                cpu.setdefault(name, []).append(spent)
                await ways.link()
    bare = median(found["bare insert"])
    return _table(
        [
            f"{arguments.events} events, batches of {arguments.batch}",
            "events/s",
            "slowest",
            "of bare",
            "CPU µs",
        ],
        [
            [
                name,
                f"{median(rates):.0f}",
                f"{min(rates):.0f}",
                f"{median(rates) / bare:.2f}",
                f"{median(cpu[name]):.0f}",
            ]
            for name, rates in found.items()
        ],
    )


async def linking(arguments: argparse.Namespace) -> str:
    """Links a second over what the intake left."""
    users = [uuid4() for _ in range(1000)]
    rates = []
    async with _bench_database(hasty=arguments.hasty) as bench:
        ways = _Ways(bench.database)
        for _ in range(arguments.rounds):
            for batch in _batches(arguments, users):
                await ways.record(batch)
            began = time.perf_counter()
            linked = await ways.link()
            rates.append(linked / (time.perf_counter() - began))
    return _table(
        ["linking", "links/s", "slowest"], [["", f"{median(rates):.0f}", f"{min(rates):.0f}"]]
    )


async def month(arguments: argparse.Namespace) -> str:
    """Milliseconds of a month's total for who has that many rows in it."""
    user, filled = UserId(uuid4()), FilledMonth.before(datetime.now(UTC))
    async with _bench_database(hasty=arguments.hasty) as bench:
        began = time.perf_counter()
        await filled.fill(bench.database, user, arguments.rows)
        print(f"filled in {time.perf_counter() - began:.0f} s ...", file=sys.stderr)
        work = lambda: SqlWork(bench.database)  # noqa: E731
        report = ReportUsage(work, LinkLedger(work), SystemClock())
        meter = Meter({"client": os.getpid(), "server": bench.server.child.pid})
        times = []
        for _ in range(arguments.rounds * 5):
            began = time.perf_counter()
            found = await report(
                user, begins=filled.begins, ends=filled.ends, dimensions=(), sandbox=None
            )
            times.append((time.perf_counter() - began) * 1000)
            assert found.totals.requests == arguments.rows
        cpu = sum(meter.spent().values()) / len(times) * 1000
    return _table(
        ["rows of the user", "month's total, p50 ms", "slowest ms", "CPU ms"],
        [[str(arguments.rows), f"{median(times):.1f}", f"{max(times):.1f}", f"{cpu:.1f}"]],
    )


class _Urls(NamedTuple):
    cache: str
    broker: str


@contextlib.contextmanager
def _broker(folder: Path, valkey_url: str, *, rabbitmq: bool) -> Iterator[str]:
    if not rabbitmq:
        yield valkey_url
        return
    with running_rabbitmq(folder) as server:
        yield server.url


@dataclass
class _Bench:
    server: PostgresServer
    database: Database
    folder: Path


class _Ways:
    """The same events by ways of different length; each prepares a batch and answers its work."""

    def __init__(self, database: Database) -> None:
        from services.billing.tasks import listen

        self.listen = listen
        self._database = database
        self._prices = PublicPrices()
        self.record = RecordUsage(lambda: SqlWork(database), self._prices)
        self.link = LinkLedger(lambda: SqlWork(database))
        # What the consumer asks its handler for is the one verb that is measured.
        self.record_usage = self.record
        self._consumer = Consumer(listen, self, database)
        self.all = {"bare insert": self._bare, "action": self._action, "message": self._message}

    def _bare(self, batch: Batch) -> Callable[[], Awaitable[object]]:
        from services.billing.storage.ledger_columns import FACTS  # the same columns

        usage = UsageColumns.of([Entry.reported(fact) for fact in batch])
        rated = usage.rated(PriceBook.of(self._prices, ()))
        columns = [_values(kind, getattr(rated, name)) for name, kind in FACTS.items()]
        names = ", ".join(FACTS)
        arrays = ", ".join(f"${i}::{kind}[]" for i, kind in enumerate(FACTS.values(), 1))
        sql = (
            f"insert into bare_entry ({names}, pricing_status, rated_at)"
            f" select *, 'rated', now() from unnest({arrays})"
        )
        return lambda: self._database.execute(sql, *columns)

    def _action(self, batch: Batch) -> Callable[[], Awaitable[object]]:
        return lambda: self.record(batch)

    def _message(self, batch: Batch) -> Callable[[], Awaitable[object]]:
        wire = batches.to_wire("chat", EPOCH, [fact.to_wire() for fact in batch])
        body = packed.pack(batches.body_of([[], {"batch": wire}, {}]))
        return lambda: self._consumer.receive_unread(UsageRecorded.type, body)


def _values(kind: str, column: Sequence[Any]) -> list[Any]:
    """A column as who has no text of it would hand it to the driver."""
    if kind == "uuid":
        return [None if value is None else UUID(value) for value in column]
    if kind == "timestamptz":
        return [datetime.fromisoformat(value) for value in column]
    return list(column)


async def _timed(work: Sequence[Callable[[], Awaitable[object]]], at_once: int) -> float:
    waiting = iter(work)
    # As in a worker, where no later batch lies about yet for the collector to walk through.
    gc.collect()
    gc.freeze()

    async def consume() -> None:
        for do in waiting:
            await do()

    began = time.perf_counter()
    await asyncio.gather(*(consume() for _ in range(at_once)))
    return time.perf_counter() - began


async def _through_broker(
    bench: _Bench, urls: _Urls, arguments: argparse.Namespace, users: Sequence[UUID]
) -> tuple[float, float]:
    """Publish everything first, then let a worker at it: how many it takes a second, its start left
    out, and the processor's microseconds for each in worker and server, its linking with them."""
    publisher = Publisher(urls.broker)
    # The first batches are not counted: each process reads the table of prices with its first one.
    first_ones = _FIRST_ONES * arguments.workers * arguments.batch
    counted_and_first = argparse.Namespace(
        **{**vars(arguments), "events": arguments.events + first_ones}
    )
    for batch in _batches(counted_and_first, users):
        wire = batches.to_wire("chat", EPOCH, [fact.to_wire() for fact in batch])
        publisher.send("usage.recorded.free", UsageRecorded.type, wire, routed=True)
    publisher.close()
    before = await _rows(bench.database)
    with _worker(bench, urls, arguments.workers) as pid:
        while (first := await _rows(bench.database)) < before + first_ones:
            await asyncio.sleep(0.005)
        meter = Meter({"worker": pid, "server": bench.server.child.pid})
        began, done = time.perf_counter(), before + first_ones + arguments.events
        while await _rows(bench.database) < done:
            await asyncio.sleep(0.02)
        seconds = time.perf_counter() - began
        cpu = sum(meter.spent().values()) / (done - first) * 1e6
        return (done - first) / seconds, cpu


async def _rows(database: Database) -> int:
    # The numbers that have come, which change with the rows: counting those would cost as much
    # as what is measured.
    row = await database.fetchrow(
        "select coalesce(sum(upper(r) - lower(r)), 0)::bigint as n"
        " from usage_stream, unnest(received) as r"
    )
    assert row is not None
    return int(row["n"])


@contextlib.contextmanager
def _worker(bench: _Bench, urls: _Urls, processes: int) -> Iterator[int]:
    identities = bench.folder / "identities"
    if not identities.exists():
        identities.mkdir()
        write_identities(identities)
    environment = {
        **os.environ,
        "DATABASE_URL": bench.server.url,
        "CACHE_URL": urls.cache,
        "BROKER_URL": urls.broker,
        "JWKS_URL": "http://127.0.0.1:1/",
        "IDENTITY_KEY_FILE": str(identities / "billing.pem"),
        "IDENTITY_TRUST_FILE": str(identities / "trusted.json"),
        "LOG_LEVEL": "error",
    }
    command = [
        *(sys.executable, "-m", "shared.messaging.celery_command"),
        *("-A", "services.billing.worker:app", "worker", "--beat"),
        *("--schedule", str(bench.folder / "beat"), "--pool", "prefork"),
        *("--concurrency", str(processes), "--loglevel", "error"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    with (bench.folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield worker.pid
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


@asynccontextmanager
async def _bench_database(*, hasty: bool) -> AsyncIterator[_Bench]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running_postgres(folder, hasty=hasty) as server:
            server.create_database("companion_billing")
            url = service_database_url(server.url, "billing")
            upgrade("billing", url)
            async with open_database(url, connections=6, application="bench") as database:
                yield _Bench(server, database, folder)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(["", *(f"| {' | '.join(line)} |" for line in lines)])


PARTS: Mapping[str, Callable[[argparse.Namespace], Coroutine[Any, Any, str]]] = {
    "intake": intake,
    "linking": linking,
    "month": month,
}

if __name__ == "__main__":
    main()
