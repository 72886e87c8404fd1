"""What the model is fed with beside `bench.turn`: `python -m bench.capacity.measure`.

It runs the suite with a pool for each tier, has some thousand turns made (JSON, then streams), and
counts what they leave: connections, memory, commits, write-ahead log and bytes of each database.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from bench.load import Call, NextCall, Outcome, in_flight, json_call
from bench.people import Chatter, chatters
from bench.processes import Meter, family
from deploy.companion.settings import ROOT
from tests.support.suite import Suite, running_suite

USERS = 60
SERVICES = ("auth", "keyvault", "chat", "voice", "billing")
STREAM = "[[sim:chunks=50,delay_ms=10]] bench"
_COUNTED = (
    "select xact_commit, tup_inserted, tup_updated, tup_deleted, pg_database_size(datname)"
    " from pg_stat_database where datname = current_database()"
)
_UNLINKED = (
    "select (select count(*) from ledger_unlinked)"
    " + (select count(*) from ledger_unlinked_of_organisation)"
    " + (select count(*) from ledger_uncounted)"
)


@dataclass(frozen=True, slots=True)
class Left:
    """What turns have left in one database, or in all."""

    commits: float
    rows: float  # inserted, updated and deleted
    bytes: float

    def __sub__(self, before: Left) -> Left:
        return Left(
            self.commits - before.commits, self.rows - before.rows, self.bytes - before.bytes
        )


def main() -> None:
    """Run it and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity.measure", description=__doc__)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=300)
    arguments = parser.parse_args()
    environment = {
        "LOG_LEVEL": "info",
        "GATEWAY_SHIELD_REQUESTS_PER_SECOND": "100000",
        "COMPANION_PROCFILE": str(ROOT / "Procfile.pools"),
    }
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        with running_suite(Path(folder), **environment) as suite:
            asyncio.run(_measure(suite, arguments.turns, arguments.streams))


async def _measure(suite: Suite, turns: int, streams: int) -> None:
    people = await chatters(suite, "enterprise", USERS)
    await in_flight(_asking(people, "warm"), requests=USERS * 2, at_once=8)
    _settle(suite)
    for name, content, number, more in (
        ("json", "a question of a usual length about what is on this page", turns, {}),
        ("stream of 50 chunks", STREAM, streams, {"stream": True}),
    ):
        before, log = _left(suite), _log_position(suite)
        meter = Meter(_pids(suite))
        outcome = await in_flight(_asking(people, content, **more), requests=number, at_once=16)
        spent, connections = meter.spent(), _connections(suite)
        _settle(suite)
        print(_of_turns(name, outcome, spent))
        print(_of_databases(before, _left(suite), outcome.done))
        print(f"Write-ahead log: {(_log_position(suite) - log) / outcome.done:.0f} bytes a turn.")
        print(f"Connections while 16 were in flight: {connections}.")
    print(_of_memory(suite))
    print(_of_the_cache(suite))


def _asking(people: Sequence[Chatter], content: str, **more: object) -> NextCall:
    turn = itertools.cycle(people)

    def make() -> Call:
        person = next(turn)
        return json_call(person.url, {"content": content, **more}, person.token)

    return make


def _pids(suite: Suite) -> dict[str, int]:
    return {row.name: row.pid for row in suite.running.processes() if row.pid}


def _settle(suite: Suite) -> None:
    """Until the outbox of chat is empty, and the ledger is linked and on the disk."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        waiting = suite.rows("chat", "select count(*) from outbox")
        unlinked = suite.rows("billing", _UNLINKED)
        if waiting[0][0] == unlinked[0][0] == 0:
            break
        time.sleep(0.5)
    time.sleep(2)  # statistics of the databases are told with a delay


def _left(suite: Suite) -> Mapping[str, Left]:
    found = {}
    for service in SERVICES:
        [(commits, inserted, updated, deleted, size)] = suite.rows(service, _COUNTED)
        found[service] = Left(commits, inserted + updated + deleted, size)
    return found


def _log_position(suite: Suite) -> float:
    [(position,)] = suite.rows("chat", "select pg_current_wal_lsn() - '0/0'::pg_lsn")
    return float(position)


def _connections(suite: Suite) -> str:
    rows = suite.rows(
        "chat",
        "select datname || ' ' || application_name, count(*) from pg_stat_activity"
        " where backend_type = 'client backend' group by 1 order by 1",
    )
    return ", ".join(f"{name} {count}" for name, count in rows)


def _of_turns(name: str, outcome: Outcome, spent: Mapping[str, float]) -> str:
    each = ", ".join(
        f"{process} {seconds * 1000 / outcome.done:.2f}"
        for process, seconds in sorted(spent.items())
        if seconds * 1000 / outcome.done >= 0.01
    )
    return (
        f"\n{name}: {outcome.done} turns, {len(outcome.failures)} failed, {outcome.rate:.0f} a"
        f" second. CPU-ms a turn: {each}."
    )


def _of_databases(before: Mapping[str, Left], after: Mapping[str, Left], turns: int) -> str:
    lines = ["", "| database, a turn | commits | rows | bytes |", "|---|---|---|---|"]
    for service in SERVICES:
        left = after[service] - before[service]
        lines.append(
            f"| {service} | {left.commits / turns:.2f} | {left.rows / turns:.2f}"
            f" | {left.bytes / turns:.0f} |"
        )
    return "\n".join(lines)


def _of_memory(suite: Suite) -> str:
    sizes = {name: _proportional_mib(family(pid)) for name, pid in _pids(suite).items()}
    return "\nMiB (PSS, children too): " + ", ".join(f"{n} {s:.0f}" for n, s in sizes.items())


def _proportional_mib(pids: Sequence[int]) -> float:
    lines = [
        line
        for pid in pids
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if line.startswith("Pss:")
    ]
    return sum(int(line.split()[1]) for line in lines) / 1024


def _of_the_cache(suite: Suite) -> str:
    with redis.Redis.from_url(suite.installation.addresses().cache_url) as cache:
        told: Callable[[str], Mapping[str, int]] = cache.info
        return (
            f"\nValkey: {told('clients')['connected_clients']} connections,"
            f" {told('memory')['used_memory'] / 1024:.0f} KiB for {USERS} users who asked."
        )


if __name__ == "__main__":
    main()
