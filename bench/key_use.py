"""What the keyvault costs: authorising the use of a key, asked as the egress asks.

    python -m bench.key_use [--beside CHECKOUT]

A whole keyvault runs as a process of its own on a PostgreSQL that keeps what it commits; the
question goes to its internal port with two proofs, and each use leaves its line in the trail. With
`--beside`, another checkout's keyvault is measured in alternating rounds of the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from uuid import uuid4

import httpx
import psycopg2

from bench.load import Call, NextCall, Outcome, at_rate, in_flight
from bench.processes import OURS, Meter, service_process
from services.keyvault.domain.keyring import new_keyring_document
from shared.db.migrations import upgrade
from shared.identity import ServiceIdentity
from shared.ids import UserId
from shared.settings import service_database_url
from tests.support.engines import PostgresServer, ValkeyServer, running_postgres, running_valkey
from tests.support.keyvault import write_keyring
from tests.support.sessions import know_ended_sessions
from tests.support.tokens import TokenMint, identity_of, write_identities

_USERS = 200
_COUNTED_SECONDS = 1.2  # after that PostgreSQL's counters hold what its processes did


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    uses: int
    at_once: int
    rate: float


@dataclass(frozen=True, slots=True)
class _Round:
    """What came of one, and what it cost."""

    outcome: Outcome
    cpu_seconds: float
    database_seconds: float
    commits: int


@dataclass(frozen=True, slots=True)
class Keyvault:
    """A keyvault in a process of its own."""

    name: str
    pid: int
    public: str
    internal: str

    def uses(
        self, users: Sequence[tuple[UserId, str]], count: int, me: ServiceIdentity
    ) -> NextCall:
        """Questions whose grants are signed beforehand: that is chat's work, not the vault's."""
        turns = itertools.islice(itertools.cycle(users), count)
        ready = iter([self._question(user, token, me) for user, token in turns])
        return lambda: next(ready)

    def _question(self, user: UserId, token: str, me: ServiceIdentity) -> Call:
        grant = me.grant(user_id=user, provider="openai", request_id=str(uuid4()))
        headers = {
            "x-companion-grant": grant,
            "x-companion-user": token,
            # The egress hands these on as well.
            "x-request-id": str(uuid4()),
            "traceparent": f"00-{uuid4().hex}-{uuid4().hex[:16]}-01",
        }
        return Call(f"{self.internal}/internal/egress/openai/v1/chat/completions", b"", headers)


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.key_use", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--uses", type=int, default=2000, help="a round")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--rate", type=float, default=150, help="uses a second, steady")
    parser.add_argument("--beside", type=Path, help="another checkout to measure in the same run")
    arguments = parser.parse_args()
    plan = Plan(arguments.rounds, arguments.uses, arguments.at_once, arguments.rate)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with (
            running_postgres(Path(folder), hasty=False) as postgres,
            running_valkey(Path(folder)) as valkey,
        ):
            postgres.create_database("companion_keyvault")
            upgrade("keyvault", service_database_url(postgres.url, "keyvault"))
            print(asyncio.run(_authorising(Path(folder), postgres, valkey, plan, arguments.beside)))


async def _authorising(
    folder: Path, postgres: PostgresServer, valkey: ValkeyServer, plan: Plan, beside: Path | None
) -> str:
    write_identities(folder)
    write_keyring(folder / "keyring.json", new_keyring_document())
    await know_ended_sessions(valkey.url)
    mint, me = TokenMint(), identity_of(folder, "chat")
    async with mint.served() as jwks_url:
        environment = {
            **os.environ,
            "DATABASE_URL": postgres.url,
            "CACHE_URL": valkey.url,
            "BROKER_URL": valkey.url,
            "JWKS_URL": jwks_url,
            "IDENTITY_KEY_FILE": str(folder / "keyvault.pem"),
            "IDENTITY_TRUST_FILE": str(folder / "trusted.json"),
            "KEYVAULT_KEYRING_FILE": str(folder / "keyring.json"),
            "LOG_LEVEL": "info",  # its line is a part of what a use costs
            # More than a user is let do by default: the rounds are long.
            "KEYVAULT_USES_PER_USER_MINUTE": "2000",
            "KEYVAULT_USES_PER_SECOND": "0",
            "KEYVAULT_USERS_PER_WINDOW": "0",
        }
        # Both run all the time, on one database, and each rests while the other is asked: one after
        # the other would compare two moments of a busy machine.
        with _running("ours", OURS, environment) as ours, ExitStack() as others:
            keyvaults = [ours]
            if beside:
                keyvaults.append(others.enter_context(_running("beside", beside, environment)))
            users = await _users(ours, mint)
            return await _measured(keyvaults, users, me, plan, postgres)


async def _measured(
    keyvaults: Sequence[Keyvault],
    users: Sequence[tuple[UserId, str]],
    me: ServiceIdentity,
    plan: Plan,
    postgres: PostgresServer,
) -> str:
    saturated: dict[str, list[_Round]] = {k.name: [] for k in keyvaults}
    steady: dict[str, list[tuple[Outcome, float]]] = {k.name: [] for k in keyvaults}
    for keyvault in keyvaults:
        await in_flight(keyvault.uses(users, 500, me), requests=500, at_once=plan.at_once)
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds} ...", file=sys.stderr)
        for keyvault in keyvaults if number % 2 else keyvaults[::-1]:
            calls = keyvault.uses(users, plan.uses, me)
            meter, before = (
                Meter({"it": keyvault.pid, "db": postgres.child.pid}),
                _commits(postgres),
            )
            outcome = await in_flight(calls, requests=plan.uses, at_once=plan.at_once)
            spent = meter.spent()
            await asyncio.sleep(_COUNTED_SECONDS)
            commits = _commits(postgres) - before
            saturated[keyvault.name].append(_Round(outcome, spent["it"], spent["db"], commits))
            count = int(plan.rate * 4)
            calls = keyvault.uses(users, count, me)
            meter = Meter({"it": keyvault.pid})
            outcome = await at_rate(calls, requests=count, per_second=plan.rate)
            steady[keyvault.name].append((outcome, meter.spent()["it"]))
    titles = [f"authorise use, {plan.at_once} in flight", "per second", "p50 ms", "p95 ms"]
    titles += ["CPU-ms a use", "least", "PostgreSQL's CPU-ms", "commits a use"]
    titles += [f"p50 ms at {plan.rate:.0f}/s", "p95 ms", "CPU-ms", "failed"]
    return _table(titles, [_row(k.name, saturated[k.name], steady[k.name]) for k in keyvaults])


def _row(
    name: str, saturated: Sequence[_Round], steady: Sequence[tuple[Outcome, float]]
) -> list[str]:
    outcomes, calm = [run.outcome for run in saturated], [outcome for outcome, _ in steady]
    failed = sum(len(outcome.failures) for outcome in (*outcomes, *calm))
    cpu = [run.cpu_seconds * 1000 / run.outcome.done for run in saturated]
    return [
        name,
        f"{median(outcome.rate for outcome in outcomes):.0f}",
        f"{median(outcome.percentile_ms(50) for outcome in outcomes):.1f}",
        f"{median(outcome.percentile_ms(95) for outcome in outcomes):.1f}",
        f"{median(cpu):.3f}",
        f"{min(cpu):.3f}",
        f"{median(run.database_seconds * 1000 / run.outcome.done for run in saturated):.3f}",
        f"{median(run.commits / run.outcome.done for run in saturated):.2f}",
        f"{median(outcome.percentile_ms(50) for outcome in calm):.1f}",
        f"{median(outcome.percentile_ms(95) for outcome in calm):.1f}",
        f"{median(cpu * 1000 / outcome.done for outcome, cpu in steady):.3f}",
        str(failed),
    ]


def _commits(postgres: PostgresServer) -> int:
    """All that were made in the keyvault's database, by its watches too."""
    connection = psycopg2.connect(postgres.url_of("postgres"))
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "select xact_commit from pg_stat_database where datname = 'companion_keyvault'"
            )
            return int(cursor.fetchall()[0][0])
    finally:
        connection.close()


@contextmanager
def _running(name: str, where: Path, environment: Mapping[str, str]) -> Iterator[Keyvault]:
    """The keyvault of a checkout, from start to stop."""
    with service_process("keyvault", name, where, environment) as process:
        public, internal = (
            f"http://127.0.0.1:{port}" for port in (process.port, process.internal_port)
        )
        yield Keyvault(process.name, process.pid, public, internal)


async def _users(keyvault: Keyvault, mint: TokenMint) -> list[tuple[UserId, str]]:
    """People with a key of their own, and the token that says they are here."""
    people = [(UserId(uuid4()), "") for _ in range(_USERS)]
    people = [(user, mint.token(user)) for user, _ in people]
    async with httpx.AsyncClient(base_url=keyvault.public, trust_env=False) as client:
        for user, token in people:
            answer = await client.put(
                "/keys/openai",
                json={"api_key": f"sk-of-{user.hex}"},
                headers={"authorization": f"Bearer {token}"},
            )
            answer.raise_for_status()
    return people


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
